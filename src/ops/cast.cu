// Elements in another type, rounded once: out[i] = x[i].
#include "cuda/common.cuh"
#include <cuda_fp16.h>

__device__ __forceinline__ float value(float x) { return x; }
__device__ __forceinline__ float value(bf16 x) { return __bfloat162float(x); }
__device__ __forceinline__ float value(__half x) { return __half2float(x); }
__device__ __forceinline__ double value(double x) { return x; }
template <typename To> __device__ __forceinline__ To rounded(float x) { return from_float<To>(x); }
template <typename To> __device__ __forceinline__ To rounded(double x);
template <> __device__ __forceinline__ float rounded<float>(double x) { return __double2float_rn(x); }
template <> __device__ __forceinline__ bf16 rounded<bf16>(double x) { return __double2bfloat16(x); }

template <typename From, typename To, int VEC> __device__ void cast(const From *x, To *out, size_t n) {
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n / VEC; i += (size_t)gridDim.x * blockDim.x) {
        Pack<From, VEC> from = reinterpret_cast<const Pack<From, VEC> *>(x)[i];
        Pack<To, VEC> to;
#pragma unroll
        for (int j = 0; j < VEC; j++) to.elements[j] = rounded<To>(value(from.elements[j]));
        reinterpret_cast<Pack<To, VEC> *>(out)[i] = to;
    }
}

#define INSTANCE(NAME, FROM, TO, VEC) \
    extern "C" __global__ void cast_##NAME(const FROM *x, TO *out, size_t n) { cast<FROM, TO, VEC>(x, out, n); }

INSTANCE(bf16_f32, bf16, float, 1)
INSTANCE(f32_bf16, float, bf16, 1)
INSTANCE(f16_bf16, __half, bf16, 1)
INSTANCE(f16_f32, __half, float, 1)
INSTANCE(f64_bf16, double, bf16, 1)
INSTANCE(f64_f32, double, float, 1)
// `_vec`: 16 bytes a thread of the wider type; n is a multiple of that.
INSTANCE(bf16_f32_vec, bf16, float, 4)
INSTANCE(f32_bf16_vec, float, bf16, 4)
