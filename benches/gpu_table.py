#!/usr/bin/env python3
"""The table of a gpu_compare.sh run: gpu_table.py OUT."""

import json
import statistics
import sys
from pathlib import Path

out = Path(sys.argv[1])
baseline = json.loads((out / "baseline.json").read_text())
print(f"{baseline['gpu']}, torch {baseline['torch']}, cuDNN {baseline['cudnn']}")
floors = [sum(baseline[key].values()) for key in ("floor_1024", "floor_1024_again")]
print(f"floor at 1024x1024 (products + attention): {floors[0]:.1f} ms before, {floors[1]:.1f} ms after")
print("size | step, median (min..max) ms | compiled diffusers ms | ratio | peak GB | text ms | decode ms")
for name in ("1024x1024-before", "1024x1024", "1328x1328", "512x512", "1664x928"):
    dump = json.loads((out / f"{name}.json").read_text())
    steps = [step["duration_ms"] for step in dump["denoise_steps_ms"]]
    median, theirs = statistics.median(steps), baseline["step_ms"][name.removesuffix("-before")]
    stages = {stage["name"]: stage["duration_ms"] for stage in dump["steps"]}
    peak = dump["memory_checkpoints"]["runtime_peak"]["peak_allocated_mb"] / 1024
    print(
        f"{name} | {median:.1f} ({min(steps):.1f}..{max(steps):.1f}) | {theirs} | {median / theirs:.3f} | {peak:.1f}"
        f" | {stages['TextEncodingStage']:.1f} | {stages['DecodingStage']:.1f}"
    )
median = statistics.median(
    step["duration_ms"] for step in json.loads((out / "1024x1024.json").read_text())["denoise_steps_ms"]
)
print(f"step over floor: {median / floors[1]:.3f}; theirs: VAE {baseline['vae_decode_1024_ms']} ms, text {baseline['text_encode_51_tokens_ms']} ms")
