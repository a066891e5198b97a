"""The peer of eval-vs-transformers: perplexity and seconds, as one JSON object."""

import argparse
import json
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "Interop"))

from nibble_command import read_text
from transformers_check import beginning, load, perplexity, text_ids

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("model")
parser.add_argument("text")
parser.add_argument("--window", type=int, required=True)
parser.add_argument("--windows", type=int, required=True)
options = parser.parse_args()
tokenizer, model = load(options.model)
ids = text_ids(tokenizer, read_text(options.text))
start = time.perf_counter()
value, windows = perplexity(model, ids, options.window, options.windows, beginning(tokenizer))
seconds = time.perf_counter() - start
print(json.dumps({"perplexity": value, "windows": windows, "seconds": seconds}))
