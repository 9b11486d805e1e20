// Rotary embedding of pairs (i, i + dh/2) of the first `heads` heads of each row; the rest is copied.
//
// qkv, out: [rows, width]; cos, sin: [rows, dh/2] f32. One block per row.
#include "cuda/common.cuh"

template <typename T>
__device__ void rope_half(const T *qkv, T *out, const float *cos, const float *sin, int heads, int dh, int width) {
    const T *from = qkv + (size_t)blockIdx.x * width;
    T *to = out + (size_t)blockIdx.x * width;
    const int half = dh / 2;
    for (int at = threadIdx.x; at < heads * half; at += blockDim.x) {
        const int i = at % half, low = at / half * dh + i;
        const float c = cos[(size_t)blockIdx.x * half + i], s = sin[(size_t)blockIdx.x * half + i];
        const float a = to_float(from[low]), b = to_float(from[low + half]);
        to[low] = from_float<T>(a * c - b * s);
        to[low + half] = from_float<T>(b * c + a * s);
    }
    for (int at = heads * dh + threadIdx.x; at < width; at += blockDim.x) to[at] = from[at];
}

extern "C" __global__ void rope_half_bf16(const bf16 *qkv, bf16 *out, const float *cos, const float *sin, int heads, int dh,
                                          int width) {
    rope_half<bf16>(qkv, out, cos, sin, heads, dh, width);
}
extern "C" __global__ void rope_half_f32(const float *qkv, float *out, const float *cos, const float *sin, int heads, int dh,
                                         int width) {
    rope_half<float>(qkv, out, cos, sin, heads, dh, width);
}
