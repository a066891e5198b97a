"""Token ids of a text: Hugging Face's tokenizer against `nibble tokenize`.

    tokenizer_check.py MODEL FILE [FILE ...]
"""

import argparse
import os

os.environ["HF_HUB_OFFLINE"] = "1"

from transformers import AutoTokenizer

import nibble_command
from nibble_command import Verdict, read_text, text_file


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("texts", nargs="+")
    parser.add_argument("--peer-only", action="store_true", help="do not run nibble")
    nibble_command.add_options(parser)
    options = parser.parse_args()

    verdict = Verdict()
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    for path in options.texts:
        text = read_text(path)
        theirs = tokenizer(text, add_special_tokens=False).input_ids
        if options.peer_only:
            print(f"{path}: {len(theirs)} tokens")
            continue
        with text_file(text) as copy:
            made = nibble_command.run_json(options.nibble, "tokenize", options.model, "--text", copy)
        ours = made["ids"]
        verdict.check(ours == theirs, f"{path}: {len(theirs)} tokens, nibble {len(ours)}")
        if ours != theirs:
            pairs = enumerate(zip(ours, theirs))
            at = next((n for n, (a, b) in pairs if a != b), min(len(ours), len(theirs)))
            around = slice(max(at - 3, 0), at + 4)
            print(f"     first difference at token {at}")
            for name, ids in (("transformers", theirs), ("nibble", ours)):
                print(f"     {name:12}", [(i, tokenizer.convert_ids_to_tokens(i)) for i in ids[around]])
    verdict.finish()


if __name__ == "__main__":
    main()
