#!/usr/bin/env python3
"""The GPU baseline: diffusers' Qwen-Image modules at full size with random bf16 weights, on one GPU.

    python3 gpu_baseline.py OUT.json

Measures, with device events and medians: the card's product and attention ceilings on the model's own
shapes, a denoising step (both guidance branches) with compiled blocks and cuDNN attention at each size,
the VAE's decode and the text encoder. Needs torch, transformers and diffusers. Run it in the same run as
qwen-gen (gpu_compare.sh) and report ratios.
"""

import gc
import json
import statistics
import sys

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

SIZES = [(1024, 1024), (1328, 1328), (512, 512), (1664, 928)]  # width, height
TEXT_TOKENS = (17, 6)  # of the two branches
WIDTH, HEADS, HEAD_WIDTH, LAYERS = 3072, 24, 128, 60
GUIDANCE = 4.0
GPU = torch.device("cuda")


def median_ms(function, repeats, warm_up=2):
    """Median time of one call, by device events."""
    for _ in range(warm_up):
        function()
    times = []
    for _ in range(repeats):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        function()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end))
    return statistics.median(times)


def floor_ms(width, height):
    """Image products and attention of one step, each alone and warm."""
    tokens = width // 16 * (height // 16)
    products = 0.0
    for n, k in [(3 * WIDTH, WIDTH), (WIDTH, WIDTH), (4 * WIDTH, WIDTH), (WIDTH, 4 * WIDTH)]:
        x = torch.randn(2 * tokens, k, device=GPU)
        weight, bias = torch.randn(n, k, device=GPU), torch.randn(n, device=GPU)
        products += LAYERS * median_ms(lambda: F.linear(x, weight, bias), 15, 5)
    attention = 0.0
    for text in TEXT_TOKENS:
        q, k, v = (torch.randn(1, HEADS, tokens + text, HEAD_WIDTH, device=GPU) for _ in range(3))
        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
            attention += LAYERS * median_ms(lambda: F.scaled_dot_product_attention(q, k, v), 15, 5)
    return {"products_ms": round(products, 1), "attention_ms": round(attention, 1)}


def guided_step(model, width, height):
    """Both branches and their combination, as the pipeline runs them."""
    rows, columns = height // 16, width // 16

    def branch(text):
        return dict(
            hidden_states=torch.randn(1, rows * columns, 64, device=GPU),
            encoder_hidden_states=torch.randn(1, text, 3584, device=GPU),
            encoder_hidden_states_mask=None,
            timestep=torch.full((1,), 0.7, device=GPU),
            img_shapes=[[(1, rows, columns)]],
            return_dict=False,
        )

    cond_inputs, uncond_inputs = (branch(text) for text in TEXT_TOKENS)

    def step():
        cond, uncond = model(**cond_inputs)[0], model(**uncond_inputs)[0]
        comb = uncond + GUIDANCE * (cond - uncond)
        return comb * (torch.norm(cond, dim=-1, keepdim=True) / torch.norm(comb, dim=-1, keepdim=True))

    return step


def transformer_steps():
    from diffusers import QwenImageTransformer2DModel

    with GPU:
        model = QwenImageTransformer2DModel().eval()
    for parameter in model.parameters():
        parameter.normal_(0, 0.02)
    model.set_attention_backend("_native_cudnn")
    result = {}
    for width, height in SIZES:
        torch._dynamo.reset()
        model.compile_repeated_blocks(fullgraph=True, dynamic=False)
        result[f"{width}x{height}"] = round(median_ms(guided_step(model, width, height), 7, 3), 2)
    peak_gb = torch.cuda.max_memory_allocated() / 1e9
    return {"step_ms": result, "transformer_peak_gb": round(peak_gb, 1)}


def vae_decode():
    from diffusers import AutoencoderKLQwenImage

    with GPU:
        vae = AutoencoderKLQwenImage().eval()
    latents = torch.randn(1, 16, 1, 128, 128, device=GPU)
    return {"vae_decode_1024_ms": round(median_ms(lambda: vae.decode(latents, return_dict=False), 7), 2)}


def text_encode():
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    text_config = dict(
        hidden_size=3584, intermediate_size=18944, num_hidden_layers=28, num_attention_heads=28,
        num_key_value_heads=4, vocab_size=152064, rms_norm_eps=1e-6, max_position_embeddings=128000,
        rope_parameters=dict(rope_type="default", rope_theta=1e6, mrope_section=[16, 24, 24]),
    )
    config = Qwen2_5_VLConfig(text_config=text_config)
    config._attn_implementation = "sdpa"
    with GPU:
        encoder = Qwen2_5_VLForConditionalGeneration(config).eval()
    ids = torch.randint(0, 150_000, (1, 51), device=GPU)
    encode = lambda: encoder(input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True)
    return {"text_encode_51_tokens_ms": round(median_ms(encode, 7, 3), 2)}


def main():
    torch.set_grad_enabled(False)
    torch.set_default_dtype(torch.bfloat16)
    torch.manual_seed(0)
    report = {
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "cudnn": torch.backends.cudnn.version(),
        "floor_1024": floor_ms(1024, 1024),
    }
    for part in (transformer_steps, vae_decode, text_encode):
        report |= part()
        gc.collect()
        torch.cuda.empty_cache()
        with open(sys.argv[1], "w") as file:
            json.dump(report, file, indent=1)
    report["floor_1024_again"] = floor_ms(1024, 1024)
    with open(sys.argv[1], "w") as file:
        json.dump(report, file, indent=1)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
