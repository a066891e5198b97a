"""vLLM 0.32 on a CPU: what it lacks on this processor, and how a process that used it ends.

Import this before vllm: some of its settings are read from the environment once.
"""

import json
import multiprocessing
import os
import sys
import traceback

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["VLLM_NO_USAGE_STATS"] = "1"
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_VNNI")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")

import psutil
import torch

# A virtual machine may announce AMX and not grant it: the kernels of vLLM and of oneDNN then die of
# an illegal instruction. The engine's processes import this file again, so they see this as well.
torch.cpu._is_amx_tile_supported = lambda: False


def has(*features):
    """Whether the processor has one of some features."""
    with open("/proc/cpuinfo") as file:
        flags = next((line for line in file if line.startswith("flags")), "").split()
    return any(feature in flags for feature in features)


def is_int4(model):
    """Whether the linear layers of a checkpoint are int4."""
    with open(os.path.join(model, "config.json")) as file:
        quantization = json.load(file).get("quantization_config", {})
    groups = quantization.get("config_groups", {}).values()
    if quantization.get("quant_method") in ("awq", "gptq"):
        return quantization.get("bits") == 4
    return any(group["weights"]["num_bits"] == 4 for group in groups)


def skip_without_kernel(models):
    """Ends the process with status 77 when vLLM cannot run one of the checkpoints here."""
    if any(map(is_int4, models)) and not has("avx512f"):
        print("skipped: vLLM 0.32 has no int4 kernel for processors without AVX-512 (cpu_gemm_wna16)")
        sys.exit(77)


def make_int8_products_exact():
    """Lets torch multiply int8 codes where oneDNN's products saturate; everything else stays vLLM's.

    Without VNNI oneDNN multiplies `x + 128` and the weights' codes in pairs and keeps each pair's sum
    in 16 bits, saturated: weights whose codes are large differ by several percent.
    """
    if has("avx512_vnni", "avx_vnni", "amx_int8"):
        return
    from vllm import _custom_ops as ops

    made = ops.create_onednn_scaled_mm

    def create(weight, weight_scales, *others):
        handler = made(weight, weight_scales, *others)
        handler.codes = weight.float()
        handler.scales = weight_scales.flatten().double()
        return handler

    def multiply(handler, x, output, input_scale, input_zero, adjustment, bias):
        if input_zero is not None:
            raise NotImplementedError("input zero points")
        # Sums of 1024 products of codes reach 2^24 at most: exact in float32.
        parts = zip(x.float().split(1024, dim=1), handler.codes.split(1024))
        sums = sum((codes @ weight).double() for codes, weight in parts)
        values = sums * handler.scales * input_scale.double()
        return output.copy_(values if bias is None else values + bias.double())

    ops.create_onednn_scaled_mm = create
    ops.onednn_scaled_mm = multiply


def finish(main):
    """Runs `main` and ends the process with its status.

    vLLM now and then aborts the process while it ends, after everything was said: end without its
    farewell, and take its own processes along.
    """
    status = 1
    try:
        main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1 if end.code else 0
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except Exception:
        traceback.print_exc()
    if multiprocessing.parent_process() is None:
        for child in psutil.Process().children(recursive=True):
            child.kill()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
