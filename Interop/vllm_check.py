"""Loads a checkpoint that nibble wrote in vLLM on the CPU and compares the two.

    vllm_check.py MODEL --text FILE [--window 512] [--windows 8] [--dtype float16] [--kv-cache-dtype fp8]

Checked: a greedy answer to a chat prompt, and perplexity from prompt log-probabilities, over the
windows and targets that transformers_check.py uses, without BOS for every tokenizer. float32 compares
most exactly, but vLLM's kernels for int4 weights take half floats only.
"""

import argparse
import math

import vllm_cpu

from transformers import AutoTokenizer
from vllm import LLM, SamplingParams

import nibble_command
from nibble_command import Verdict, read_text, text_file

# The engine's processes import this file again, so it holds there too.
vllm_cpu.make_int8_products_exact()


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

    vllm_cpu.skip_without_kernel([options.model])
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
            "--window", options.window, "--windows", windows, "--precision", "f32", "--bos", "off",
            *cache,
        )
    apart = abs(ours["perplexity"] / theirs - 1)
    verdict.check(
        apart <= options.tolerance,
        f"perplexity: nibble {ours['perplexity']:.4f}, vLLM {theirs:.4f}, "
        f"{100 * apart:.3f} % apart (limit {100 * options.tolerance:g} %)",
    )
    verdict.finish()


if __name__ == "__main__":
    vllm_cpu.finish(main)
