// The VAE's norm over the channels of each pixel, with or without SiLU after it.
//
//   out = x / max(|x|, 1e-12) * sqrt(c) * gamma          then y * sigmoid(y) with `silu`
//
// x, out: [pixels, c]; gamma: [c]. A warp per pixel; pixels of a block are neighbours, so that its
// reads are one run of memory.
#include "cuda/common.cuh"

template <typename T, int VEC>
__device__ void rms_norm_silu(const T *x, const T *gamma, T *out, int pixels, int c, int silu) {
    const int pixel = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (pixel >= pixels) return;
    const int lane = threadIdx.x % 32;
    const T *from = x + (size_t)pixel * c;
    T *to = out + (size_t)pixel * c;
    float squares = 0.f;
    for (int at = lane * VEC; at < c; at += 32 * VEC) {
        float v[VEC];
        load<T, VEC>(v, from + at);
#pragma unroll
        for (int j = 0; j < VEC; j++) squares += v[j] * v[j];
    }
    const float factor = sqrtf((float)c) / fmaxf(sqrtf(warp_sum(squares)), 1e-12f);
    for (int at = lane * VEC; at < c; at += 32 * VEC) {
        float v[VEC], w[VEC];
        load<T, VEC>(v, from + at);
        load<T, VEC>(w, gamma + at);
#pragma unroll
        for (int j = 0; j < VEC; j++) {
            v[j] *= factor * w[j];
            if (silu) v[j] /= 1.f + __expf(-v[j]);
        }
        store<T, VEC>(to + at, v);
    }
}

#define INSTANCE(NAME, T, VEC)                                                                                              \
    extern "C" __global__ void rms_norm_silu_##NAME(const T *x, const T *gamma, T *out, int pixels, int c, int silu) {      \
        rms_norm_silu<T, VEC>(x, gamma, out, pixels, c, silu);                                                              \
    }

// `_vec`: c a multiple of 4, and x, gamma and out aligned to four elements.
INSTANCE(bf16_vec, bf16, 4)
INSTANCE(f32_vec, float, 4)
INSTANCE(bf16, bf16, 1)
INSTANCE(f32, float, 1)
