"""Writes a small checkpoint of a decoder family with random weights, as its publisher would.

    random_model.py FAMILY FOLDER [FAMILY FOLDER ...]

FAMILY is opt, internlm2, qwen3, gemma3, mixtral, qwen3_moe, gpt_oss, qwen3_5, qwen3_5_moe, gemma4 or gemma4_moe.
Widths are multiples of 128 and heads have 64 channels,
which every engine's kernels take. Every parameter gets seeded noise: norms that are ones and biases
that are zeros would hide mistakes. There is no tokenizer; the checks use token ids.
"""

import argparse
import json
import os
import re

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM, Gemma3TextConfig, Gemma4TextConfig, GptOssConfig, LlamaConfig, MixtralConfig, OPTConfig,
    Qwen3_5MoeTextConfig, Qwen3_5TextConfig, Qwen3Config, Qwen3MoeConfig,
)

TOKENS = {"vocab_size": 1024, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SIZES = TOKENS | {
    "hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 64, "max_position_embeddings": 512,
}


def opt():
    return OPTConfig(
        **TOKENS, hidden_size=256, word_embed_proj_dim=256, ffn_dim=512, num_hidden_layers=3,
        num_attention_heads=4, max_position_embeddings=512,
    )


def internlm2():
    """Llama's arithmetic; `as_internlm2` gives it the published names."""
    return LlamaConfig(**SIZES, num_hidden_layers=3, rope_theta=1e6)


def qwen3():
    """Its heads together are wider than the hidden size, as those of the 0.6B model."""
    return Qwen3Config(**SIZES | {"num_attention_heads": 8}, num_hidden_layers=3, rope_theta=1e6)


def gemma3():
    """Windows shorter than the checks' tokens, one full block behind two, and a scale that is not
    the head size's."""
    kinds = ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"]
    return Gemma3TextConfig(
        **SIZES, num_hidden_layers=4, layer_types=kinds, sliding_window=32, query_pre_attn_scalar=100,
    )


def mixtral():
    return MixtralConfig(**SIZES, num_hidden_layers=3, num_local_experts=4, num_experts_per_tok=2)


def qwen3_moe():
    """Experts in the first block and the last; a plain unit between."""
    return Qwen3MoeConfig(
        **SIZES | {"num_attention_heads": 8}, num_hidden_layers=3, num_experts=8, num_experts_per_tok=2,
        moe_intermediate_size=128, norm_topk_prob=True, mlp_only_layers=[1],
    )


def gpt_oss():
    return GptOssConfig(
        **SIZES | {"intermediate_size": 256}, num_hidden_layers=2, num_local_experts=4,
        num_experts_per_tok=2, sliding_window=32,
    )


NET = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 64, "linear_value_head_dim": 64,
    "full_attention_interval": 2, "num_hidden_layers": 4,
}


def qwen3_5():
    return Qwen3_5TextConfig(**SIZES, **NET)


def qwen3_5_moe():
    sizes = {key: value for key, value in SIZES.items() if key != "intermediate_size"}
    return Qwen3_5MoeTextConfig(
        **sizes, **NET, moe_intermediate_size=128, shared_expert_intermediate_size=128, num_experts=8,
        num_experts_per_tok=2,
    )


GEMMA4 = {
    "global_head_dim": 128, "sliding_window": 32, "num_hidden_layers": 4,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
}


def gemma4():
    """Inputs per block, and the last two blocks with the caches of the first two."""
    return Gemma4TextConfig(
        **SIZES, **GEMMA4, hidden_size_per_layer_input=128, vocab_size_per_layer_input=1024, num_kv_shared_layers=2,
        use_double_wide_mlp=True,
    )


def gemma4_moe():
    """Values that are keys, and experts beside the plain unit."""
    return Gemma4TextConfig(
        **SIZES, **GEMMA4, hidden_size_per_layer_input=0, attention_k_eq_v=True, num_global_key_value_heads=1,
        enable_moe_block=True, num_experts=8, top_k_experts=2, moe_intermediate_size=128, final_logit_softcapping=30.0,
    )


FAMILIES = {
    "opt": opt, "internlm2": internlm2, "qwen3": qwen3, "gemma3": gemma3, "mixtral": mixtral,
    "qwen3_moe": qwen3_moe, "gpt_oss": gpt_oss, "qwen3_5": qwen3_5, "qwen3_5_moe": qwen3_5_moe, "gemma4": gemma4,
    "gemma4_moe": gemma4_moe,
}


def fill(model):
    """Noise of seed 1: matrices that keep a vector's size, twice that in the embeddings, and 0.3 added
    to every vector."""
    generator = torch.Generator().manual_seed(1)
    # Gemma multiplies its embeddings by 16. Larger ones would drown what the blocks add, and every
    # token would predict itself. Larger logits differ by more than the checks allow.
    smaller = {"gemma3_text": 1, "gemma4_text": 0.5, "qwen3_5_text": 1, "qwen3_5_moe_text": 0.5}
    embedding = smaller.get(model.config.model_type, 2)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            if name.endswith("A_log"):
                # Decays of up to e^-20, as transformers draws them without a seed, would leave the
                # state untested, and its own sums of them in float32 are off by 1e-4.
                parameter.copy_(noise - 2)
            elif parameter.dim() == 1:
                parameter += 0.3 * noise
            else:
                scale = embedding if "embed" in name or "lm_head" in name else 1
                parameter.copy_(scale * noise / parameter.shape[1] ** 0.5)
        for name, factor in sorted(model.named_buffers()):
            if name.endswith("layer_scalar"):
                factor += 0.3 * torch.randn(factor.shape, generator=generator)


def as_internlm2(model, folder):
    """InternLM2's checkpoint of a Llama model: its names, and queries, keys and values in one weight.

    `wqkv` holds, for each key head, the rows of its queries, of its key and of its value.
    """
    config = model.config
    groups, size = config.num_key_value_heads, config.head_dim
    names = {
        "self_attn.o_proj": "attention.wo", "mlp.gate_proj": "feed_forward.w1",
        "mlp.up_proj": "feed_forward.w3", "mlp.down_proj": "feed_forward.w2",
        "input_layernorm": "attention_norm", "post_attention_layernorm": "ffn_norm",
        "embed_tokens": "tok_embeddings", "lm_head": "output",
    }
    state = model.state_dict()
    tensors = {}
    for name, tensor in state.items():
        if ".q_proj." in name:
            parts = [state[name.replace("q_proj", f"{part}_proj")] for part in "qkv"]
            rows = [part.reshape(groups, -1, size, config.hidden_size) for part in parts]
            name = name.replace("self_attn.q_proj", "attention.wqkv")
            tensor = torch.cat(rows, dim=1).reshape(-1, config.hidden_size)
        elif ".k_proj." in name or ".v_proj." in name:
            continue
        for theirs, published in names.items():
            name = name.replace(theirs, published)
        tensors[name] = tensor.contiguous()
    os.makedirs(folder, exist_ok=True)
    save_file(tensors, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    made = {
        "architectures": ["InternLM2ForCausalLM"], "model_type": "internlm2", "bias": False,
        "hidden_act": "silu", "rms_norm_eps": config.rms_norm_eps, "rope_theta": 1e6,
        "rope_scaling": None, "num_hidden_layers": config.num_hidden_layers,
        "tie_word_embeddings": False, "torch_dtype": "bfloat16", "use_cache": True,
    }
    made |= {key: value for key, value in SIZES.items() if key != "head_dim"}
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump(made, file, indent=2)


def stack_experts(folder):
    """The published layout of Qwen3.5-MoE: all experts of a block in two tensors."""
    path = os.path.join(folder, "model.safetensors")
    tensors, experts = {}, {}
    for name, tensor in load_file(path).items():
        if match := re.match(r"(.*\.experts)\.(\d+)\.(\w+_proj)\.weight$", name):
            module, expert, role = match.groups()
            experts.setdefault(module, {}).setdefault(role, {})[int(expert)] = tensor
        else:
            tensors[name] = tensor
    for module, roles in experts.items():
        order = sorted(roles["down_proj"])
        tensors[module + ".down_proj"] = torch.stack([roles["down_proj"][e] for e in order])
        tensors[module + ".gate_up_proj"] = torch.stack(
            [torch.cat([roles["gate_proj"][e], roles["up_proj"][e]]) for e in order]
        )
    save_file(tensors, path, metadata={"format": "pt"})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", nargs="+", metavar="FAMILY FOLDER")
    options = parser.parse_args()
    families, folders = options.pairs[::2], options.pairs[1::2]
    if len(families) != len(folders) or not FAMILIES.keys() >= set(families):
        parser.error(f"pairs of a family, of {', '.join(FAMILIES)}, and a folder")

    for family, folder in zip(families, folders):
        model = AutoModelForCausalLM.from_config(FAMILIES[family](), dtype=torch.float32)
        fill(model)
        model = model.to(torch.bfloat16)
        if family == "internlm2":
            as_internlm2(model, folder)
        else:
            model.save_pretrained(folder)
        if family == "qwen3_5_moe":
            stack_experts(folder)


if __name__ == "__main__":
    main()
