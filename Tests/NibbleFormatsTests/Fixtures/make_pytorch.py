"""Makes pytorch/: what torch.save puts on disk, and the same tensors as safetensors.

Made with Python 3.11.7, torch 2.13.0, safetensors 0.8.0. Each NAME.bin that Nibble reads has a
NAME.safetensors beside it; those without one are refused.
"""

import json
import pathlib
from collections import OrderedDict

import torch
from safetensors.torch import save_file

folder = pathlib.Path(__file__).parent / "pytorch"
folder.mkdir(exist_ok=True)


def values(dtype, shape, seed):
    """Byte i is (seed + i) % 251, so a reader can tell where it stands."""
    count = torch.tensor(shape).prod().long() * torch.empty(0, dtype=dtype).element_size()
    data = ((torch.arange(count) + seed) % 251).to(torch.uint8)
    if dtype == torch.bool:
        data = data % 2
    return data.view(dtype).reshape(shape)


def save(name, state, expected=None, **settings):
    torch.save(state, folder / f"{name}.bin", **settings)
    if expected is None:
        expected = state
    plain = {k: v.detach().clone().contiguous() for k, v in expected.items()}
    save_file(plain, folder / f"{name}.safetensors", metadata={"format": "pt"})


def refuse(name, state, **settings):
    torch.save(state, folder / f"{name}.bin", **settings)


dtypes = [
    torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int32,
    torch.int16, torch.int8, torch.uint8, torch.bool, torch.complex64,
]
state = {str(d).removeprefix("torch."): values(d, [3, 5], i) for i, d in enumerate(dtypes)}
state["scalar"] = values(torch.float32, [], 20)
state["none"] = torch.empty(0, 7)
state["wide"] = torch.empty(2, 0, dtype=torch.float16)
state['é"\\'] = values(torch.float32, [31], 21)
save("every_dtype", state)

for protocol in [2, 3, 4, 5]:
    state = OrderedDict(b=values(torch.float16, [33], 1), a=values(torch.float32, [2, 3], 2))
    save(f"protocol_{protocol}", state, pickle_protocol=protocol)


class Tiny(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(7, 4)
        self.norm = torch.nn.BatchNorm1d(4)
        self.head = torch.nn.Linear(4, 7, bias=False)
        self.head.weight = self.embed.weight


torch.manual_seed(1)
model = Tiny().half()
save("module", model.state_dict())
save("parameters", dict(model.named_parameters(remove_duplicate=False)))

# Views: rows of one storage, one of them from an offset; a stride that says nothing.
whole = values(torch.float32, [6, 4], 3)
odd = torch.as_strided(whole, (1, 4), (99, 1), 4)
save("views", {"whole": whole, "rows": whole[2:4], "row": whole[5], "odd": odd})

# Two shards, as transformers writes them.
first = OrderedDict(x=values(torch.float16, [4, 4], 4), y=values(torch.float32, [3], 5))
second = OrderedDict(z=values(torch.bfloat16, [5], 6))
names = [f"pytorch_model-0000{i}-of-00002" for i in [1, 2]]
save(names[0], first)
save(names[1], second)
index = {
    "metadata": {"total_size": 54},
    "weight_map": {"x": names[0] + ".bin", "y": names[0] + ".bin", "z": names[1] + ".bin"},
}
(folder / "pytorch_model.bin.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")

refuse("transposed", {"turned": whole.T})
refuse("expanded", {"wide": torch.ones(1, 4).expand(3, 4)})
refuse("before_zip", {"a": whole}, _use_new_zipfile_serialization=False)
refuse("nested", {"model": {"a": whole}, "step": 3})
refuse("tensor", whole)
refuse("float8", {"a": whole.to(torch.float8_e4m3fn)})
refuse("conjugated", {"a": values(torch.complex64, [2], 7).conj()})
refuse("complex128", {"a": torch.zeros(2, dtype=torch.complex128)})
refuse("sparse", {"a": torch.eye(2).to_sparse()})
refuse("whole_module", Tiny())
