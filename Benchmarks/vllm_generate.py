"""vllm_generate.py MODEL: tokens a second that vLLM writes on the CPU for one request.

The last line of output is one JSON object.
"""

import json
import os
import sys
import time

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["VLLM_NO_USAGE_STATS"] = "1"
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_VNNI")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")

import torch

# A virtual machine may announce AMX and not grant it; the engine's processes import this file again.
torch.cpu._is_amx_tile_supported = lambda: False

from vllm import LLM, SamplingParams

TOKENS = 128


def main():
    llm = LLM(sys.argv[1], max_model_len=1024, enforce_eager=True)
    sampling = SamplingParams(temperature=0, max_tokens=TOKENS, ignore_eos=True)
    llm.generate(["A first request wakes every thread"], sampling)
    start = time.perf_counter()
    llm.generate(["The capital of France is"], sampling)
    print(json.dumps({"decode_tokens_per_second": TOKENS / (time.perf_counter() - start)}), flush=True)


if __name__ == "__main__":
    main()
    # The engine now and then aborts the process while it ends, after all was said.
    os._exit(0)
