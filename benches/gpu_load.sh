#!/usr/bin/env bash
# How fast a full-size checkpoint reaches the GPU, against Python's libraries in the same run, page cache warm:
# gpu_load.sh QWEN_GEN CHECKPOINT OUT (CHECKPOINT is made if it is not there; 58 GB, best on memory-backed storage).
set -euo pipefail
usage="usage: gpu_load.sh QWEN_GEN CHECKPOINT OUT"
qwen_gen=${1:?$usage} model=${2:?$usage} out=${3:?$usage}
mkdir -p "$out"
[ -d "$model" ] || python3 benches/full_size_checkpoint.py "$model"

ours() {  # name
  "$qwen_gen" generate --model-path "$model" --device cuda --prompt "A Logo With Bold Large Text: SGL Diffusion" \
    --width 1024 --height 1024 --num-inference-steps 2 --no-save-output -q --perf-dump-path "$out/$1.json"
  python3 - "$out/$1.json" <<'PYTHON'
import json, sys
dump = json.load(open(sys.argv[1]))
load = dump["load"]
size, ms = (sum(part[key] for part in load.values()) for key in ("bytes", "duration_ms"))
parts = ", ".join(f"{name} {part['bytes'] / 1e9:.1f} GB {part['duration_ms']:.0f} ms" for name, part in load.items())
cold = dump["cold_start_ms"]
print(f"qwen-gen: {size / 1e9:.1f} GB in {ms / 1e3:.2f} s, {size / 1e6 / ms:.1f} GB/s ({parts}); "
      f"process start to first stage {cold:.0f} ms, {size / 1e6 / cold:.1f} GB/s")
PYTHON
}
for i in 1 2 3; do ours "load-$i"; done
python3 benches/load_baseline.py "$model"
for i in 4 5 6; do ours "load-$i"; done
