"""Compares mlx-lm and nibble on checkpoints in MLX's format, on a CPU.

    mlx_check.py MODEL --text FILE [--ids 256] [--window 512] [--windows 2]
    mlx_check.py --convert SOURCE MODEL --bits 4 --group 64 [--mode affine]    mlx-lm quantizes SOURCE first

Checked: a greedy answer to a chat prompt, logits of the text's first tokens, and perplexity over
windows as in transformers_check.py. Weights are widened to float32, so that both compute the same.
"""

import argparse
import math
import tempfile

import mlx.core as mx
import numpy as np
from mlx.utils import tree_map
from mlx_lm import convert, generate, load
from safetensors.numpy import load_file, save_file

import nibble_command
from nibble_command import Verdict, read_text, text_file


def log_softmax(x):
    x = x.astype(np.float64)
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def logits(model, ids):
    """[t, vocabulary], float32."""
    return np.array(model(mx.array(ids)[None])[0].astype(mx.float32))


def perplexity(model, ids, window, windows, before):
    """(perplexity, windows scored), with the tokens `before` in front of each window."""
    windows = min(windows, len(ids) // window)
    total = 0.0
    for start in range(0, windows * window, window):
        part = ids[start : start + window]
        scores = log_softmax(logits(model, before + part)[len(before) : -1])
        total -= scores[np.arange(window - 1), part[1:]].sum()
    return math.exp(total / (windows * (window - 1))), windows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--text", required=True)
    parser.add_argument("--ids", type=int, default=256)
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--windows", type=int, default=2)
    parser.add_argument("--tolerance", type=float, default=0.001, help="of perplexity, relative")
    parser.add_argument("--convert", metavar="SOURCE", help="quantize this model by mlx-lm first")
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--group", type=int, default=64)
    parser.add_argument("--mode", default="affine")
    nibble_command.add_options(parser)
    options = parser.parse_args()

    if options.convert:
        convert(
            options.convert, mlx_path=options.model, quantize=True, q_bits=options.bits,
            q_group_size=options.group, q_mode=options.mode,
        )
    verdict = Verdict()
    model, tokenizer = load(options.model)
    model.update(
        tree_map(
            lambda x: x.astype(mx.float32) if mx.issubdtype(x.dtype, mx.floating) else x,
            model.parameters(),
        )
    )
    prompt = "What's deep learning?"
    if tokenizer.chat_template:
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True
        )
    said = generate(model, tokenizer, prompt, max_tokens=32)
    print("mlx-lm answers:", said.replace("\n", " "))
    verdict.check(
        "learning" in said.lower() and len(set(said.lower().split())) > 8, "the answer is sensible"
    )

    words = read_text(options.text)
    ids = list(tokenizer.encode(words, add_special_tokens=False))
    bare = list(tokenizer.encode("a", add_special_tokens=False))
    whole = list(tokenizer.encode("a"))
    before = whole[: len(whole) - len(bare)] if whole[-len(bare) :] == bare else []
    first = (before + ids)[: options.ids]
    with tempfile.TemporaryDirectory() as scratch:
        given, made = f"{scratch}/ids.safetensors", f"{scratch}/logits.safetensors"
        save_file({"ids": np.array(first, dtype=np.int64)}, given)
        nibble_command.run(
            options.nibble, "logits", options.model, "--ids", given, "-o", made, "--precision", "f32"
        )
        ours = load_file(made)["logits"]
    p, q = log_softmax(logits(model, first)), log_softmax(ours)
    kl = (np.exp(p) * (p - q)).sum(-1).mean()
    top = (p.argmax(-1) == q.argmax(-1)).mean()
    verdict.check(kl <= 1e-7, f"logits: KL {kl:.2e} (limit 1e-07), top-1 {top:.4f}")

    theirs, windows = perplexity(model, ids, options.window, options.windows, before)
    with text_file(words) as path:
        measured = nibble_command.run_json(
            options.nibble, "eval", options.model, "--text", path, "--window", options.window,
            "--windows", windows, "--precision", "f32",
        )["perplexity"]
    apart = abs(measured / theirs - 1)
    verdict.check(
        apart <= options.tolerance,
        f"perplexity: nibble {measured:.4f}, mlx-lm {theirs:.4f}, {100 * apart:.4f} % apart "
        f"(limit {100 * options.tolerance:.2f} %)",
    )
    verdict.finish()


if __name__ == "__main__":
    main()
