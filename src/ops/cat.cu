// Parts one after the other: part i is out[end[i - 1]..end[i]].
#include <stddef.h>
#include <stdint.h>

constexpr int MAX_PARTS = 64;

template <typename T> struct Parts {
    const T *from[MAX_PARTS];
    size_t end[MAX_PARTS];
};

template <typename T> __device__ __forceinline__ void cat(const Parts<T> &parts, T *out, size_t n) {
    int part = 0;
    size_t begin = 0;
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (size_t)gridDim.x * blockDim.x) {
        while (i >= parts.end[part]) begin = parts.end[part++];
        out[i] = parts.from[part][i - begin];
    }
}

// The number is that of bytes moved at once, to which all addresses and sizes are aligned.
#define INSTANCE(BYTES, T) \
    extern "C" __global__ void cat_##BYTES(const __grid_constant__ Parts<T> parts, T *out, size_t n) { cat(parts, out, n); }

INSTANCE(2, uint16_t)
INSTANCE(4, uint32_t)
INSTANCE(16, uint4)
