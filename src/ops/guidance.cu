// Classifier-free guidance with norm rescale, and the Euler step; a warp per token.
//
//   comb = uncond + scale * (cond - uncond);  v = comb * |cond| / |comb|;  out = x + dt * v
//
// x, out: [tokens, c] f32; pred: [branches * tokens, c], conditional first; one branch: v = cond.
#include "cuda/common.cuh"

template <typename T>
__device__ void guided_euler_step(const float *x, const T *pred, float *out, float scale, float dt, int tokens, int c,
                                  int branches) {
    const int token = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (token >= tokens) return;
    const int lane = threadIdx.x % 32;
    const size_t row = (size_t)token * c;
    const T *cond = pred + row, *uncond = pred + (size_t)tokens * c + row;
    float rescale = 1.f;
    if (branches == 2) {
        float length = 0.f, comb_length = 0.f;
        for (int i = lane; i < c; i += 32) {
            const float a = to_float(cond[i]), b = to_float(uncond[i]), comb = b + scale * (a - b);
            length += a * a;
            comb_length += comb * comb;
        }
        rescale = sqrtf(warp_sum(length)) / sqrtf(warp_sum(comb_length));
    }
    for (int i = lane; i < c; i += 32) {
        const float a = to_float(cond[i]);
        float v = a;
        if (branches == 2) {
            const float b = to_float(uncond[i]);
            v = (b + scale * (a - b)) * rescale;
        }
        out[row + i] = x[row + i] + dt * v;
    }
}

extern "C" __global__ void guided_euler_step_bf16(const float *x, const bf16 *pred, float *out, float scale, float dt,
                                                  int tokens, int c, int branches) {
    guided_euler_step<bf16>(x, pred, out, scale, dt, tokens, c, branches);
}
extern "C" __global__ void guided_euler_step_f32(const float *x, const float *pred, float *out, float scale, float dt,
                                                 int tokens, int c, int branches) {
    guided_euler_step<float>(x, pred, out, scale, dt, tokens, c, branches);
}
