"""Makes reference_order.safetensors and index.json: what the reference writers put on disk.

Made with Python 3.11.7, safetensors 0.8.0, numpy 2.4.6.
The files in safetensors/ are the hostile set of shared/spec/fixtures, copied; expected.json holds
the verdicts of safetensors 0.8.0.
"""

import json
import pathlib

import numpy
from safetensors.numpy import save_file

here = pathlib.Path(__file__).parent
# Byte i of each tensor's data is (seed + i) % 251, so a reader can tell where it stands.
tensors = {}


def add(name, dtype, shape, seed):
    size = int(numpy.prod(shape)) * numpy.dtype(dtype).itemsize
    data = ((numpy.arange(size) + seed) % 251).astype(numpy.uint8)
    if dtype == "bool":
        data = data % 2
    tensors[name] = data.view(dtype).reshape(shape)


add("b", "float32", [3, 5], 1)
add("a", "float32", [31], 2)
add("Z", "int8", [7], 3)
add("tail", "uint8", [1], 4)
add("é\"\\", "float16", [33], 5)
add("wide", "uint64", [2, 1], 6)
add("flag", "bool", [3], 7)
add("none", "float32", [0, 4], 8)
add("scalar", "int32", [], 9)
save_file(tensors, here / "reference_order.safetensors", metadata={"format": "pt"})

# transformers 5: json.dumps(index, indent=2, sort_keys=True) + "\n"
index = {
    "metadata": {"total_size": 24},
    "weight_map": {
        "model.b": "model-00002-of-00002.safetensors",
        "model.a": "model-00001-of-00002.safetensors",
        "lm_head.weight": "model-00002-of-00002.safetensors",
    },
}
(here / "index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
