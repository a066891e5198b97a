"""Modules of the format fp8, for Tests/NibbleEnginesTests/Fixtures/fp8.

Run with transformers 5.23.0, torch 2.13.0 (CPU) and safetensors 0.8.0: python fp8.py FOLDER
block.safetensors: what transformers' Fp8Quantize makes of a random [256, 384] weight, and in `__dequantized` rows 0, 127,
128 and 255 of what its Fp8Dequantize makes of that. tensor.safetensors: AutoFP8's arithmetic on a bfloat16 [32, 48]
weight and on inputs, written out with torch, scales as scalars; `__dequantized` is `weight.float() * weight_scale`.
"""

import sys
from types import SimpleNamespace

import torch
from safetensors.torch import save_file
from transformers import FineGrainedFP8Config
from transformers.integrations.finegrained_fp8 import Fp8Dequantize, Fp8Quantize

ROWS = [0, 127, 128, 255]
random = torch.Generator().manual_seed(0)


def block():
    quantizer = SimpleNamespace(quantization_config=FineGrainedFP8Config(weight_block_size=(128, 128)))
    weight = torch.randn(256, 384, generator=random)
    weight[:128, 128:256] = 0
    made = Fp8Quantize(quantizer).convert({"p.weight": weight})
    back = Fp8Dequantize(quantizer)._dequantize_one(made["p.weight"], made["p.weight_scale_inv"])
    made["__dequantized"] = back.float()[ROWS]
    return {name.removeprefix("p."): tensor.contiguous() for name, tensor in made.items()}


def to_fp8(values):
    scale = torch.finfo(torch.float8_e4m3fn).max / values.abs().max().clamp(min=1e-12)
    codes = (values * scale).clamp(min=-448, max=448).to(torch.float8_e4m3fn)
    return codes, scale.float().reciprocal()


def tensor():
    weight = torch.randn(32, 48, generator=random).bfloat16()
    inputs = torch.randn(7, 48, generator=random).bfloat16()
    codes, scale = to_fp8(weight)
    return {
        "weight": codes, "weight_scale": scale, "input_scale": to_fp8(inputs)[1],
        "k_scale": torch.tensor(0.5), "v_scale": torch.tensor(0.25),
        "__dequantized": codes.float() * scale,
    }


for name, make in {"block": block, "tensor": tensor}.items():
    save_file(make(), f"{sys.argv[1]}/{name}.safetensors", metadata={"format": "pt"})
