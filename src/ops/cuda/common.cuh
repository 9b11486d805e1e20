// What the kernels share: 16-byte vectors of bf16 or f32 read and written as f32, and block sums.
#pragma once
#include <cuda_bf16.h>
#include <stdint.h>

using bf16 = __nv_bfloat16;

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(bf16 x) { return __bfloat162float(x); }
template <typename T> __device__ __forceinline__ T from_float(float x);
template <> __device__ __forceinline__ float from_float<float>(float x) { return x; }
template <> __device__ __forceinline__ bf16 from_float<bf16>(float x) { return __float2bfloat16_rn(x); }

// N consecutive elements, loaded and stored at once; N * sizeof(T) is at most 16.
template <typename T, int N> struct alignas(N * sizeof(T)) Pack {
    T elements[N];
};

template <typename T, int N> __device__ __forceinline__ void load(float (&out)[N], const T *from) {
    Pack<T, N> pack = *reinterpret_cast<const Pack<T, N> *>(from);
#pragma unroll
    for (int i = 0; i < N; i++) out[i] = to_float(pack.elements[i]);
}

template <typename T, int N> __device__ __forceinline__ void store(T *to, const float (&in)[N]) {
    Pack<T, N> pack;
#pragma unroll
    for (int i = 0; i < N; i++) pack.elements[i] = from_float<T>(in[i]);
    *reinterpret_cast<Pack<T, N> *>(to) = pack;
}

__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) x += __shfl_xor_sync(0xffffffff, x, offset);
    return x;
}

// Sum over the block, the same in every thread. Blocks are whole warps.
__device__ __forceinline__ float block_sum(float x) {
    __shared__ float partial[32];
    x = warp_sum(x);
    __syncthreads();  // the last call's readers are done
    if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = x;
    __syncthreads();
    float y = threadIdx.x % 32 < blockDim.x / 32 ? partial[threadIdx.x % 32] : 0.f;
    return warp_sum(y);
}

__device__ __forceinline__ float block_max(float x) {
    __shared__ float partial[32];
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffff, x, offset));
    __syncthreads();
    if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = x;
    __syncthreads();
    float y = threadIdx.x % 32 < blockDim.x / 32 ? partial[threadIdx.x % 32] : -INFINITY;
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) y = fmaxf(y, __shfl_xor_sync(0xffffffff, y, offset));
    return y;
}
