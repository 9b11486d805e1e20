#!/usr/bin/env python3
"""Writes a full-size Qwen-Image checkpoint of random bf16 values: full_size_checkpoint.py FOLDER [LAYERS].

In the real layout (9 transformer, 4 text encoder, 1 VAE shard, about 57 GB), for measuring how fast it loads:
run in the repository's root, FOLDER on memory-backed storage. Names come from the built-in model, whose sizes
are replaced by the real ones. LAYERS makes it smaller: that many blocks and text layers instead of 60 and 28.
"""
import array
import json
import math
import os
import random
import re
import shutil
import struct
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

TINY = Path("assets/builtin-model")
SHARDS = {"transformer": 9, "text_encoder": 4, "vae": 1}
LAYERS = {"transformer": 60, "text_encoder": 28}
# Sizes of the built-in model and what they are in the real one.
SIZES = {
    "transformer": {160: 3072, 640: 12288, 960: 18432, 320: 6144, 128: 3584, 32: 128},
    "text_encoder": {128: 3584, 2368: 152064, 320: 18944, 64: 512},
    "vae": {48: 384, 12: 96, 24: 192, 144: 1152, 96: 768},
}
BLOCK = 1 << 26


def shapes(component, layers):
    """Name and full-size shape of every tensor, layer by layer."""
    tiny = {}
    for file in sorted((TINY / component).glob("*.safetensors")):
        with file.open("rb") as f:
            tiny |= json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
    found = {}
    for name, info in sorted(tiny.items()):
        layer = re.search(r"(?:layers|transformer_blocks)\.(\d+)\.", name)
        # The vision tower has other sizes and is not read.
        if name == "__metadata__" or name.startswith("visual.") or (layer and layer[1] != "0"):
            continue
        shape = [SIZES[component].get(size, size) for size in info["shape"]]
        for i in range(layers if layer else 1):
            found[re.sub(r"\.0\.", f".{i}.", name, count=1) if layer else name] = shape
    return dict(sorted(found.items(), key=lambda item: [int(n) for n in re.findall(r"\d+", item[0])[:1]]))


def write(path, tensors):
    header, at = {}, 0
    for name, shape in tensors.items():
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    # Magnitudes from 2^-7 to 2^-4, as weights have them.
    draw = random.Random(path.name)
    values = array.array("H", (0x3C00 | draw.getrandbits(9) | draw.getrandbits(1) << 15 for _ in range(1 << 20)))
    block = memoryview(values.tobytes() * (BLOCK // (2 << 20)))
    with path.open("wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        while at > 0:
            at -= f.write(block[: min(at, BLOCK)])


def main():
    folder = Path(sys.argv[1])
    shutil.copytree("benches/full-size", folder)
    shutil.copytree("tests/fixtures/tokenizer/qwen", folder / "tokenizer")
    jobs = []
    for component, shards in SHARDS.items():
        layers = LAYERS.get(component, 1)
        if len(sys.argv) > 2 and component in LAYERS:
            layers = int(sys.argv[2])
            config = folder / component / "config.json"
            text = re.sub(r'("num_(?:hidden_)?layers": *)\d+', rf"\g<1>{layers}", config.read_text())
            config.write_text(text)
        stem = "model" if component == "text_encoder" else "diffusion_pytorch_model"
        tensors = shapes(component, layers)
        parts, at = [{} for _ in range(shards)], 0
        total = sum(map(math.prod, tensors.values()))
        for tensor, shape in tensors.items():
            parts[at * shards // total][tensor] = shape
            at += math.prod(shape)
        weight_map = {}
        for k, part in enumerate(parts):
            name = f"{stem}-{k + 1:05}-of-{shards:05}.safetensors" if shards > 1 else f"{stem}.safetensors"
            weight_map |= dict.fromkeys(part, name)
            jobs.append((folder / component / name, part))
        if shards > 1:
            index = {"metadata": {}, "weight_map": weight_map}
            (folder / component / f"{stem}.safetensors.index.json").write_text(json.dumps(index))
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(write, *zip(*jobs)))
    written = sum(path.stat().st_size for path, _ in jobs)
    print(f"{written / 1e9:.1f} GB in {len(jobs)} files")


main()
