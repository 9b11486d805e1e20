#!/usr/bin/env bash
# All GPU tests in one run, from binaries built elsewhere: gpu-tests.sh FOLDER, run in the repository's root.
# FOLDER holds qwen-gen, ops_tests and gpu_tests (scripts/gpu-binaries.sh puts them there).
set -uo pipefail
bin=$(cd "${1:?usage: gpu-tests.sh FOLDER}" && pwd)
failed=0
run() { echo "== $*"; "$@" || { failed=1; echo "== FAILED: $*"; }; }
# Without a GPU the tests pass by testing nothing.
nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader || exit 1
"$bin/qwen-gen" generate --model-path builtin:tiny --prompt "" --num-inference-steps 1 --no-save-output -q --device cuda || exit 1
run "$bin/ops_tests" --test-threads=1 -q ops:: profiler::gpu
run "$bin/gpu_tests" --test-threads=1 --nocapture -q
traces=$(mktemp -d)
trace() {  # NAME STEPS [FLAG...]: of all stages; every category must be there
  local name=$1 steps=$2
  SGLANG_DIFFUSION_TORCH_PROFILER_DIR=$traces "$bin/qwen-gen" generate --model-path builtin:tiny --prompt "a red circle" \
    --num-inference-steps "$steps" --no-save-output --device cuda --profile --profile-all-stages --request-id "$name" -q "${@:3}" &&
    python3 tests/validate_trace.py --check-name --expect-steps "$steps" --expect-stages t2i \
      --require-cats cpu_op,user_annotation,kernel,gpu_memcpy,gpu_memset,cuda_runtime,cuda_driver,gpu_user_annotation "$traces/$name"-*
}
operators() { "$bin/qwen-gen" trace "$traces/$1"-* --top 0 | grep -E "^$2 +$3 "; }  # NAME OPERATOR COUNT
run trace few 4
run trace replayed 40
run operators replayed qwen::replay 39  # all steps but the first
run operators replayed qwen::joint_qkv 240  # six blocks a step
run trace one-by-one 40 --enable-layerwise-nvtx-marker
run operators one-by-one qwen::joint_qkv 240
rm -r "$traces"
if command -v compute-sanitizer >/dev/null; then
  out=$(mktemp -d)
  sanitize() {
    compute-sanitizer --tool "$1" --print-limit 1000 "$bin/qwen-gen" generate --model-path builtin:tiny \
      --prompt "a red circle" --num-inference-steps "$2" --device cuda --output-path "$out" -q
  }
  memcheck() { sanitize memcheck 40 | tee "$out/memcheck" | tail -2; grep -q 'ERROR SUMMARY: 0 errors' "$out/memcheck"; }
  # cuDNN's own kernels synchronise through hardware barriers that racecheck does not know.
  racecheck() {
    sanitize racecheck 2 > "$out/racecheck"; tail -1 "$out/racecheck"
    grep -q 'RACECHECK SUMMARY' "$out/racecheck" && ! grep 'Race reported' "$out/racecheck" | grep -v cudnn_generated
  }
  run memcheck
  run racecheck
  rm -r "$out"
fi
exit $failed
