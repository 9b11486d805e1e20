// Element by element, in f32, rounded once.
//
//   add:        out = x + y
//   silu:       out = x * sigmoid(x)
//   silu_gate:  out[r, i] = silu(gate_up[r, i]) * gate_up[r, d + i];   gate_up: [rows, 2 d]
//
// A thread moves VEC elements; n counts the results'.
#include "cuda/common.cuh"

__device__ __forceinline__ float silu_of(float x) { return x / (1.f + expf(-x)); }

template <typename T, int VEC> __device__ void add(const T *x, const T *y, T *out, size_t n) {
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n / VEC; i += (size_t)gridDim.x * blockDim.x) {
        float a[VEC], b[VEC];
        load<T, VEC>(a, x + i * VEC);
        load<T, VEC>(b, y + i * VEC);
#pragma unroll
        for (int j = 0; j < VEC; j++) a[j] += b[j];
        store<T, VEC>(out + i * VEC, a);
    }
}

template <typename T, int VEC> __device__ void silu(const T *x, T *out, size_t n) {
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n / VEC; i += (size_t)gridDim.x * blockDim.x) {
        float a[VEC];
        load<T, VEC>(a, x + i * VEC);
#pragma unroll
        for (int j = 0; j < VEC; j++) a[j] = silu_of(a[j]);
        store<T, VEC>(out + i * VEC, a);
    }
}

template <typename T, int VEC> __device__ void silu_gate(const T *gate_up, T *out, size_t n, int d) {
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n / VEC; i += (size_t)gridDim.x * blockDim.x) {
        const T *gate = gate_up + i * VEC / d * 2 * d + i * VEC % d;
        float a[VEC], b[VEC];
        load<T, VEC>(a, gate);
        load<T, VEC>(b, gate + d);
#pragma unroll
        for (int j = 0; j < VEC; j++) a[j] = silu_of(a[j]) * b[j];
        store<T, VEC>(out + i * VEC, a);
    }
}

#define INSTANCES(NAME, T, VEC)                                                                         \
    extern "C" __global__ void add_##NAME(const T *x, const T *y, T *out, size_t n) {                   \
        add<T, VEC>(x, y, out, n);                                                                      \
    }                                                                                                   \
    extern "C" __global__ void silu_##NAME(const T *x, T *out, size_t n) { silu<T, VEC>(x, out, n); }   \
    extern "C" __global__ void silu_gate_##NAME(const T *gate_up, T *out, size_t n, int d) {            \
        silu_gate<T, VEC>(gate_up, out, n, d);                                                          \
    }

// `_vec`: 16 bytes a thread; n, and d where there is one, are multiples of that.
INSTANCES(bf16_vec, bf16, 8)
INSTANCES(f32_vec, float, 4)
INSTANCES(bf16, bf16, 1)
INSTANCES(f32, float, 1)
