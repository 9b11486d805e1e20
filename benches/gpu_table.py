#!/usr/bin/env python3
"""The table of a gpu_compare.sh run: gpu_table.py OUT."""

import json
import statistics
import sys
from pathlib import Path

out = Path(sys.argv[1])
baseline = json.loads((out / "baseline.json").read_text())
print(f"{baseline['gpu']}, torch {baseline['torch']}, cuDNN {baseline['cudnn']}")
print("floor at 1024x1024 (products + attention), before and after:")
for key in ("floor_1024", "floor_1024_again"):
    floor = baseline[key]
    burst = floor["burst_products_ms"] + floor["burst_attention_ms"]
    print(f"  in bursts {burst:.1f} ms, sustained {floor['sustained_ms']:.1f} ms")


def steps_of(name):
    return [step["duration_ms"] for step in json.loads((out / f"{name}.json").read_text())["denoise_steps_ms"]]


print("size | step, median (min..max) ms | compiled diffusers, in a row ms | ratio | its burst ms | peak GiB | text ms | decode ms")
for name in ("1024x1024-before", "1024x1024", "1328x1328", "512x512", "1664x928"):
    dump = json.loads((out / f"{name}.json").read_text())
    steps, size = steps_of(name), name.removesuffix("-before")
    median, theirs = statistics.median(steps), baseline["step_ms"][size]
    stages = {stage["name"]: stage["duration_ms"] for stage in dump["steps"]}
    peak = dump["memory_checkpoints"]["runtime_peak"]["peak_allocated_mb"] / 1024
    print(
        f"{name} | {median:.1f} ({min(steps):.1f}..{max(steps):.1f}) | {theirs} | {median / theirs:.3f}"
        f" | {baseline['burst_step_ms'][size]} | {peak:.1f} | {stages['TextEncodingStage']:.1f} | {stages['DecodingStage']:.1f}"
    )
median = statistics.median(steps_of("1024x1024"))
floor = baseline["floor_1024_again"]["sustained_ms"]
print(f"step over sustained floor: {median / floor:.3f}; theirs: VAE {baseline['vae_decode_1024_ms']} ms, text {baseline['text_encode_51_tokens_ms']} ms")
