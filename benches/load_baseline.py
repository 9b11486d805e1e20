#!/usr/bin/env python3
"""How fast Python's libraries bring the same checkpoint to a GPU: load_baseline.py FOLDER.

safetensors alone (`load_file` of every shard, vision tower or not), then diffusers' transformer. Needs torch,
safetensors, diffusers.
"""

import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

folder = Path(sys.argv[1])
torch.zeros(1, device="cuda")


def report(name, files, load):
    size = sum(file.stat().st_size for file in files)
    begin = time.perf_counter()
    kept = load()
    torch.cuda.synchronize()
    seconds = time.perf_counter() - begin
    print(f"{name}: {size / 1e9:.1f} GB in {seconds:.2f} s, {size / 1e9 / seconds:.1f} GB/s")
    del kept
    torch.cuda.empty_cache()


shards = sorted(folder.glob("*/*.safetensors"))
report("safetensors load_file to cuda", shards, lambda: [load_file(file, device="cuda") for file in shards])


def diffusers_transformer():
    from diffusers import QwenImageTransformer2DModel

    return QwenImageTransformer2DModel.from_pretrained(folder / "transformer", torch_dtype=torch.bfloat16).to("cuda")


transformer = sorted((folder / "transformer").glob("*.safetensors"))
report("diffusers transformer", transformer, diffusers_transformer)
