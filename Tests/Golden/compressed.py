"""Small modules as compressed-tensors writes them, for Tests/NibbleEnginesTests/Fixtures/compressed_tensors.

Run with compressed-tensors 0.20.0, torch 2.13.0 (CPU) and safetensors 0.8.0: python compressed.py FOLDER
Each file holds one Linear [33, 80], or [33, 96] for MXFP4 and NVFP4: what the format's registered compressor wrote, and `__dequantized`, what its
decompressor made of it. arguments.json holds the scheme of each as QuantizationScheme prints it.
"""

import json
import sys

import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.compressors.format import infer_module_format
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam
from safetensors.torch import save_file

OUTPUTS, INPUTS = 33, 80
weight = torch.randn(OUTPUTS, INPUTS, generator=torch.Generator().manual_seed(0)).bfloat16()
wide = torch.randn(OUTPUTS, 96, generator=torch.Generator().manual_seed(1)).bfloat16()
int8_tokens = dict(num_bits=8, type="int", strategy="token", dynamic=True)


def scheme(weights, inputs=None):
    return QuantizationScheme(
        targets=["Linear"], weights=QuantizationArgs(**weights), input_activations=inputs and QuantizationArgs(**inputs))


SCHEMES = {
    "fp8_block_partial": scheme(
        dict(num_bits=8, type="float", strategy="block", block_structure=[16, 32]),
        dict(num_bits=8, type="float", strategy="group", group_size=128, dynamic=True)),
    "w4a8_g16": scheme(dict(num_bits=4, type="int", strategy="group", group_size=16), int8_tokens),
    "w8a8_g16": scheme(dict(num_bits=8, type="int", strategy="group", group_size=16), int8_tokens),
    "w8a8_static": scheme(
        dict(num_bits=8, type="int", strategy="channel"), dict(num_bits=8, type="int", strategy="tensor")),
    "w8a8_static_asym": scheme(
        dict(num_bits=8, type="int", strategy="channel"),
        dict(num_bits=8, type="int", strategy="tensor", symmetric=False)),
    "fp8_static": scheme(
        dict(num_bits=8, type="float", strategy="tensor"), dict(num_bits=8, type="float", strategy="tensor")),
    "fp8_dynamic_tensor": scheme(
        dict(num_bits=8, type="float", strategy="tensor"),
        dict(num_bits=8, type="float", strategy="tensor", dynamic=True)),
    "mxfp4": scheme(dict(num_bits=4, type="float", strategy="group", group_size=32, scale_dtype=torch.uint8)),
    "nvfp4": scheme(
        dict(num_bits=4, type="float", strategy="tensor_group", group_size=16, scale_dtype=torch.float8_e4m3fn)),
}


def ranges(args, weight):
    if args.strategy == "block":
        rows, columns = args.block_structure
        padded = torch.nn.functional.pad(weight, (0, -INPUTS % columns, 0, -OUTPUTS % rows))
        parts = padded.reshape(padded.shape[0] // rows, rows, padded.shape[1] // columns, columns).transpose(1, 2)
        return parts.amin((-1, -2)), parts.amax((-1, -2))
    if args.strategy in ("group", "tensor_group"):
        parts = weight.reshape(OUTPUTS, -1, args.group_size)
        return parts.amin(-1), parts.amax(-1)
    if args.strategy == "channel":
        return weight.amin(-1, keepdim=True), weight.amax(-1, keepdim=True)
    return weight.min().reshape(1), weight.max().reshape(1)


printed = {}
for name, value in SCHEMES.items():
    source = wide if value.weights.num_bits == 4 and value.weights.type == "float" else weight
    top = generate_gparam(source.min(), source.max()) if value.weights.strategy == "tensor_group" else None
    scale, zero = calculate_qparams(*ranges(value.weights, source), value.weights, global_scale=top)
    state = {"weight": source, "weight_scale": scale, "weight_zero_point": zero}
    if top is not None:
        state["weight_global_scale"] = top
    if value.input_activations and not value.input_activations.dynamic:
        state["input_scale"], point = calculate_qparams(
            torch.tensor([-1.25]), torch.tensor([2.5]), value.input_activations)
        if not value.input_activations.symmetric:
            state["input_zero_point"] = point
    value.format = infer_module_format(torch.nn.Linear, value)
    compressor = BaseCompressor.get_value_from_registry(value.format.value)
    written = compressor.compress(state, value)
    values = compressor.decompress(written, value)["weight"].contiguous()
    tensors = {key: tensor.contiguous() for key, tensor in written.items()} | {"__dequantized": values}
    save_file(tensors, f"{sys.argv[1]}/{name}.safetensors")
    printed[name] = json.loads(value.model_dump_json())
    print(name, value.format.value, {key: (tensor.dtype, tuple(tensor.shape)) for key, tensor in written.items()})
with open(f"{sys.argv[1]}/arguments.json", "w") as file:
    json.dump(printed, file, indent=1)
    file.write("\n")
