"""Loads a checkpoint that nibble wrote in vLLM on the CPU and compares the two.

    vllm_check.py MODEL --text FILE [--window 512] [--windows 8] [--dtype float16] [--kv-cache-dtype fp8]

Checked: a greedy answer to a chat prompt, and perplexity from prompt log-probabilities, over the
windows and targets that transformers_check.py uses. float32 compares most exactly, but vLLM's kernels
for quantized weights take half floats only.
"""

import argparse
import json
import math
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

from transformers import AutoTokenizer
from vllm import LLM, SamplingParams

import nibble_command
from nibble_command import Verdict, read_text, text_file


def perplexity(llm, ids, window, windows):
    """(perplexity, windows scored)."""
    windows = min(windows or len(ids), len(ids) // window)
    if windows == 0:
        raise SystemExit(f"FAIL {len(ids)} tokens do not fill a window of {window}")
    parts = [ids[n * window : (n + 1) * window] for n in range(windows)]
    sampling = SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=0)
    outputs = llm.generate([{"prompt_token_ids": part} for part in parts], sampling)
    total = 0.0
    for part, output in zip(parts, outputs):
        scores = output.prompt_logprobs
        if len(scores) != window:
            raise SystemExit(f"FAIL vLLM scored {len(scores)} of {window} tokens")
        total -= sum(scores[t][part[t]].logprob for t in range(1, window))
    return math.exp(total / (windows * (window - 1))), windows


def is_int4(model):
    """Whether the linear layers of a checkpoint are int4."""
    with open(os.path.join(model, "config.json")) as file:
        quantization = json.load(file).get("quantization_config", {})
    groups = quantization.get("config_groups", {}).values()
    return quantization.get("quant_method") == "awq" or any(
        group["weights"]["num_bits"] == 4 for group in groups
    )


def has_avx512():
    with open("/proc/cpuinfo") as file:
        return " avx512f " in file.read()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--text", required=True)
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--windows", type=int, default=8, help="0 for all")
    parser.add_argument("--dtype", default="float16", choices=["auto", "bfloat16", "float16", "float32"])
    parser.add_argument("--kv-cache-dtype", default="auto", choices=["auto", "fp8"])
    parser.add_argument("--tolerance", type=float, default=0.003, help="of perplexity, relative")
    parser.add_argument("--peer-only", action="store_true", help="do not run nibble")
    nibble_command.add_options(parser)
    options = parser.parse_args()

    if is_int4(options.model) and not has_avx512():
        print("skipped: vLLM 0.32 has no int4 kernel for processors without AVX-512 (cpu_gemm_wna16)")
        sys.exit(77)
    verdict = Verdict()
    # Longer than a window: the engine wants room to generate.
    llm = LLM(
        options.model, max_model_len=options.window + 512, dtype=options.dtype, enforce_eager=True,
        kv_cache_dtype=options.kv_cache_dtype,
    )
    chat = [{"role": "user", "content": "What's deep learning?"}]
    text = llm.chat(chat, SamplingParams(temperature=0, max_tokens=48))[0].outputs[0].text
    print("vLLM answers:", text.replace("\n", " "))
    said = text.lower()
    verdict.check("learning" in said and len(set(said.split())) > 10, "the answer is sensible")

    tokenizer = AutoTokenizer.from_pretrained(options.model)
    words = read_text(options.text)
    ids = tokenizer(words, add_special_tokens=False).input_ids
    theirs, windows = perplexity(llm, ids, options.window, options.windows)
    print(f"vLLM: perplexity {theirs:.4f}, {windows} windows of {options.window}, {options.dtype}")
    if options.peer_only:
        verdict.finish()

    cache = [] if options.kv_cache_dtype == "auto" else ["--kv", options.kv_cache_dtype]
    with text_file(words) as path:
        ours = nibble_command.run_json(
            options.nibble, "eval", options.model, "--text", path,
            "--window", options.window, "--windows", windows, "--precision", "f32", *cache,
        )
    apart = abs(ours["perplexity"] / theirs - 1)
    verdict.check(
        apart <= options.tolerance,
        f"perplexity: nibble {ours['perplexity']:.4f}, vLLM {theirs:.4f}, "
        f"{100 * apart:.3f} % apart (limit {100 * options.tolerance:g} %)",
    )
    verdict.finish()


if __name__ == "__main__":
    # vLLM now and then aborts the process while it ends, after everything was said: end without its
    # farewell, and take its own processes along.
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
