#!/usr/bin/env bash
# All GPU tests in one run, from binaries built elsewhere: gpu-tests.sh FOLDER, run in the repository's root.
# FOLDER holds qwen-gen, ops_tests and gpu_tests (scripts/gpu-binaries.sh puts them there).
set -uo pipefail
bin=$(cd "${1:?usage: gpu-tests.sh FOLDER}" && pwd)
failed=0
run() { echo "== $*"; "$@" || { failed=1; echo "== FAILED: $*"; }; }
nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader
run "$bin/ops_tests" --test-threads=1 -q ops:: weights::dummy
run "$bin/gpu_tests" --test-threads=1 --nocapture -q
if command -v compute-sanitizer >/dev/null; then
  out=$(mktemp -d)
  for tool in memcheck racecheck; do
    # cuDNN's and cuBLASLt's kernels synchronise through hardware barriers that racecheck does not know.
    run compute-sanitizer --tool "$tool" --error-exitcode 9 --print-limit 3 \
      --kernel-name-exclude kns=cudnn --kernel-name-exclude kns=nvjet \
      "$bin/qwen-gen" generate --model-path builtin:tiny --prompt "a red circle" --num-inference-steps 2 \
      --device cuda --output-path "$out" -q
  done
  rm -r "$out"
fi
exit $failed
