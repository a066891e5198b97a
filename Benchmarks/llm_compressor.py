"""llm_compressor.py MODEL CALIBRATION SCHEME OUT: one llm-compressor recipe on a CPU, in bfloat16.

$WINDOWS windows of 512 tokens. The last line of output is {"seconds": ...}.
"""

import json
import os
import sys
import time

import torch

# AWQ pins memory for an accelerator that is not there.
torch.Tensor.pin_memory = lambda self, *a, **k: self

from datasets import Dataset
from llmcompressor import oneshot
from llmcompressor.modifiers.quantization import GPTQModifier, QuantizationModifier
from llmcompressor.modifiers.transform.awq import AWQModifier
from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier
from transformers import AutoModelForCausalLM, AutoTokenizer

LENGTH = 512


def groups(symmetric):
    weights = {
        "num_bits": 4, "type": "int", "symmetric": symmetric, "strategy": "group", "group_size": 64,
    }
    return {"group_0": {"targets": ["Linear"], "weights": weights}}


def recipe(scheme):
    head = {"ignore": ["lm_head"]}
    linear = {"targets": "Linear", **head}
    smooth = SmoothQuantModifier(smoothing_strength=0.8)
    four, four_symmetric = {"config_groups": groups(False), **head}, {"config_groups": groups(True), **head}
    return {
        "w8a8": lambda: [smooth, GPTQModifier(scheme="W8A8", **linear)],
        "w8a8-rtn": lambda: [smooth, QuantizationModifier(scheme="W8A8", **linear)],
        "fp8-dynamic": lambda: [QuantizationModifier(scheme="FP8_DYNAMIC", **linear)],
        "w4a16-rtn": lambda: [QuantizationModifier(**four)],
        "w4a16-awq": lambda: [AWQModifier(), QuantizationModifier(**four)],
        "w4a16-awq-gptq": lambda: [AWQModifier(), GPTQModifier(**four)],
        "w4a16-gptq": lambda: [GPTQModifier(**four_symmetric)],
        "w4a16-gptq-asym": lambda: [GPTQModifier(**four)],
    }[scheme]()


model, text, scheme, out = sys.argv[1:5]
tokenizer = AutoTokenizer.from_pretrained(model)
network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16)
count = int(os.environ.get("WINDOWS", "64"))
ids = tokenizer(open(text).read()).input_ids
data = Dataset.from_dict(
    {
        "input_ids": [ids[i * LENGTH : (i + 1) * LENGTH] for i in range(count)],
        "attention_mask": [[1] * LENGTH] * count,
    }
)
calibration = dict(dataset=data, max_seq_length=LENGTH, num_calibration_samples=count)
start = time.time()
oneshot(
    model=network, recipe=recipe(scheme), output_dir=out, **({} if scheme == "fp8-dynamic" else calibration)
)
tokenizer.save_pretrained(out)
print(json.dumps({"seconds": time.time() - start}))
