"""Prefill and decode of a GGUF file by ik_llama.cpp, in its own interpreter: one JSON object.

    ik_generate.py MODEL.gguf [--prompt 512] [--tokens 64] [--threads 2]

Needs ik-llama-cpp-python 0.1.5, a wheel with AVX2 kernels: on a processor with AVX-512 it is the peer's
floor, not its best.
"""

import argparse
import json
import time

from ik_llama_cpp import _ctypes_api as api
from ik_llama_cpp._internals import IkContext, IkModel, make_batch_range, make_batch_single


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    o = parser.parse_args()
    model = IkModel(o.model)
    context = IkContext(
        model, n_ctx=o.prompt + o.tokens + 64, n_threads=o.threads, flash_attn=True, n_seq_max=1)
    ids = [(i * 7919 + 13) % (model.n_vocab - 100) + 50 for i in range(o.prompt + o.tokens)]

    def decode(batch):
        assert context.decode(batch) == 0
        api.llama_batch_free(batch)

    # The first round touches the weights' pages.
    for _ in range(2):
        context.kv_cache_clear()
        start = time.perf_counter()
        for i in range(0, o.prompt, 512):
            end = min(i + 512, o.prompt)
            decode(make_batch_range(ids[i:end], pos_start=i, logits_last=True))
        middle = time.perf_counter()
        for i in range(o.tokens):
            decode(make_batch_single(ids[o.prompt + i], o.prompt + i))
        end = time.perf_counter()
    print(json.dumps({"prefill": o.prompt / (middle - start), "decode": o.tokens / (end - middle)}))


main()
