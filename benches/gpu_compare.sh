#!/usr/bin/env bash
# qwen-gen against compiled diffusers on one GPU, in one run: gpu_compare.sh QWEN_GEN OUT (run in the repository's root).
# The full-size model with random weights; ours first and last, because clocks drift.
set -euo pipefail
qwen_gen=${1:?usage: gpu_compare.sh QWEN_GEN OUT} out=${2:?usage: gpu_compare.sh QWEN_GEN OUT}
mkdir -p "$out"
model=$(mktemp -d)
trap 'rm -rf "$model"' EXIT
cp -r benches/full-size/. "$model"; cp -r tests/fixtures/tokenizer/qwen "$model/tokenizer"

ours() {  # name width height steps
  "$qwen_gen" generate --model-path "$model" --load-format dummy --device cuda --prompt "A Logo With Bold Large Text: SGL Diffusion" \
    --width "$2" --height "$3" --num-inference-steps "$4" --warmup-mode request --no-save-output -q --perf-dump-path "$out/$1.json"
}
ours 1024x1024-before 1024 1024 50
python3 benches/gpu_baseline.py "$out/baseline.json" >/dev/null
ours 1024x1024 1024 1024 50
ours 1328x1328 1328 1328 20
ours 512x512 512 512 20
ours 1664x928 1664 928 20
python3 benches/gpu_table.py "$out"
