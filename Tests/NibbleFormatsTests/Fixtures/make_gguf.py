"""Makes gguf/decode.safetensors and gguf/every_kind.gguf.

Made with Python 3.11.7, gguf 0.19.0, safetensors 0.8.0, numpy 2.4.6.
decode.safetensors: for each type T, T.bytes (whole blocks) and T.values, what
gguf.quants.dequantize makes of them. Bytes are random; scales take awkward values in turn. The
other files in gguf/ are copies of shared/spec/fixtures.
"""

import pathlib

import gguf
import numpy
from gguf import GGMLQuantizationType as Type
from safetensors.numpy import save_file

folder = pathlib.Path(__file__).parent / "gguf"
random = numpy.random.default_rng(19)
# 1, -1, zeros, smallest and largest subnormal, smallest normal, +-max, infinities, NaN, two others.
halves = numpy.array(
    [0x3C00, 0xBC00, 0x0000, 0x8000, 0x0001, 0x83FF, 0x0400, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00,
     0x7E00, 0x2E66, 0x9421], dtype=numpy.uint16)
# Byte offsets of the half floats in a block.
scales = {
    Type.Q4_0: [0], Type.Q4_1: [0, 2], Type.Q5_0: [0], Type.Q5_1: [0, 2], Type.Q8_0: [0],
    Type.Q4_K: [0, 2], Type.Q5_K: [0, 2], Type.Q6_K: [208],
}
tensors = {}
for kind, offsets in scales.items():
    size = gguf.GGML_QUANT_SIZES[kind][1]
    blocks = random.integers(0, 256, (len(halves), size), dtype=numpy.uint8)
    blocks[0, :] = 0
    blocks[1, :] = 255
    for number, offset in enumerate(offsets):
        at = numpy.roll(halves, 5 * number)
        blocks[:, offset : offset + 2] = at.view(numpy.uint8).reshape(-1, 2)
    tensors[kind.name] = blocks
tensors["F16"] = numpy.concatenate(
    [halves, random.integers(0, 65536, 19, dtype=numpy.uint16)]).view(numpy.uint8).reshape(1, -1)
tensors["BF16"] = numpy.concatenate(
    [numpy.array([0, 0x8000, 1, 0x7F7F, 0xFF80, 0x7FC0], dtype=numpy.uint16),
     random.integers(0, 65536, 27, dtype=numpy.uint16)]).view(numpy.uint8).reshape(1, -1)
tensors["F32"] = random.integers(0, 256, (1, 4 * 31), dtype=numpy.uint8)
out = {}
with numpy.errstate(all="ignore"):
    for name, blocks in tensors.items():
        out[name + ".bytes"] = blocks
        out[name + ".values"] = gguf.quants.dequantize(blocks, Type[name]).astype(numpy.float32)
save_file(out, folder / "decode.safetensors", metadata={"format": "pt"})

writer = gguf.GGUFWriter(folder / "every_kind.gguf", "llama")
writer.add_custom_alignment(64)
writer.add_uint8("kind.u8", 255)
writer.add_int8("kind.i8", -128)
writer.add_uint16("kind.u16", 65535)
writer.add_int16("kind.i16", -32768)
writer.add_uint32("kind.u32", 2**32 - 1)
writer.add_int32("kind.i32", -(2**31))
writer.add_uint64("kind.u64", 2**64 - 1)
writer.add_int64("kind.i64", -(2**63))
writer.add_float32("kind.f32", -0.1)
writer.add_float64("kind.f64", 0.1)
writer.add_bool("kind.bool", False)
writer.add_string("kind.string", "tok\u00e9n \U0001f600")
writer.add_array("kind.strings", ["", "a", "\u2581b", "\U0001f600"])
writer.add_array("kind.ints", [3, -1, 0])
writer.add_array("kind.floats", [0.0, -1.5])
writer.add_array("kind.bools", [True, False, True])
writer.add_array("kind.nested", [[1, 2], [3]])
data = {"four": ("Q4_1", (3, 2, 64)), "big": ("Q6_K", (5, 256)), "eye": ("F32", (31,)),
        "b": ("BF16", (7, 33)), "cube": ("Q8_0", (1, 2, 3, 32))}
for seed, (name, (kind, shape)) in enumerate(data.items()):
    raw = gguf.quant_shape_to_byte_shape(shape, Type[kind])
    count = int(numpy.prod(raw))
    # Byte i of a tensor's data is (seed + i) % 251.
    array = ((numpy.arange(count) + seed) % 251).astype(numpy.uint8).reshape(raw)
    writer.add_tensor(name, array, raw_shape=raw, raw_dtype=Type[kind])
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
