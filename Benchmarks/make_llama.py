#!/usr/bin/env python3
"""Writes a Llama-shaped float16 checkpoint of random weights, tensor by tensor.

    make_llama.py --blocks 22 --hidden 2048 --intermediate 5632 --vocabulary 32000 \\
                  --heads 32 --kv-heads 4 [--experts 64 --chosen 8] [--tokenizer FOLDER] -o DIR

With --experts it is Mixtral-shaped, and --intermediate is the width of one expert.

Weights are normal with standard deviation 0.02, norms are 1. The same options give the same bytes.
Needs numpy; memory is one tensor's worth.
"""

import argparse
import json
import os
import shutil
import struct

import numpy


def tensors(o):
    """(name, shape) in the order of the file."""
    kv = o.hidden // o.heads * o.kv_heads
    yield "model.embed_tokens.weight", (o.vocabulary, o.hidden)
    for n in range(o.blocks):
        block = f"model.layers.{n}."
        yield block + "input_layernorm.weight", (o.hidden,)
        yield block + "self_attn.q_proj.weight", (o.hidden, o.hidden)
        yield block + "self_attn.k_proj.weight", (kv, o.hidden)
        yield block + "self_attn.v_proj.weight", (kv, o.hidden)
        yield block + "self_attn.o_proj.weight", (o.hidden, o.hidden)
        yield block + "post_attention_layernorm.weight", (o.hidden,)
        units = [("mlp.", "gate_proj", "up_proj", "down_proj")]
        if o.experts:
            yield block + "block_sparse_moe.gate.weight", (o.experts, o.hidden)
            units = [(f"block_sparse_moe.experts.{e}.", "w1", "w3", "w2") for e in range(o.experts)]
        for path, gate, up, down in units:
            yield f"{block}{path}{gate}.weight", (o.intermediate, o.hidden)
            yield f"{block}{path}{up}.weight", (o.intermediate, o.hidden)
            yield f"{block}{path}{down}.weight", (o.hidden, o.intermediate)
    yield "model.norm.weight", (o.hidden,)
    yield "lm_head.weight", (o.vocabulary, o.hidden)


def size(shape):
    return 2 * int(numpy.prod(shape))


def split(all_tensors, limit):
    """Lists of tensors of at most `limit` bytes each; a larger tensor stands alone."""
    shards, held = [[]], 0
    for tensor in all_tensors:
        if shards[-1] and held + size(tensor[1]) > limit:
            shards.append([])
            held = 0
        shards[-1].append(tensor)
        held += size(tensor[1])
    return shards


def write_shard(path, shard, random):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in shard:
        end = offset + size(shape)
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, shape in shard:
            if len(shape) == 1:
                file.write(numpy.ones(shape, "<f2").tobytes())
                continue
            # A few rows at a time: float32 numbers of a whole embedding would be its double.
            for start in range(0, shape[0], 1024):
                rows = min(1024, shape[0] - start)
                values = random.standard_normal((rows, shape[1]), dtype=numpy.float32)
                file.write((values * numpy.float32(0.02)).astype("<f2").tobytes())


def config(o):
    family = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "attention_bias": False,
        "mlp_bias": False,
    }
    if o.experts:
        family = {
            "architectures": ["MixtralForCausalLM"], "model_type": "mixtral",
            "num_local_experts": o.experts, "num_experts_per_tok": o.chosen, "sliding_window": None,
        }
    return family | {
        "hidden_size": o.hidden,
        "intermediate_size": o.intermediate,
        "num_hidden_layers": o.blocks,
        "num_attention_heads": o.heads,
        "num_key_value_heads": o.kv_heads,
        "head_dim": o.hidden // o.heads,
        "vocab_size": o.vocabulary,
        "max_position_embeddings": 2048,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": "float16",
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, default=22)
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--intermediate", type=int, default=5632)
    parser.add_argument("--vocabulary", type=int, default=32000)
    parser.add_argument("--heads", type=int, default=32)
    parser.add_argument("--kv-heads", type=int, default=4)
    parser.add_argument("--experts", type=int, default=0, help="in each block; 0 for one plain unit")
    parser.add_argument("--chosen", type=int, default=2, help="experts that a token passes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shard-bytes", type=int, default=1 << 30)
    parser.add_argument("--tokenizer", help="a folder whose tokenizer files are copied")
    parser.add_argument("-o", "--output", required=True)
    o = parser.parse_args()
    if o.hidden % o.heads or o.heads % o.kv_heads:
        parser.error("--heads must divide --hidden, and --kv-heads must divide --heads")

    partial = o.output + ".partial"
    shutil.rmtree(partial, ignore_errors=True)
    os.makedirs(partial)
    random = numpy.random.Generator(numpy.random.PCG64(o.seed))
    shards, where, total = split(list(tensors(o)), o.shard_bytes), {}, 0
    for n, shard in enumerate(shards, 1):
        name = f"model-{n:05}-of-{len(shards):05}.safetensors"
        if len(shards) == 1:
            name = "model.safetensors"
        write_shard(os.path.join(partial, name), shard, random)
        where.update({tensor: name for tensor, _ in shard})
        total += sum(size(shape) for _, shape in shard)
        print(f"{name}: {len(shard)} tensors", flush=True)
    if len(shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": where}
        with open(os.path.join(partial, "model.safetensors.index.json"), "w") as file:
            json.dump(index, file, indent=2)
    with open(os.path.join(partial, "config.json"), "w") as file:
        json.dump(config(o), file, indent=2)
    if o.tokenizer:
        names = ("tokenizer", "special_tokens_map", "added_tokens", "vocab", "merges", "chat_template")
        for name in sorted(os.listdir(o.tokenizer)):
            if name.startswith(names):
                shutil.copy(os.path.join(o.tokenizer, name), partial)
    os.rename(partial, o.output)


if __name__ == "__main__":
    main()
