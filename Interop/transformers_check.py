"""Loads a checkpoint that nibble wrote in Hugging Face transformers and compares the two.

    transformers_check.py MODEL --text FILE [--window 2048] [--windows 20] [--source]

Checked: a greedy answer to a chat prompt, logits of the text's first tokens, and perplexity: the
whole text tokenized once with no BOS, windows that do not overlap, float32, exp of the mean negative
log-likelihood over the window - 1 targets inside each window. Where the tokenizer puts BOS before a
text, it stands before each window, beside its length, and its prediction is not scored.
"""

import argparse
import math
import os
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import nibble_command
from nibble_command import Verdict, read_text, text_file


def load(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return tokenizer, model


def text_ids(tokenizer, text):
    """[t]: the text with no token added at either end."""
    return torch.tensor(tokenizer(text, add_special_tokens=False).input_ids, dtype=torch.int64)


def beginning(tokenizer):
    """[b]: the tokens that the tokenizer puts before a text, such as BOS; often none."""
    text = tokenizer("a", add_special_tokens=False).input_ids
    whole = tokenizer("a").input_ids
    start = next(n for n in range(len(whole)) if whole[n : n + len(text)] == text)
    return torch.tensor(whole[:start], dtype=torch.int64)


def logits(model, ids):
    """[t, vocabulary], float32."""
    with torch.no_grad():
        return model(ids[None]).logits[0].float()


def perplexity(model, ids, window, windows, before=torch.tensor([], dtype=torch.int64)):
    """(perplexity, windows scored), with the tokens `before` in front of each window."""
    windows = min(windows or len(ids), len(ids) // window)
    if windows == 0:
        raise SystemExit(f"FAIL {len(ids)} tokens do not fill a window of {window}")
    total = 0.0
    for start in range(0, windows * window, window):
        part = ids[start : start + window]
        scores = torch.log_softmax(logits(model, torch.cat([before, part]))[len(before) : -1], dim=-1)
        total -= scores.gather(1, part[1:, None]).double().sum().item()
    return math.exp(total / (windows * (window - 1))), windows


def under_noise(model, ids, reference):
    """Mean KL of the model from itself when its embeddings move by one part in a million, and the
    standard deviation of the change of a token's loss."""
    states = model.get_input_embeddings()(ids[None])
    noise = torch.randn(states.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        moved = model(inputs_embeds=states * (1 + 1e-6 * noise)).logits[0].float()
    a, b = reference.log_softmax(-1), moved.log_softmax(-1)
    change = (a - b)[:-1].gather(1, ids[1:, None])
    return (a.exp() * (a - b)).sum(-1).mean().item(), change.std().item()


def answer(tokenizer, model, prompt, tokens=48):
    """Greedy, to the prompt as a chat, or the prompt continued where there is no chat template."""
    if tokenizer.chat_template:
        chat = [{"role": "user", "content": prompt}]
        ids = tokenizer.apply_chat_template(
            chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
    else:
        ids = tokenizer(prompt, return_tensors="pt")
    with torch.no_grad():
        out = model.generate(**ids, max_new_tokens=tokens, do_sample=False)
    return tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)


def compare_logits(nibble, folder, ids, reference):
    """(mean KL(transformers || nibble), top-1 agreement, largest difference) over [t, vocabulary]."""
    with tempfile.TemporaryDirectory() as scratch:
        given, made = f"{scratch}/ids.safetensors", f"{scratch}/logits.safetensors"
        save_file({"ids": ids}, given)
        nibble_command.run(nibble, "logits", folder, "--ids", given, "-o", made, "--precision", "f32")
        ours = load_file(made)["logits"].float()
    if ours.shape != reference.shape:
        raise SystemExit(f"FAIL nibble logits has shape {list(ours.shape)}, not {list(reference.shape)}")
    p, q = torch.log_softmax(reference.double(), -1), torch.log_softmax(ours.double(), -1)
    kl = (p.exp() * (p - q)).sum(-1).mean().item()
    top1 = (ours.argmax(-1) == reference.argmax(-1)).double().mean().item()
    return kl, top1, (ours - reference).abs().max().item()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--text", required=True)
    parser.add_argument("--window", type=int, default=2048)
    parser.add_argument("--windows", type=int, default=20, help="0 for all")
    parser.add_argument("--tolerance", type=float, default=0.003, help="of perplexity, relative")
    parser.add_argument("--ids", type=int, default=256, help="tokens whose logits are compared")
    parser.add_argument("--source", action="store_true", help="nothing is quantized: be strict")
    parser.add_argument("--peer-only", action="store_true", help="do not run nibble")
    nibble_command.add_options(parser)
    options = parser.parse_args()

    verdict = Verdict()
    tokenizer, model = load(options.model)
    text = answer(tokenizer, model, "What's deep learning?")
    print("transformers answers:", text.replace("\n", " "))
    said = text.lower()
    verdict.check("learning" in said and len(set(said.split())) > 10, "the answer is sensible")

    words = read_text(options.text)
    ids = text_ids(tokenizer, words)
    before = beginning(tokenizer)
    theirs, windows = perplexity(model, ids, options.window, options.windows, before)
    print(f"transformers: perplexity {theirs:.4f}, {windows} windows of {options.window}")
    if options.peer_only:
        verdict.finish()

    first = torch.cat([before, ids])[: options.ids]
    reference = logits(model, first)
    kl, top1, largest = compare_logits(options.nibble, options.model, first, reference)
    # Float sums in another order move a logit by some 1e-5 of its size: a KL of 2e-11. Where activations
    # are rounded to 8 bits, such a difference flips a code now and then, and the flip spreads: the
    # reference measures by itself how far, with its own inputs moved by a millionth. That gives 3e-8 of
    # noise where none are rounded.
    noise, deviation = under_noise(model, first, reference)
    limit = 3 * noise if noise > 1e-6 else 1e-8
    verdict.check(
        kl <= limit,
        f"logits: KL {kl:.2e} (limit {limit:.2e}), top-1 {top1:.4f}, largest difference {largest:.2e}",
    )

    with text_file(words) as path:
        ours = nibble_command.run_json(
            options.nibble, "eval", options.model, "--text", path,
            "--window", options.window, "--windows", windows, "--precision", "f32",
        )
    verdict.check(
        ours["tokens"] == len(ids) or ours["tokens"] == windows * options.window,
        f"tokens: nibble {ours['tokens']}, transformers {len(ids)} in all",
    )
    apart = abs(ours["perplexity"] / theirs - 1)
    # Five standard errors of the mean: neighbouring tokens' losses do not move independently.
    spread = 5 * deviation / math.sqrt(windows * (options.window - 1))
    options.tolerance = max(options.tolerance, spread)
    verdict.check(
        apart <= options.tolerance,
        f"perplexity: nibble {ours['perplexity']:.4f}, transformers {theirs:.4f}, "
        f"{100 * apart:.3f} % apart (limit {100 * options.tolerance:.2f} %)",
    )
    verdict.finish()


if __name__ == "__main__":
    main()
