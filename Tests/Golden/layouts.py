"""Small layers as other tools store them, for Tests/NibbleEnginesTests/Fixtures/{gptq,mlx}.

Python 3.11, two environments:

    pip install torch==2.13.0+cpu transformers==5.23.0 safetensors && pip install --no-deps auto-gptq==0.7.1
    python layouts.py gptq FOLDER
    pip install mlx==0.32.4 mlx-cpu==0.32.4 numpy safetensors
    python layouts.py mlx FOLDER

gptq/<name>.safetensors: qweight, qzeros, scales, g_idx of AutoGPTQ 0.7.1's QuantLinear.pack, 96 inputs, 64 outputs;
    codes i8 [64, 96] and zeros i8 [64, groups], unsigned as packed; values f32 [64, 96] = (code - zero) * scale by numpy.
    sym4, sym8: groups of 32. asym4: zeros 1...15. sym4_channel: one group. order4: groups in a random order of inputs.
mlx/<name>.safetensors: weight, scales, biases of mlx.core.quantize on a random f16 matrix [16, 192]; values f32, of
    mlx.core.dequantize on scales and biases widened to f32. Names are bits and group; mxfp4 and nvfp4 have no biases.
"""

import pathlib
import sys
import types

import numpy as np

np.random.seed(20)


def gptq(folder):
    import torch
    from safetensors.torch import save_file
    # Its package imports names that transformers 5 has no more; this module needs none of them.
    for name in ("auto_gptq", "auto_gptq.nn_modules", "auto_gptq.nn_modules.qlinear"):
        package = types.ModuleType(name)
        package.__path__ = [str(root / name.replace(".", "/")) for root in map(pathlib.Path, sys.path)
                            if (root / name.replace(".", "/")).is_dir()]
        sys.modules[name] = package
    from auto_gptq.nn_modules.qlinear.qlinear_cuda import QuantLinear

    n, k = 64, 96
    for name, bits, group, symmetric, shuffled in [
        ("sym4", 4, 32, True, False), ("sym8", 8, 32, True, False), ("asym4", 4, 32, False, False),
        ("sym4_channel", 4, k, True, False), ("order4", 4, 32, True, True),
    ]:
        groups = k // group
        codes = np.random.randint(0, 2 ** bits, (n, k))
        zeros = (np.full((n, groups), 2 ** (bits - 1)) if symmetric
                 else np.random.randint(1, 2 ** bits, (n, groups)))
        scales = np.random.uniform(0.005, 0.02, (n, groups)).astype(np.float16)
        g_idx = np.arange(k) // group
        if shuffled:
            g_idx = np.random.permutation(g_idx)
        values = ((codes - zeros[:, g_idx]) * scales.astype(np.float32)[:, g_idx]).astype(np.float32)
        linear = torch.nn.Linear(k, n, bias=False)
        linear.weight.data = torch.from_numpy(values)
        layer = QuantLinear(bits, group, k, n, bias=False)
        layer.pack(linear, torch.from_numpy(scales.astype(np.float32)), torch.from_numpy(zeros),
                   torch.from_numpy(g_idx.astype(np.int32)))
        tensors = {key: value.contiguous() for key, value in layer.state_dict().items()
                   if key in ("qweight", "qzeros", "scales", "g_idx")}
        tensors["scales"] = tensors["scales"].to(torch.float16)
        tensors["codes"] = torch.from_numpy(codes.astype(np.uint8))
        tensors["zeros"] = torch.from_numpy(zeros.astype(np.uint8))
        tensors["values"] = torch.from_numpy(values)
        save_file(tensors, folder / f"{name}.safetensors")


def mlx(folder):
    import mlx.core as mx

    weight = mx.array(np.random.standard_normal((16, 192)).astype(np.float16) * np.float16(0.05))
    for bits in (2, 3, 4, 5, 6, 8):
        for group in (32, 64):
            w, scales, biases = mx.quantize(weight, group_size=group, bits=bits)
            values = mx.dequantize(w, scales.astype(mx.float32), biases.astype(mx.float32),
                                   group_size=group, bits=bits)
            mx.save_safetensors(str(folder / f"{bits}_{group}.safetensors"),
                                {"weight": w, "scales": scales, "biases": biases, "values": values})
    for mode, group in (("mxfp4", 32), ("nvfp4", 16)):
        w, scales = mx.quantize(weight, group_size=group, bits=4, mode=mode)[:2]
        values = mx.dequantize(w, scales, group_size=group, bits=4, mode=mode)
        mx.save_safetensors(str(folder / f"{mode}.safetensors"),
                            {"weight": w, "scales": scales, "values": values.astype(mx.float32)})
    mx.save_safetensors(str(folder / "source.safetensors"), {"weight": weight})


folder = pathlib.Path(sys.argv[2])
folder.mkdir(parents=True, exist_ok=True)
{"gptq": gptq, "mlx": mlx}[sys.argv[1]](folder)
