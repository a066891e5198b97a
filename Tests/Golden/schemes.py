"""Weights and inputs rounded by compressed-tensors and torch, for Tests/NibbleTensorTests/GoldenSchemes.swift.

Run with compressed-tensors 0.20.0 and torch 2.13.0 (CPU): python schemes.py > GoldenSchemes.swift
The source values are those of SplitMix in Tests/NibbleTensorTests/Support.swift, whose generator is repeated here.
"""

import compressed_tensors
import torch
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.quantization.lifecycle.forward import fake_quantize
from compressed_tensors.quantization.utils import calculate_qparams, compute_dynamic_scales_and_zp

OUTPUTS, INPUTS, TOKENS = 6, 40, 3


def uniform(count, seed, times=1.0):
    values, state, mask = [], seed, 2**64 - 1
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        z ^= z >> 31
        values.append((z >> 40) * 2.0**-23 - 1)
    return torch.tensor(values, dtype=torch.float32) * times


weight = uniform(OUTPUTS * INPUTS, 1).reshape(OUTPUTS, INPUTS)
# Rows of different sizes, so that a scale taken from the wrong rows shows.
weight *= torch.tensor([1, 0.25, 4, 0.5, 2, 0.125], dtype=torch.float32)[:, None]
x = uniform(TOKENS * INPUTS, 2, 3.0).reshape(TOKENS, INPUTS)


def by_block(rows, columns):
    """calculate_qparams of each block, then fake_quantize; the last blocks are smaller, so each goes alone."""
    args = QuantizationArgs(num_bits=8, type="float", strategy="tensor")
    out = torch.empty_like(weight)
    for r in range(0, OUTPUTS, rows):
        for c in range(0, INPUTS, columns):
            part = weight[r:r + rows, c:c + columns]
            scale, zero = calculate_qparams(part.min(), part.max(), args)
            out[r:r + rows, c:c + columns] = fake_quantize(part, scale, zero, args)
    return out


def by_row_groups(groups, bits):
    """DeepSpeed 38327e0, compression/utils.py, SymQuantizer: repeated here, since it needs a build."""
    q_range = 2**bits
    flat = weight.reshape(groups, -1)
    scale = 2 * flat.abs().amax(dim=-1, keepdim=True) / q_range
    return ((flat / scale).round().clamp(-q_range // 2, q_range // 2 - 1) * scale).reshape(weight.shape)


def by_group(bits, size):
    args = QuantizationArgs(num_bits=bits, type="int", strategy="group", group_size=size)
    parts = weight.reshape(OUTPUTS, -1, size)
    scale, zero = calculate_qparams(parts.amin(-1), parts.amax(-1), args)
    return fake_quantize(weight, scale, zero, args)


def static(type, scale, zero):
    args = QuantizationArgs(num_bits=8, type=type, strategy="tensor", symmetric=zero is None)
    zero = None if zero is None else torch.tensor([zero], dtype=torch.int8)
    return fake_quantize(x, torch.tensor([scale]), zero, args)


def dynamic(**arguments):
    args = QuantizationArgs(num_bits=8, type="float", dynamic=True, **arguments)
    # Batch first, as strategy "token" has it.
    scale, zero = compute_dynamic_scales_and_zp(x[None], args, torch.nn.Linear(INPUTS, OUTPUTS))
    return fake_quantize(x[None], scale, zero, args)


WEIGHTS = {
    "blocks of 4x16": by_block(4, 16),
    "3 groups of rows, int8": by_row_groups(3, 8),
    "2 groups of rows, int4": by_row_groups(2, 4),
    "int8, groups of 8": by_group(8, 8),
    "int4, groups of 20": by_group(4, 20),
}
# Scales that cut off the ends of the inputs, which lie in -3...3.
INPUTS_BY_SCHEME = {
    "int8 static": static("int", 0.02, None),
    "int8 static asymmetric": static("int", 0.015, -37),
    "e4m3 static": static("float", 0.005, None),
    "e4m3 per tensor": dynamic(strategy="tensor"),
    "e4m3 per token": dynamic(strategy="token"),
    "e4m3 in groups of 8": dynamic(strategy="group", group_size=8),
}


def literal(values):
    # Six numbers fit in the 100 columns that swift format keeps.
    rows = [values.flatten().tolist()[i:i + 6] for i in range(0, values.numel(), 6)]
    return "\n".join("      " + ", ".join(f"{v:.9g}" for v in row) + "," for row in rows)


print("// Made by Tests/Golden/schemes.py with compressed-tensors", compressed_tensors.__version__, "and torch",
      torch.__version__ + ".")
print("enum GoldenSchemes {")
for name, about, table in [
    ("weights", "`[6, 40]` decoded, by scheme.", WEIGHTS), ("inputs", "`[3, 40]` decoded, by scheme.", INPUTS_BY_SCHEME)]:
    print(f"  /// {about}\n  static let {name}: [String: [Float]] = [")
    for key, values in table.items():
        print(f'    "{key}": [\n{literal(values)}\n    ],')
    print("  ]\n" if name == "weights" else "  ]\n}")
