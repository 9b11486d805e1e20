// Uniform values in place, of SplitMix64, element i from state i, as on the CPU.
//
//   out[i] = mean + width * (u - 0.5)
#include "cuda/common.cuh"

template <typename T> __device__ void uniform(T *out, unsigned long long seed, float mean, float width, size_t n) {
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (size_t)gridDim.x * blockDim.x) {
        unsigned long long z = seed + (i + 1) * 0x9e3779b97f4a7c15ull;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
        const float unit = (float)((z ^ (z >> 31)) >> 40) / 16777216.f;
        out[i] = from_float<T>(__fadd_rn(mean, __fmul_rn(width, unit - 0.5f)));
    }
}

extern "C" __global__ void uniform_bf16(bf16 *out, unsigned long long seed, float mean, float width, size_t n) {
    uniform<bf16>(out, seed, mean, width, n);
}
extern "C" __global__ void uniform_f32(float *out, unsigned long long seed, float mean, float width, size_t n) {
    uniform<float>(out, seed, mean, width, n);
}
