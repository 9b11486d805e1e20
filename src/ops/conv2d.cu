// What surrounds the VAE's convolutions: nearest 2x upsampling, and 3x3 patches for the product
// that replaces cuDNN where it is missing or cannot do a dtype; kernels in the layout of both.
//
// Pictures are [h, w, c], channels innermost.
#include "cuda/common.cuh"

// out[y, x] = in[y / 2, x / 2]; a thread moves VEC channels.
template <typename T, int VEC> __device__ void upsample(const T *in, T *out, int h, int w, int c) {
    const size_t n = (size_t)4 * h * w * (c / VEC);
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (size_t)gridDim.x * blockDim.x) {
        const int channel = i % (c / VEC) * VEC;
        const size_t pixel = i / (c / VEC);
        const int x = pixel % (2 * w), y = pixel / (2 * w);
        *reinterpret_cast<Pack<T, VEC> *>(out + pixel * c + channel) =
            *reinterpret_cast<const Pack<T, VEC> *>(in + ((size_t)(y / 2) * w + x / 2) * c + channel);
    }
}

// patches[p] = the 3x3 neighbourhood of output pixel first + p, nine runs of c, zero outside. The picture
// is read as if upsampled by `factor`.
template <typename T> __device__ void patches(const T *in, T *out, int h, int w, int c, int factor, int first, int pixels) {
    const int out_w = w * factor, out_h = h * factor;
    const size_t n = (size_t)pixels * 9 * c;
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (size_t)gridDim.x * blockDim.x) {
        const int channel = i % c, tap = i / c % 9;
        const int pixel = first + (int)(i / (9 * (size_t)c));
        const int y = pixel / out_w + tap / 3 - 1, x = pixel % out_w + tap % 3 - 1;
        const bool inside = y >= 0 && y < out_h && x >= 0 && x < out_w;
        out[i] = inside ? in[((size_t)(y / factor) * w + x / factor) * c + channel] : from_float<T>(0.f);
    }
}

// out[o, tap, i] = the last nine taps of kernel[o, i].
template <typename T> __device__ void arrange(const T *kernel, T *out, int c_out, int c_in, int taps) {
    const size_t n = (size_t)c_out * 9 * c_in;
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (size_t)gridDim.x * blockDim.x) {
        const int channel = i % c_in, tap = i / c_in % 9;
        const size_t o = i / (9 * (size_t)c_in);
        out[i] = kernel[(o * c_in + channel) * taps + taps - 9 + tap];
    }
}

#define INSTANCES(NAME, T, VEC)                                                                               \
    extern "C" __global__ void upsample_##NAME##_vec(const T *in, T *out, int h, int w, int c) {              \
        upsample<T, VEC>(in, out, h, w, c);                                                                   \
    }                                                                                                         \
    extern "C" __global__ void upsample_##NAME(const T *in, T *out, int h, int w, int c) {                    \
        upsample<T, 1>(in, out, h, w, c);                                                                     \
    }                                                                                                         \
    extern "C" __global__ void patches_##NAME(const T *in, T *out, int h, int w, int c, int factor, int first, int pixels) { \
        patches<T>(in, out, h, w, c, factor, first, pixels);                                                  \
    }                                                                                                         \
    extern "C" __global__ void arrange_##NAME(const T *kernel, T *out, int c_out, int c_in, int taps) {       \
        arrange<T>(kernel, out, c_out, c_in, taps);                                                           \
    }

INSTANCES(bf16, bf16, 8)
INSTANCES(f32, float, 4)
