#!/usr/bin/env python3
"""Times qwen-gen against diffusers on the CPU: one picture of the built-in model, process by process.

    cargo build --release --locked
    python3 -m venv venv && venv/bin/pip install -r benches/requirements.txt
    venv/bin/python benches/cpu_compare.py

Both draw the same picture: 256x256, 50 steps, guidance 4, seed 0 of the CPU generator, float32. The
runs alternate, after one uncounted run of each, so that both see the same machine; the medians and
ranges come out as a Markdown table. Before each pair it waits until the machine is idle.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROMPT = "A Logo With Bold Large Text: SGL Diffusion"
HELP_RUNS = 50
IDLE_SHARE = 0.95


def run(command):
    """Runs to the end; wall time in seconds, peak resident memory in MB, standard output."""
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - start
    if process.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {process.returncode}")
    return wall, usage.ru_maxrss * 1024 / 1e6, output


def run_qwen_gen(binary, folder):
    command = [binary, "generate", "--model-path", "builtin:tiny", "--device", "cpu", "--prompt", PROMPT]
    command += ["--seed", "0", "--generator-device", "cpu", "--json", "--output-file-path", f"{folder}/ours.png"]
    wall, peak, output = run(command)
    output = json.loads(output)["outputs"][0]
    stages = {stage["name"]: stage["duration_ms"] / 1e3 for stage in output["stages"]}
    text, decode = stages["TextEncodingStage"], stages["DecodingStage"]
    denoise = output["total_duration_ms"] / 1e3 - text - decode
    return {"whole process, s": wall, "denoise, s": denoise, "decode, s": decode, "peak memory, MB": peak}


def run_diffusers(python, folder):
    script, model = ROOT / "benches/diffusers_baseline.py", ROOT / "assets/builtin-model"
    command = [python, script, "--model", model, "--prompt", PROMPT, "--output", f"{folder}/theirs.png"]
    wall, peak, output = run(command)
    report = json.loads(output)
    return {
        "whole process, s": wall,
        "of it imports, s": report["import_s"],
        "denoise, s": report["denoise_s"],
        "decode, s": report["decode_s"],
        "peak memory, MB": peak,
    }


def wait_until_idle():
    def ticks():
        # proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal
        fields = [int(x) for x in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return fields[3] + fields[4], sum(fields)

    while True:
        idle, total = ticks()
        time.sleep(2)
        idle_after, total_after = ticks()
        if idle_after - idle > IDLE_SHARE * (total_after - total):
            return


def show(values):
    if not values:
        return "-"
    digits = 0 if max(values) >= 50 else 3 if max(values) < 1 else 2
    median, low, high = statistics.median(values), min(values), max(values)
    return f"{median:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--qwen-gen", default=ROOT / "target/release/qwen-gen", help="the release binary")
    parser.add_argument("--python", default=sys.executable, help="a Python with benches/requirements.txt")
    parser.add_argument("--runs", type=int, default=7)
    args = parser.parse_args()

    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        for i in range(args.runs + 1):
            wait_until_idle()
            pair = run_qwen_gen(args.qwen_gen, folder), run_diffusers(args.python, folder)
            if i > 0:
                ours.append(pair[0])
                theirs.append(pair[1])
    helps = [run([args.qwen_gen, "--help"])[0] * 1e3 for _ in range(HELP_RUNS)]

    print("| median (range) | qwen-gen | diffusers | ratio |\n|---|---|---|---|")
    for row in theirs[0]:
        columns = [[r[row] for r in runs if row in r] for runs in (ours, theirs)]
        ratio = "-"
        if all(columns):
            ratio = f"{statistics.median(columns[1]) / statistics.median(columns[0]):.1f}"
        print(f"| {row} | {show(columns[0])} | {show(columns[1])} | {ratio} |")
    print(f"\n`qwen-gen --help`: {show(helps)} ms, {HELP_RUNS} runs")


if __name__ == "__main__":
    main()
