#!/usr/bin/env bash
# A CUDA 13.0 build toolchain from PyPI wheels, for a machine without one. Needs no GPU, driver or root.
#   scripts/cuda-toolchain.sh FOLDER      puts it in FOLDER (1.3 GB); run again: nothing to do
#   . FOLDER/env.sh && cargo build --release --features cuda
# The binary needs no CUDA library to start: it opens them when a GPU is asked for (cuda-lazy-libs.py).
set -euo pipefail
root=${1:?usage: cuda-toolchain.sh FOLDER}
mkdir -p "$root"; root=$(cd "$root" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
py=${PYTHON:-python3}

# --no-deps below: the list is complete. Most of it is libcublasLt, whose entry points are listed.
pkgs="nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88
nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85 nvidia-cuda-nvrtc==13.0.88
nvidia-cublas==13.1.0.3 nvidia-curand==10.4.0.35
nvidia-nvtx==13.0.85 nvidia-cuda-profiler-api==13.0.85"
stamp=$(echo $pkgs)
"$py" -m pip --version >/dev/null || { echo "pip is needed (apt install python3-pip)" >&2; exit 1; }

if [ "$(cat "$root/.stamp" 2>/dev/null)" != "$stamp" ]; then
  rm -rf "$root/site" "$root/cuda-lazy" "$root/.stamp"
  "$py" -m pip install -q --disable-pip-version-check --root-user-action=ignore --no-deps \
    --only-binary=:all: --target "$root/site" $pkgs
fi
cu=$root/site/nvidia/cu13
ln -sfn site/nvidia/cu13 "$root/cuda"
ln -sfn lib "$cu/lib64"   # cudaforge and cudarc look in lib64 and lib
[ -e "$root/cuda-lazy/lib/libnvrtc.a" ] || "$py" "$here/cuda-lazy-libs.py" "$root"

# That of the first GPU here, else Hopper's.
compute_cap=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -1 | tr -d .) || true
case $compute_cap in *[!0-9]*) compute_cap= ;; esac   # its errors are on stdout, too

cat > "$root/env.sh" <<E
export CUDA_HOME="$root/cuda-lazy" CUDA_PATH="$root/cuda-lazy" CUDA_ROOT="$root/cuda-lazy"
export NVCC="$root/cuda/bin/nvcc" PATH="$root/cuda/bin:\$PATH"
export CUDA_COMPUTE_CAP=\${CUDA_COMPUTE_CAP:-${compute_cap:-90}} CUDARC_CUDA_VERSION=13000
export CUDAFORGE_THREADS=\${CUDAFORGE_THREADS:-\$(nproc)}
E
echo "$stamp" > "$root/.stamp"
"$cu/bin/nvcc" --version | tail -2
