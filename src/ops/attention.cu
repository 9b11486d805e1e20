// softmax(scale * row) of f32 scores, written in T: the middle of attention without cuDNN.
//
// scores: [heads * queries, keys] f32; out: the same shape in T. Row r belongs to query
// `first + r % queries`; with `causal` it sees keys up to its own position. One block per row.
#include "cuda/common.cuh"

template <typename T>
__device__ void softmax(const float *scores, T *out, float scale, int keys, int queries, int first, bool causal) {
    const float *row = scores + (size_t)blockIdx.x * keys;
    T *to = out + (size_t)blockIdx.x * keys;
    const int seen = causal ? min(keys, first + (int)(blockIdx.x % queries) + 1) : keys;
    float top = -INFINITY;
    for (int i = threadIdx.x; i < seen; i += blockDim.x) top = fmaxf(top, row[i]);
    top = block_max(top);
    float total = 0.f;
    for (int i = threadIdx.x; i < seen; i += blockDim.x) total += expf((row[i] - top) * scale);
    const float inverse = 1.f / block_sum(total);
    for (int i = threadIdx.x; i < keys; i += blockDim.x)
        to[i] = from_float<T>(i < seen ? expf((row[i] - top) * scale) * inverse : 0.f);
}

extern "C" __global__ void softmax_bf16(const float *scores, bf16 *out, float scale, int keys, int queries, int first, int causal) {
    softmax<bf16>(scores, out, scale, keys, queries, first, causal);
}
extern "C" __global__ void softmax_f32(const float *scores, float *out, float scale, int keys, int queries, int first, int causal) {
    softmax<float>(scores, out, scale, keys, queries, first, causal);
}
