// out = w + up · down in f32, rounded once; w, out [n, k], up [n, r], down [r, k], row-major.
//
// A block makes a tile of 64 x 64: 256 threads with 4 x 4 elements each, 16 ranks at a time in shared
// memory. Ranks are few, so the tile's own bytes are what takes time.
#include "cuda/common.cuh"

constexpr int TILE = 64, DEPTH = 16;

template <typename In, typename Out>
__device__ void merge(const In *w, const float *up, const float *down, Out *out, int n, int k, int r) {
    __shared__ float a[DEPTH][TILE + 1], b[DEPTH][TILE];
    const int columns = (k + TILE - 1) / TILE;
    const int row0 = (blockIdx.x / columns) * TILE, col0 = (blockIdx.x % columns) * TILE;
    const int x = threadIdx.x % 16, y = threadIdx.x / 16;
    float sum[4][4] = {};
    for (int r0 = 0; r0 < r; r0 += DEPTH) {
        for (int i = threadIdx.x; i < TILE * DEPTH; i += 256) {
            const int ar = i / DEPTH, ak = i % DEPTH, bk = i / TILE, bc = i % TILE;
            a[ak][ar] = row0 + ar < n && r0 + ak < r ? up[(size_t)(row0 + ar) * r + r0 + ak] : 0.f;
            b[bk][bc] = col0 + bc < k && r0 + bk < r ? down[(size_t)(r0 + bk) * k + col0 + bc] : 0.f;
        }
        __syncthreads();
#pragma unroll
        for (int d = 0; d < DEPTH; d++)
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) sum[i][j] = fmaf(a[d][y + 16 * i], b[d][x + 16 * j], sum[i][j]);
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const int row = row0 + y + 16 * i, col = col0 + x + 16 * j;
            if (row >= n || col >= k) continue;
            const size_t at = (size_t)row * k + col;
            out[at] = from_float<Out>(to_float(w[at]) + sum[i][j]);
        }
}

#define INSTANCE(NAME, IN, OUT)                                                                             \
    extern "C" __global__ void merge_##NAME(const IN *w, const float *up, const float *down, OUT *out, int n, \
                                            int k, int r) {                                                 \
        merge<IN, OUT>(w, up, down, out, n, k, r);                                                          \
    }
INSTANCE(bf16_bf16, bf16, bf16)
INSTANCE(bf16_f32, bf16, float)
INSTANCE(f32_bf16, float, bf16)
INSTANCE(f32_f32, float, float)
