#!/usr/bin/env bash
# Builds what gpu-tests.sh runs into FOLDER: gpu-binaries.sh FOLDER (with a CUDA toolkit in the environment).
set -euo pipefail
out=${1:?usage: gpu-binaries.sh FOLDER}
mkdir -p "$out"
build() {  # the executable that cargo reports for the given target
  cargo "$@" --release --locked --features cuda --message-format=json-render-diagnostics |
    python3 -c 'import json, sys
paths = [json.loads(line).get("executable") for line in sys.stdin]
print([path for path in paths if path][-1])'
}
install -s "$(build build --bin qwen-gen)" "$out/qwen-gen"
install -s "$(build test --no-run --lib)" "$out/ops_tests"
install -s "$(build test --no-run --test gpu)" "$out/gpu_tests"
