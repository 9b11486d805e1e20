// RMS norm of each row, after the sum with an update where there is one.
//
//   x' = x + y
//   out = x' / sqrt(mean(x'^2) + eps) * weight
//
// x, y, x', out: [rows, d] row-major; weight: [d]. One block per row. Without an update y and sum are null.
#include "cuda/common.cuh"

template <typename T, int VEC>
__device__ void rms_norm(const T *x, const T *y, const T *weight, T *sum, T *out, int d, float eps) {
    const size_t row = (size_t)blockIdx.x * d;
    float squares = 0.f;
    for (int at = threadIdx.x * VEC; at < d; at += blockDim.x * VEC) {
        float v[VEC];
        load<T, VEC>(v, x + row + at);
        if (y) {
            float update[VEC];
            load<T, VEC>(update, y + row + at);
#pragma unroll
            for (int j = 0; j < VEC; j++) v[j] = to_float(from_float<T>(v[j] + update[j]));
            store<T, VEC>(sum + row + at, v);
        }
#pragma unroll
        for (int j = 0; j < VEC; j++) squares += v[j] * v[j];
    }
    const float inverse = rsqrtf(block_sum(squares) / d + eps);
    const T *from = y ? sum : x;  // each thread reads what it wrote
    for (int at = threadIdx.x * VEC; at < d; at += blockDim.x * VEC) {
        float v[VEC], w[VEC];
        load<T, VEC>(v, from + row + at);
        load<T, VEC>(w, weight + at);
#pragma unroll
        for (int j = 0; j < VEC; j++) v[j] *= inverse * w[j];
        store<T, VEC>(out + row + at, v);
    }
}

#define INSTANCE(NAME, T, VEC)                                                                                       \
    extern "C" __global__ void rms_norm_##NAME(const T *x, const T *y, const T *weight, T *sum, T *out, int d, float eps) { \
        rms_norm<T, VEC>(x, y, weight, sum, out, d, eps);                                                            \
    }

// `_vec`: 16 bytes a thread.
INSTANCE(bf16_vec, bf16, 8)
INSTANCE(f32_vec, float, 4)
INSTANCE(bf16, bf16, 1)
INSTANCE(f32, float, 1)
