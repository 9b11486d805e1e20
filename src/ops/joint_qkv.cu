// Per-head RMS norm and interleaved rotary embedding of q and k, in the joint sequence.
//
// joint: [rows, 3d], the image rows' q, k, v already in place (products write there), rotated in
// place. txt: [n_txt, 3d], the text rows' q, k, v, copied to their joint rows on the way. Text rows lie
// before `img_begin` and from `img_end` on. cos, sin: [rows, dh/2] f32 in joint order.
// A warp per head: grid (rows), a warp of the block takes heads warp, warp + warps, ...
#include "cuda/common.cuh"

constexpr float EPS = 1e-6f;

template <typename T, int VEC>
__device__ void qk_norm_rope(T *joint, const T *txt, const T *norm_q, const T *norm_k, const T *norm_added_q,
                             const T *norm_added_k, const float *cos, const float *sin, int heads, int dh, int img_begin,
                             int img_end) {
    const int row = blockIdx.x;
    const int d = heads * dh;
    const bool is_img = row >= img_begin && row < img_end;
    T *out = joint + (size_t)row * 3 * d;
    const int txt_row = row < img_begin ? row : row - (img_end - img_begin);
    const T *in = is_img ? out : txt + (size_t)txt_row * 3 * d;
    const float *row_cos = cos + (size_t)row * (dh / 2), *row_sin = sin + (size_t)row * (dh / 2);
    const int lane = threadIdx.x % 32;

    for (int head = threadIdx.x / 32; head < 2 * heads; head += blockDim.x / 32) {
        const T *weight = head < heads ? (is_img ? norm_q : norm_added_q) : (is_img ? norm_k : norm_added_k);
        const T *from = in + (size_t)head * dh;
        float squares = 0.f;
        for (int at = lane * VEC; at < dh; at += 32 * VEC) {
            float v[VEC];
            load<T, VEC>(v, from + at);
#pragma unroll
            for (int j = 0; j < VEC; j++) squares += v[j] * v[j];
        }
        const float inverse = rsqrtf(warp_sum(squares) / dh + EPS);
        for (int at = lane * VEC; at < dh; at += 32 * VEC) {
            float v[VEC], w[VEC];
            load<T, VEC>(v, from + at);
            load<T, VEC>(w, weight + at);
#pragma unroll
            for (int j = 0; j < VEC; j += 2) {
                const float re = v[j] * inverse * w[j], im = v[j + 1] * inverse * w[j + 1];
                const float c = row_cos[(at + j) / 2], s = row_sin[(at + j) / 2];
                v[j] = re * c - im * s;
                v[j + 1] = re * s + im * c;
            }
            store<T, VEC>(out + (size_t)head * dh + at, v);
        }
    }
    if (!is_img) {
        for (int at = 2 * d + threadIdx.x; at < 3 * d; at += blockDim.x) out[at] = in[at];
    }
}

#define INSTANCES(NAME, T, VEC)                                                                                          \
    extern "C" __global__ void qk_norm_rope_##NAME(T *joint, const T *txt, const T *norm_q, const T *norm_k,             \
                                                   const T *norm_added_q, const T *norm_added_k, const float *cos,       \
                                                   const float *sin, int heads, int dh, int img_begin, int img_end) {    \
        qk_norm_rope<T, VEC>(joint, txt, norm_q, norm_k, norm_added_q, norm_added_k, cos, sin, heads, dh, img_begin,     \
                             img_end);                                                                                   \
    }

// `_vec`: dh a multiple of 4, rows aligned to four elements.
INSTANCES(bf16_vec, bf16, 4)
INSTANCES(f32_vec, float, 4)
INSTANCES(bf16, bf16, 2)
INSTANCES(f32, float, 2)
