"""Ten prompts, 64 greedy tokens each: transformers in float32 against `nibble run --raw`.

    greedy.py MODEL

The texts must be the same. Where they part, the script prints both and how far apart the two best
logits of transformers were there: a gap near zero is a tie that any order of summation may break.
"""

import argparse
import os

os.environ["HF_HUB_OFFLINE"] = "1"

import torch

import nibble_command
from nibble_command import Verdict
from transformers_check import load

PROMPTS = [
    "The capital of France is",
    "Deep learning is a branch of machine learning that",
    "def fibonacci(n):\n",
    "Once upon a time, in a small village by the sea,",
    "Water boils at 100 degrees Celsius because",
    "The three most important things to know about the Roman Empire are",
    "1, 2, 4, 8, 16,",
    "To make a good cup of tea, first",
    "La lune est",
    "Question: Why is the sky blue?\nAnswer:",
]


def continuation(tokenizer, model, prompt, tokens):
    """(text, ids of the continuation, gap between the two best logits at each step)."""
    ids = tokenizer(prompt, return_tensors="pt")
    with torch.no_grad():
        out = model.generate(
            **ids, max_new_tokens=tokens, do_sample=False, output_logits=True,
            return_dict_in_generate=True,
        )
    new = out.sequences[0, ids.input_ids.shape[1] :]
    best = [step[0].topk(2).values for step in out.logits]
    return tokenizer.decode(new, skip_special_tokens=True), new, [(b[0] - b[1]).item() for b in best]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--peer-only", action="store_true", help="do not run nibble")
    nibble_command.add_options(parser)
    options = parser.parse_args()

    verdict = Verdict()
    tokenizer, model = load(options.model)
    for prompt in PROMPTS:
        theirs, new, gaps = continuation(tokenizer, model, prompt, options.tokens)
        if options.peer_only:
            print(f"{prompt!r} -> {theirs!r}, smallest gap {min(gaps):.4f}")
            continue
        ours = nibble_command.run(
            options.nibble, "run", options.model, prompt,
            "--max-tokens", options.tokens, "--temperature", "0", "--raw",
        )
        # The command may end its output with a line end of its own.
        same = ours in (theirs, theirs + "\n")
        verdict.check(same, f"{prompt!r}: {len(new)} tokens")
        if not same:
            common = len(os.path.commonprefix([ours, theirs]))
            texts = (tokenizer.decode(new[: n + 1], skip_special_tokens=True) for n in range(len(new)))
            step = next((n for n, text in enumerate(texts) if len(text) > common), len(new) - 1)
            print(f"     transformers {theirs!r}\n     nibble       {ours!r}")
            print(f"     they part at token {step}, where the two best logits are {gaps[step]:.6f} apart")
    verdict.finish()


if __name__ == "__main__":
    main()
