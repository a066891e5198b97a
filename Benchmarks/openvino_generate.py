"""openvino_generate.py MODEL TEXT: speed of OpenVINO GenAI on the CPU over four prompts of TEXT.

The prompts share no beginning, so that none is read from a cache; 128 tokens follow each. The last line
of output is one JSON object of medians.
"""

import json
import statistics
import sys

import openvino_genai

PROMPT_CHARACTERS = 2400


def main():
    model, path = sys.argv[1:3]
    pipeline = openvino_genai.LLMPipeline(model, "CPU")
    config = openvino_genai.GenerationConfig()
    config.max_new_tokens = 128
    config.ignore_eos = True
    config.do_sample = False
    config.apply_chat_template = False
    with open(path, encoding="utf-8") as file:
        text = file.read(5 * PROMPT_CHARACTERS)
    prefill, decode, tokens = [], [], []
    for start in range(0, 4 * PROMPT_CHARACTERS, PROMPT_CHARACTERS):
        metrics = pipeline.generate([text[start : start + PROMPT_CHARACTERS]], config).perf_metrics
        tokens.append(metrics.get_num_input_tokens())
        prefill.append(1000 * tokens[-1] / metrics.get_ttft().mean)
        decode.append(1000 / metrics.get_tpot().mean)
    figures = {
        "prompt_tokens": round(statistics.median(tokens)),
        "prefill_tokens_per_second": statistics.median(prefill),
        "decode_tokens_per_second": statistics.median(decode),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
