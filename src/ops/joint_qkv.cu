// Per-head RMS norm and interleaved rotary embedding of q and k, in the joint sequence.
//
// joint: [rows, 3d], the image rows' q, k, v already in place (products write there), rotated in
// place. txt: [n_txt, 3d], the text rows' q, k, v, copied to their joint rows on the way. Text rows lie
// before `img_begin` and from `img_end` on. cos, sin: [rows, dh/2] f32 in joint order. One block per row.
#include "cuda/common.cuh"

constexpr float EPS = 1e-6f;

template <typename T> struct Row {
    const T *in;
    T *out;
    const float *cos, *sin;
    bool is_img;
};

template <typename T>
__device__ Row<T> find_row(T *joint, const T *txt, const float *cos, const float *sin, int d, int dh, int img_begin,
                           int img_end) {
    const int row = blockIdx.x;
    const bool is_img = row >= img_begin && row < img_end;
    const int txt_row = row < img_begin ? row : row - (img_end - img_begin);
    T *out = joint + (size_t)row * 3 * d;
    const T *in = is_img ? out : txt + (size_t)txt_row * 3 * d;
    return {in, out, cos + (size_t)row * (dh / 2), sin + (size_t)row * (dh / 2), is_img};
}

// dh / 8 lanes (a power of two up to 32) take a head, 8 elements each: the block's groups of lanes
// walk over the 2 * heads heads. A lane sees the same elements of every head, so weights and angles
// are read once. Rows are rotated in place, which keeps the compiler from moving a load before a
// store, so the next head is loaded by hand before this one is written; as it lies in memory, because
// registers are what limits the warps in flight.
template <typename T>
__device__ void by_vectors(T *joint, const T *txt, const T *norm_q, const T *norm_k, const T *norm_added_q,
                           const T *norm_added_k, const float *cos, const float *sin, int heads, int dh, int img_begin,
                           int img_end) {
    constexpr int VEC = 8;
    struct alignas(16) Elements {
        T elements[VEC];
    };
    const int d = heads * dh, lanes = dh / VEC, at = threadIdx.x % lanes * VEC, groups = blockDim.x / lanes;
    const Row<T> row = find_row(joint, txt, cos, sin, d, dh, img_begin, img_end);
    float c[VEC / 2], s[VEC / 2];
    load<float, VEC / 2>(c, row.cos + at / 2);
    load<float, VEC / 2>(s, row.sin + at / 2);
    const Elements weight_q = *reinterpret_cast<const Elements *>((row.is_img ? norm_q : norm_added_q) + at);
    const Elements weight_k = *reinterpret_cast<const Elements *>((row.is_img ? norm_k : norm_added_k) + at);
    // A group is a whole part of a warp, and all of its lanes take the same heads.
    const unsigned mask = lanes == 32 ? 0xffffffff : ((1u << lanes) - 1) << (threadIdx.x % 32 / lanes * lanes);

    int head = threadIdx.x / lanes;
    Elements next = {};
    if (head < 2 * heads) next = *reinterpret_cast<const Elements *>(row.in + (size_t)head * dh + at);
    while (head < 2 * heads) {
        const Elements raw = next;
        const int following = head + groups;
        if (following < 2 * heads) next = *reinterpret_cast<const Elements *>(row.in + (size_t)following * dh + at);
        float v[VEC], squares = 0.f;
#pragma unroll
        for (int j = 0; j < VEC; j++) v[j] = to_float(raw.elements[j]), squares += v[j] * v[j];
        for (int offset = lanes / 2; offset > 0; offset /= 2) squares += __shfl_xor_sync(mask, squares, offset);
        const float inverse = rsqrtf(squares / dh + EPS);
        const Elements weight = head < heads ? weight_q : weight_k;
        Elements out;
#pragma unroll
        for (int j = 0; j < VEC; j += 2) {
            const float re = v[j] * inverse * to_float(weight.elements[j]);
            const float im = v[j + 1] * inverse * to_float(weight.elements[j + 1]);
            out.elements[j] = from_float<T>(re * c[j / 2] - im * s[j / 2]);
            out.elements[j + 1] = from_float<T>(re * s[j / 2] + im * c[j / 2]);
        }
        *reinterpret_cast<Elements *>(row.out + (size_t)head * dh + at) = out;
        head = following;
    }
    if (!row.is_img) {
        for (int i = 2 * d + threadIdx.x; i < 3 * d; i += blockDim.x) row.out[i] = row.in[i];
    }
}

// Any even dh: a warp takes a head, two elements a lane at a time.
template <typename T>
__device__ void by_pairs(T *joint, const T *txt, const T *norm_q, const T *norm_k, const T *norm_added_q,
                         const T *norm_added_k, const float *cos, const float *sin, int heads, int dh, int img_begin,
                         int img_end) {
    const int d = heads * dh, lane = threadIdx.x % 32;
    const Row<T> row = find_row(joint, txt, cos, sin, d, dh, img_begin, img_end);
    for (int head = threadIdx.x / 32; head < 2 * heads; head += blockDim.x / 32) {
        const T *weight = head < heads ? (row.is_img ? norm_q : norm_added_q) : (row.is_img ? norm_k : norm_added_k);
        const T *from = row.in + (size_t)head * dh;
        T *to = row.out + (size_t)head * dh;
        float squares = 0.f;
        for (int i = lane; i < dh; i += 32) squares += to_float(from[i]) * to_float(from[i]);
        const float inverse = rsqrtf(warp_sum(squares) / dh + EPS);
        for (int i = lane * 2; i < dh; i += 64) {
            const float re = to_float(from[i]) * inverse * to_float(weight[i]);
            const float im = to_float(from[i + 1]) * inverse * to_float(weight[i + 1]);
            const float c = row.cos[i / 2], s = row.sin[i / 2];
            to[i] = from_float<T>(re * c - im * s);
            to[i + 1] = from_float<T>(re * s + im * c);
        }
    }
    if (!row.is_img) {
        for (int i = 2 * d + threadIdx.x; i < 3 * d; i += blockDim.x) row.out[i] = row.in[i];
    }
}

#define INSTANCE(NAME, T, BODY)                                                                                          \
    extern "C" __global__ __launch_bounds__(256, 5) void qk_norm_rope_##NAME(T *joint, const T *txt, const T *norm_q, const T *norm_k,             \
                                                   const T *norm_added_q, const T *norm_added_k, const float *cos,       \
                                                   const float *sin, int heads, int dh, int img_begin, int img_end) {    \
        BODY<T>(joint, txt, norm_q, norm_k, norm_added_q, norm_added_k, cos, sin, heads, dh, img_begin, img_end);        \
    }

// `_vec`: dh / 8 a power of two up to 32, all addresses aligned to 16 bytes.
INSTANCE(bf16_vec, bf16, by_vectors)
INSTANCE(f32_vec, float, by_vectors)
INSTANCE(bf16, bf16, by_pairs)
INSTANCE(f32, float, by_pairs)
