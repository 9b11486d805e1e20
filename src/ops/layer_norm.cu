// Adaptive LayerNorm, and the gated residual before it, each row read once and written once.
//
//   x' = x + gate * y                          (gated_residual_layer_norm)
//   n  = (x' - mean) / sqrt(var + eps) * (1 + scale) + shift
//
// x, y, x', n: [rows, d] row-major; gate, shift, scale: [d]. One block per row; a thread keeps its
// elements in registers between the three passes, so d is at most 1024 threads * ITEMS * VEC.
#include "cuda/common.cuh"

constexpr float EPS = 1e-6f;

template <typename T, int VEC, int ITEMS, bool RESIDUAL>
__device__ void layer_norm(const T *x, const T *y, const T *gate, const T *shift, const T *scale, T *sum, T *out, int d) {
    const size_t row = (size_t)blockIdx.x * d;
    float v[ITEMS][VEC];
    float total = 0.f;
#pragma unroll
    for (int i = 0; i < ITEMS; i++) {
        const int at = (i * blockDim.x + threadIdx.x) * VEC;
        if (at >= d) continue;
        load<T, VEC>(v[i], x + row + at);
        if constexpr (RESIDUAL) {
            float update[VEC], weight[VEC];
            load<T, VEC>(update, y + row + at);
            load<T, VEC>(weight, gate + at);
#pragma unroll
            for (int j = 0; j < VEC; j++) v[i][j] += weight[j] * update[j];
            store<T, VEC>(sum + row + at, v[i]);
        }
#pragma unroll
        for (int j = 0; j < VEC; j++) total += v[i][j];
    }
    const float mean = block_sum(total) / d;
    float squares = 0.f;
#pragma unroll
    for (int i = 0; i < ITEMS; i++) {
        if ((i * blockDim.x + threadIdx.x) * VEC >= d) continue;
#pragma unroll
        for (int j = 0; j < VEC; j++) squares += (v[i][j] - mean) * (v[i][j] - mean);
    }
    const float inverse = rsqrtf(block_sum(squares) / d + EPS);
#pragma unroll
    for (int i = 0; i < ITEMS; i++) {
        const int at = (i * blockDim.x + threadIdx.x) * VEC;
        if (at >= d) continue;
        float a[VEC], b[VEC];
        load<T, VEC>(a, scale + at);
        load<T, VEC>(b, shift + at);
#pragma unroll
        for (int j = 0; j < VEC; j++) v[i][j] = (v[i][j] - mean) * inverse * (1.f + a[j]) + b[j];
        store<T, VEC>(out + row + at, v[i]);
    }
}

// Without a residual y, gate and sum are null.
#define INSTANCE(KERNEL, NAME, T, VEC, ITEMS, RESIDUAL)                                                            \
    extern "C" __global__ void KERNEL##_##NAME(const T *x, const T *y, const T *gate, const T *shift, const T *scale, \
                                               T *sum, T *out, int d) {                                             \
        layer_norm<T, VEC, ITEMS, RESIDUAL>(x, y, gate, shift, scale, sum, out, d);                                 \
    }
#define INSTANCES(NAME, T, VEC, ITEMS)                                  \
    INSTANCE(adaptive_layer_norm, NAME, T, VEC, ITEMS, false)           \
    INSTANCE(gated_residual_layer_norm, NAME, T, VEC, ITEMS, true)

// `_vec`: 16 bytes a thread, d at most 1024 * 16 / sizeof(T). The others take any d up to 16384.
INSTANCES(bf16_vec, bf16, 8, 1)
INSTANCES(f32_vec, float, 4, 1)
INSTANCES(bf16, bf16, 1, 16)
INSTANCES(f32, float, 1, 16)
