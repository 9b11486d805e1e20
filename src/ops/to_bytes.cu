// Pixels in [-1, 1] to bytes, rounded to nearest, ties to even; counts values that are not finite.
//
//   out = round(clamp(x / 2 + 1/2, 0, 1) * 255)
#include "cuda/common.cuh"

template <typename T> __device__ void to_bytes(const T *x, unsigned char *out, unsigned *not_finite, size_t n) {
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (size_t)gridDim.x * blockDim.x) {
        const float v = to_float(x[i]);
        if (!isfinite(v)) atomicAdd(not_finite, 1u);
        out[i] = (unsigned char)rintf(fminf(fmaxf(fmaf(v, 0.5f, 0.5f), 0.f), 1.f) * 255.f);
    }
}

extern "C" __global__ void to_bytes_bf16(const bf16 *x, unsigned char *out, unsigned *not_finite, size_t n) {
    to_bytes<bf16>(x, out, not_finite, n);
}
extern "C" __global__ void to_bytes_f32(const float *x, unsigned char *out, unsigned *not_finite, size_t n) {
    to_bytes<float>(x, out, not_finite, n);
}
