#!/usr/bin/env python3
"""The GPU baseline: diffusers' Qwen-Image modules at full size with random bf16 weights, on one GPU.

    python3 gpu_baseline.py OUT.json

Measures, with device events and medians: the card's product and attention ceilings on the model's own
shapes, a denoising step (both guidance branches) with compiled blocks and cuDNN attention at each size,
the VAE's decode and the text encoder. Steps and their floor are measured twice: the first few on a card
that was idle (`burst`), and many in a row on one that has been at work, whose power limit has set in: that is
how the steps of a picture run. Needs torch, transformers and diffusers. Run it in the same run as qwen-gen
(gpu_compare.sh) and report ratios.
"""

import functools
import gc
import json
import statistics
import sys
import time

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


def sustained_ms(function, repeats=20, warm_up_s=3.0):
    """Median time of one of `repeats` calls in a row, after calls for `warm_up_s`."""
    begin = time.monotonic()
    while time.monotonic() < begin + warm_up_s:
        function()
        torch.cuda.synchronize()
    events = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
    events[0].record()
    for event in events[1:]:
        function()
        event.record()
    torch.cuda.synchronize()
    return statistics.median(a.elapsed_time(b) for a, b in zip(events, events[1:]))


def floor_ms(width, height):
    """Image products and attention of one step: each alone in a burst, then all of a step, in a row."""
    tokens = width // 16 * (height // 16)
    block = []
    products = 0.0
    for n, k in [(3 * WIDTH, WIDTH), (WIDTH, WIDTH), (4 * WIDTH, WIDTH), (WIDTH, 4 * WIDTH)]:
        x = torch.randn(2 * tokens, k, device=GPU)
        weight, bias = torch.randn(n, k, device=GPU), torch.randn(n, device=GPU)
        product = functools.partial(F.linear, x, weight, bias)
        products += LAYERS * median_ms(product, 15, 5)
        block.append(product)
    attention = 0.0
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        for text in TEXT_TOKENS:
            q, k, v = (torch.randn(1, HEADS, tokens + text, HEAD_WIDTH, device=GPU) for _ in range(3))
            attend = functools.partial(F.scaled_dot_product_attention, q, k, v)
            attention += LAYERS * median_ms(attend, 15, 5)
            block.append(attend)

        def step():
            for _ in range(LAYERS):
                for part in block:
                    part()

        return {
            "burst_products_ms": round(products, 1),
            "burst_attention_ms": round(attention, 1),
            "sustained_ms": round(sustained_ms(step), 1),
        }


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


def draw_as_dummy(model):
    """Weights as `--load-format dummy` draws them: what a power-limited card takes for a step depends on them."""
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            mean, std = 0.0, 0.02
        elif parameter.dim() == 1:
            mean, std = 1.0, 0.02
        else:
            mean, std = 0.0, parameter.shape[1:].numel() ** -0.5
        parameter.uniform_(mean - std * 3**0.5, mean + std * 3**0.5)


def transformer_steps():
    from diffusers import QwenImageTransformer2DModel

    with GPU:
        model = QwenImageTransformer2DModel().eval()
    draw_as_dummy(model)
    model.set_attention_backend("_native_cudnn")
    burst, sustained = {}, {}
    for width, height in SIZES:
        torch._dynamo.reset()
        model.compile_repeated_blocks(fullgraph=True, dynamic=False)
        step, size = guided_step(model, width, height), f"{width}x{height}"
        burst[size] = round(median_ms(step, 7, 3), 2)
        sustained[size] = round(sustained_ms(step), 2)
    peak_gb = torch.cuda.max_memory_allocated() / 1e9
    return {"burst_step_ms": burst, "step_ms": sustained, "transformer_peak_gb": round(peak_gb, 1)}


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
