#!/usr/bin/env python3
"""Draws one image with diffusers' QwenImagePipeline on the CPU in float32, and times it.

This is the plain Python way of doing what this project does, kept as a baseline:

    pip install -r requirements.txt
    python diffusers_baseline.py --model path/to/checkpoint --output image.png

The only line on stdout is a JSON object; warnings and the progress bar go to stderr.

    import_s       importing torch, diffusers and, through it, transformers
    load_s         from_pretrained: reading the checkpoint and building the modules
    text_encode_s  encode_prompt, for the prompt and for the negative prompt
    decode_s       the VAE's decode
    denoise_s      the rest of the pipeline call, nearly all of it the denoising loop
    total_s        from the start of the process, interpreter included, to the saved image;
                   the interpreter's shutdown comes on top
    peak_rss_mb    largest resident set of the process, in 10^6 bytes

Linux only: the start of the process and the peak memory are read from /proc.
"""

import argparse
import functools
import json
import os
import platform
import time
from collections import defaultdict
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

NEGATIVE_PROMPT = " "
TRUE_CFG_SCALE = 4.0
REPORTED_PACKAGES = ("torch", "diffusers", "transformers", "tokenizers", "safetensors", "numpy")


class Stopwatch:
    """Adds up the wall time of named sections."""

    def __init__(self):
        self.seconds = defaultdict(float)

    @contextmanager
    def section(self, name):
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - start

    def wrap(self, name, function):
        """Returns `function`, every call of which counts towards `name`."""

        @functools.wraps(function)
        def timed(*args, **kwargs):
            with self.section(name):
                return function(*args, **kwargs)

        return timed


def process_age_s():
    """Seconds since the kernel started this process, to a clock tick (10 ms)."""
    # Field 22 of proc_pid_stat(5), counted after the command name, which may hold spaces.
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    started_s = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started_s


def peak_rss_bytes():
    # Not getrusage's ru_maxrss: that survives exec, so a large parent would count.
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no VmHWM")


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", type=Path, required=True, help="checkpoint folder in diffusers' layout")
    parser.add_argument("--output", type=Path, required=True, help="image file to write")
    parser.add_argument("--prompt", default="A Logo With Bold Large Text: SGL Diffusion")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--height", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main():
    args = parse_args()
    stopwatch = Stopwatch()

    with stopwatch.section("import"):
        import torch
        from diffusers import QwenImagePipeline

    with stopwatch.section("load"):
        pipe = QwenImagePipeline.from_pretrained(args.model, torch_dtype=torch.float32)

    pipe.encode_prompt = stopwatch.wrap("text_encode", pipe.encode_prompt)
    pipe.vae.decode = stopwatch.wrap("decode", pipe.vae.decode)
    with stopwatch.section("pipeline"):
        image = pipe(
            prompt=args.prompt,
            negative_prompt=NEGATIVE_PROMPT,
            true_cfg_scale=TRUE_CFG_SCALE,
            width=args.width,
            height=args.height,
            num_inference_steps=args.steps,
            generator=torch.Generator("cpu").manual_seed(args.seed),
        ).images[0]
    image.save(args.output)
    total_s = process_age_s()

    seconds = stopwatch.seconds
    report = {
        "import_s": round(seconds["import"], 3),
        "load_s": round(seconds["load"], 3),
        "text_encode_s": round(seconds["text_encode"], 3),
        "denoise_s": round(seconds["pipeline"] - seconds["text_encode"] - seconds["decode"], 3),
        "decode_s": round(seconds["decode"], 3),
        "total_s": round(total_s, 2),
        "peak_rss_mb": round(peak_rss_bytes() / 1e6, 1),
        "torch_threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in REPORTED_PACKAGES},
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
