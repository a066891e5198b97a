"""Tiny models of many decoder families with the logits transformers computes for them.

    python families.py FOLDER [FAMILY...]       writes FOLDER/FAMILY.json
    python families.py --check [FAMILY...]      writes nothing: see below

Run with transformers 5.23.0 and torch 2.13.0 on a CPU. FOLDER is Tests/TinyModel/Families.

Each file holds {"made_by": text, "models": [model...]}, each model
    name             the variation
    config           its config.json: as save_pretrained wrote it or, where the name starts with "published",
                     in the older style in which models of the family were published
    tensors          [name, shape, kind, scale, offset] for each tensor of its safetensors, float32 but for "bytes"
    tokens           T token ids
    logits           base64 of T x V little-endian float32: one float32 prefill with eager attention
    step_difference  largest difference of the logits when the same tokens go one by one through the reference's
                     own cache, relative to the largest logit: large where its rotary depends on the length

The values of a tensor follow from its name, so that a reader can make them too. All integers have 64 bits:
    seed  = FNV-1a of the name's UTF-8 (offset basis 0xcbf29ce484222325, prime 0x100000001b3)
    z     = seed + (i + 1) * 0x9E3779B97F4A7C15         i: index of the element, last axis fastest
    z    ^= z >> 30; z *= 0xBF58476D1CE4E5B9; z ^= z >> 27; z *= 0x94D049BB133111EB; z ^= z >> 31
    u     = (z >> 40) / 2^24 - 0.5                      exact in float32, in [-0.5, 0.5)
    value = offset + scale * u                          two float32 operations, each rounded
Tensors of the kind "bytes" are uint8 instead: offset + ((z >> 40) * scale >> 24).

The names are proven: transformers itself loads a safetensors of exactly these names beside exactly this config.json,
and the run fails if a key is missing or left over or, saved again, differs. (InternLM has no code in transformers:
its tensors are renamed and cut into those of a Llama below.)

--check changes each tensor by itself and demands that the logits move by more than 1e-6 of the largest, except for
those that are known to do nothing (`idle`), which must not move them.
"""

import argparse
import base64
import json
import math
import os
import re
import tempfile

import numpy as np
import safetensors.numpy
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

f32 = np.float32
VOCABULARY = 71
TOKENS = [31, 41, 59, 26, 53, 58, 70, 9, 32, 38, 46, 26, 43]
LONG = TOKENS + [38, 32, 7, 50, 28, 8, 41, 9, 16, 39, 69, 37, 51, 58, 20, 9, 4, 44, 59, 23, 7, 67, 64, 6, 28, 62, 8]
torch.set_num_threads(1)
torch.set_grad_enabled(False)
transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


# MARK: values

def fnv1a(text):
    state = 0xCBF29CE484222325
    for byte in text.encode():
        state = (state ^ byte) * 0x100000001B3 % 2**64
    return state


def values(name, shape, kind, scale, offset):
    count = math.prod(shape)
    with np.errstate(over="ignore"):
        z = np.uint64(fnv1a(name)) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = (z ^ (z >> np.uint64(31))) >> np.uint64(40)
    if kind == "bytes":
        return (offset + (z * np.uint64(scale) >> np.uint64(24)).astype(int)).astype(np.uint8).reshape(shape)
    u = z.astype(f32) / f32(2**24) - f32(0.5)
    return np.asarray(f32(offset) + f32(scale) * u).reshape(shape)


EMBEDDINGS = re.compile(
    r"(embed_tokens|embed_tokens_per_layer|embed_positions|wte|wpe|word_embeddings|embed_in|tok_embeddings)\.weight$")
NORMS = re.compile(r"(norm[^.]*|norms\.\d+|ln_\w+)\.weight$")
FACTORS = re.compile(r"(layer_scalar|router\.scale|per_expert_scale)$")


def kind(name, shape, model):
    """What a tensor is, its scale and its offset."""
    if match := next((v for k, v in model.get("scales", {}).items() if re.search(k, name)), None):
        return ["matrix", match, 0]
    if name.endswith("_blocks"):
        return ["bytes", 256, 0]
    if name.endswith("_scales"):  # exponents of 2, plus 127
        return ["bytes", 3, 122]
    if EMBEDDINGS.search(name):
        return ["embedding", 1.7, 0]
    if NORMS.search(name):
        neutral = re.search(model.get("one_plus", "^$"), name) is None
        return ["norm", 1, 1 if neutral else 0]
    if FACTORS.search(name):
        return ["factor", 1, 1]
    if len(shape) < 2 or name.endswith("bias"):
        return ["vector", 1, 0]
    return ["matrix", 0.7, 0]


# MARK: models

def plain(name, type, /, **config):
    """A model whose config.json transformers writes."""
    return {"name": name, "config": {"model_type": type, "vocab_size": VOCABULARY, **config}}


def published(name, type, architecture, /, **config):
    """A model whose config.json is the older one given here."""
    config = {"model_type": type, "architectures": [architecture], "vocab_size": VOCABULARY, "torch_dtype": "float32",
              **config}
    return {"name": "published" + (" " + name if name else ""), "verbatim": True, "config": config}


OPT = dict(hidden_size=24, ffn_dim=52, num_attention_heads=3, num_hidden_layers=2, max_position_embeddings=40)
OPT_PUBLISHED = dict(
    _remove_final_layer_norm=False, activation_dropout=0.0, activation_function="relu", attention_dropout=0.0,
    bos_token_id=2, do_layer_norm_before=True, dropout=0.1, eos_token_id=2, init_std=0.02, layerdrop=0.0,
    pad_token_id=1, prefix="</s>", transformers_version="4.21.0.dev0", use_cache=True, word_embed_proj_dim=24, **OPT)
# The bias of a key adds the same to all scores of a query, where positions do not turn the key.
KEY_BIAS = r"k_proj\.bias$"

QWEN2 = dict(hidden_size=24, intermediate_size=44, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=1)
QWEN3 = dict(hidden_size=24, intermediate_size=44, num_attention_heads=4, num_key_value_heads=2, head_dim=10)
GEMMA2 = dict(num_hidden_layers=3, query_pre_attn_scalar=7, sliding_window=5, **QWEN3)
GEMMA3 = GEMMA2 | dict(num_hidden_layers=4)
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 10}


def opt():
    yield plain("relu", "opt", **OPT) | {"idle": KEY_BIAS}
    yield plain("350m", "opt", word_embed_proj_dim=16, do_layer_norm_before=False, **OPT) | {"idle": KEY_BIAS}
    yield plain("gelu without biases", "opt", activation_function="gelu", enable_bias=False, **OPT)
    yield plain("norms without weights", "opt", layer_norm_elementwise_affine=False, **OPT) | {"idle": KEY_BIAS}
    yield plain("no final norm", "opt", _remove_final_layer_norm=True, **OPT) | {"idle": KEY_BIAS}
    yield published("", "opt", "OPTForCausalLM", **OPT_PUBLISHED) | {
        "idle": KEY_BIAS, "names": lambda name: name.removeprefix("model.")}


def llama():
    sizes = dict(hidden_size=32, intermediate_size=44, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
    yield plain("plain", "llama", **sizes)
    yield plain("biases", "llama", attention_bias=True, mlp_bias=True, **sizes)


def qwen2():
    yield plain("tied", "qwen2", tie_word_embeddings=True, **QWEN2)
    yield plain("window in late blocks", "qwen2", use_sliding_window=True, sliding_window=3, max_window_layers=1, **QWEN2)
    yield plain("window not switched on", "qwen2", use_sliding_window=False, sliding_window=3, max_window_layers=1, **QWEN2)
    yield published("", "qwen2", "Qwen2ForCausalLM", attention_dropout=0.0, bos_token_id=3, eos_token_id=4,
                    hidden_act="silu", initializer_range=0.02, max_position_embeddings=40, max_window_layers=1,
                    rms_norm_eps=1e-6, rope_theta=1000000.0, sliding_window=3, tie_word_embeddings=True,
                    transformers_version="4.43.1", use_cache=True, use_mrope=False, use_sliding_window=False, **QWEN2)


def qwen3():
    two = dict(num_hidden_layers=2, **QWEN3)
    yield plain("plain", "qwen3", **two)
    yield plain("yarn", "qwen3", max_position_embeddings=40, rope_scaling=YARN, **two)
    yield plain("yarn with mscale", "qwen3", max_position_embeddings=40,
                rope_scaling=YARN | {"mscale": 1.2, "mscale_all_dim": 0.7}, **two)
    yield plain("attention biases", "qwen3", attention_bias=True, **two)
    old = dict(attention_bias=False, attention_dropout=0.0, bos_token_id=3, eos_token_id=4, hidden_act="silu",
               initializer_range=0.02, max_position_embeddings=40, max_window_layers=2, rms_norm_eps=1e-6,
               rope_theta=1000000, sliding_window=None, tie_word_embeddings=True, transformers_version="4.51.0",
               use_cache=True, use_sliding_window=False, **two)
    yield published("", "qwen3", "Qwen3ForCausalLM", rope_scaling=None, **old)
    yield published("with yarn", "qwen3", "Qwen3ForCausalLM", rope_scaling=YARN, **old)


def gemma3():
    one = {"one_plus": "norm"}
    yield plain("plain", "gemma3_text", sliding_window_pattern=3, **GEMMA3) | one
    yield plain("linear rope on full blocks", "gemma3_text", sliding_window_pattern=3, rope_theta=77777.0,
                rope_scaling={"rope_type": "linear", "factor": 8.0}, rope_local_base_freq=555.0,
                final_logit_softcapping=9.0, **GEMMA3) | one
    yield plain("score cap without effect", "gemma3_text", sliding_window_pattern=3, attn_logit_softcapping=3.0, **GEMMA3) | one
    # The keys that the text model of the published 4B has: all others come from the family's defaults, except the
    # vocabulary, which would make 262208 columns.
    yield published("with few keys", "gemma3_text", "Gemma3ForCausalLM", hidden_size=24, intermediate_size=44,
                    num_hidden_layers=6, sliding_window=5, rope_scaling={"factor": 8.0, "rope_type": "linear"}) | one
    yield published("", "gemma3_text", "Gemma3ForCausalLM", attention_bias=False, attention_dropout=0.0,
                    attn_logit_softcapping=None, bos_token_id=2, cache_implementation="hybrid", eos_token_id=[1, 106],
                    final_logit_softcapping=None, hidden_activation="gelu_pytorch_tanh", initializer_range=0.02,
                    max_position_embeddings=32768, pad_token_id=0, rms_norm_eps=1e-6, rope_local_base_freq=10000,
                    rope_scaling=None, rope_theta=1000000, sliding_window_pattern=3, transformers_version="4.50.0.dev0",
                    use_cache=True, **GEMMA3) | one
    # As the published models that also see: the text model is inside, and so are its tensors.
    wrapper = dict(
        model_type="gemma3", architectures=["Gemma3ForConditionalGeneration"], boi_token_index=1, eoi_token_index=2,
        eos_token_id=[1, 3], image_token_index=4, initializer_range=0.02, mm_tokens_per_image=1, torch_dtype="float32",
        transformers_version="4.50.0.dev0",
        text_config=dict(vocab_size=VOCABULARY, model_type="gemma3_text", head_dim=8, hidden_size=24,
                         intermediate_size=44, num_attention_heads=4, num_hidden_layers=2, num_key_value_heads=2,
                         rope_scaling={"factor": 8.0, "rope_type": "linear"}, sliding_window=5, sliding_window_pattern=2),
        vision_config=dict(hidden_size=8, image_size=28, intermediate_size=12, model_type="siglip_vision_model",
                           num_attention_heads=2, num_hidden_layers=1, patch_size=14, vision_use_head=False))
    yield {"name": "published wrapper", "verbatim": True, "config": wrapper, "auto": AutoModelForImageTextToText,
           "names": lambda name: name.replace("vision_tower.", "vision_tower.vision_model."),
           "idle": r"^(vision_tower|multi_modal_projector)\."} | one


def gemma2():
    one = {"one_plus": "norm"}
    yield plain("plain", "gemma2", **GEMMA2) | one
    yield plain("low caps and biases", "gemma2", attn_logit_softcapping=2.0, final_logit_softcapping=5.0,
                attention_bias=True, **GEMMA2) | one
    yield plain("no caps", "gemma2", attn_logit_softcapping=None, final_logit_softcapping=None, **GEMMA2) | one
    yield published("", "gemma2", "Gemma2ForCausalLM", attention_bias=False, attention_dropout=0.0,
                    attn_logit_softcapping=50.0, bos_token_id=2, cache_implementation="hybrid", eos_token_id=1,
                    final_logit_softcapping=30.0, hidden_act="gelu_pytorch_tanh", hidden_activation="gelu_pytorch_tanh",
                    initializer_range=0.02, max_position_embeddings=8192, pad_token_id=0, rms_norm_eps=1e-6,
                    rope_theta=10000.0, transformers_version="4.42.4", use_cache=True, **GEMMA2) | one


# InternLM runs as a Llama of other names. Beyond max_position_embeddings its own code differs from transformers'
# when tokens come one by one: InternLM 1 turns all cached keys anew, InternLM 2 keeps them.
INTERNLM = dict(hidden_size=48, intermediate_size=44, num_hidden_layers=2, num_attention_heads=6)


def as_llama(config, keys, bias, rope):
    same = {k: config[k] for k in ("vocab_size", "max_position_embeddings", "rms_norm_eps", "tie_word_embeddings")}
    return {"model_type": "llama", "num_key_value_heads": keys, "attention_bias": bias, "rope_parameters": rope,
            **INTERNLM, **same}


def internlm():
    def model(name, bias, base, scaling, **more):
        config = dict(
            auto_map={"AutoConfig": "configuration_internlm.InternLMConfig",
                      "AutoModel": "modeling_internlm.InternLMForCausalLM",
                      "AutoModelForCausalLM": "modeling_internlm.InternLMForCausalLM"},
            bias=bias, bos_token_id=1, eos_token_id=2, hidden_act="silu", initializer_range=0.02,
            max_position_embeddings=20, pad_token_id=2, rms_norm_eps=1e-6, tie_word_embeddings=False,
            transformers_version="4.33.2", use_cache=True, **INTERNLM, **more)
        entry = published(name, "internlm", "InternLMForCausalLM", **config)
        rope = {"rope_theta": base, "rope_type": "default"} if scaling is None else {
            "rope_theta": base, "rope_type": "dynamic", "factor": scaling}
        return entry | {"reference": as_llama(entry["config"], 6, bias, rope)}
    yield model("7b", True, 10000.0, 1.0, rotary={"base": 10000, "type": "dynamic"}, num_key_value_heads=6)
    yield model("20b", False, 10000.0, None)
    yield model("of plain rotary", True, 500.0, None, rotary={"base": 500, "type": "origin"})
    yield model("beyond its length", True, 10000.0, 1.0, rotary={"base": 10000, "type": "dynamic"}) | {"tokens": LONG}


INTERNLM2_NAMES = [
    ("model.embed_tokens.", "model.tok_embeddings."), ("lm_head.", "output."), (".input_layernorm.", ".attention_norm."),
    (".post_attention_layernorm.", ".ffn_norm."), (".self_attn.o_proj.", ".attention.wo."),
    (".mlp.gate_proj.", ".feed_forward.w1."), (".mlp.up_proj.", ".feed_forward.w3."),
    (".mlp.down_proj.", ".feed_forward.w2."),
]


def internlm2():
    groups, size = 2, 8
    heads = 6 // groups

    def theirs(name):
        for a, b in INTERNLM2_NAMES:
            name = name.replace(a, b)
        return name

    def ours(name):
        for a, b in INTERNLM2_NAMES:
            name = name.replace(b, a)
        return name

    def pack(shapes):
        packed = {}
        for name, shape in shapes.items():
            if "q_proj" in name:
                rows = (6 + 2 * groups) * size
                packed[name.replace("self_attn.q_proj", "attention.wqkv")] = [rows, *shape[1:]]
            elif "k_proj" not in name and "v_proj" not in name:
                packed[theirs(name)] = shape
        return packed

    def unpack(tensors):
        out = {}
        for name, t in tensors.items():
            if "wqkv" not in name:
                out[ours(name)] = t
                continue
            rows = t.reshape(groups, heads + 2, size, *t.shape[1:])
            for role, part in (("q", rows[:, :heads]), ("k", rows[:, heads]), ("v", rows[:, heads + 1])):
                name_here = name.replace("attention.wqkv", f"self_attn.{role}_proj")
                out[name_here] = np.ascontiguousarray(part.reshape(-1, *t.shape[1:]))
        return out

    def model(name, bias, scaling, **more):
        config = dict(
            auto_map={"AutoConfig": "configuration_internlm2.InternLM2Config",
                      "AutoModelForCausalLM": "modeling_internlm2.InternLM2ForCausalLM",
                      "AutoModel": "modeling_internlm2.InternLM2ForCausalLM"},
            attn_implementation="eager", bias=bias, bos_token_id=1, eos_token_id=2, hidden_act="silu",
            initializer_range=0.02, max_position_embeddings=20, num_key_value_heads=groups, pad_token_id=2,
            rms_norm_eps=1e-5, rope_scaling=scaling, rope_theta=1000000, tie_word_embeddings=False,
            transformers_version="4.41.0", use_cache=True, **INTERNLM)
        entry = published(name, "internlm2", "InternLM2ForCausalLM", **config)
        rope = {"rope_theta": 1000000.0, "rope_type": "default"}
        if scaling:
            rope |= {"rope_type": scaling["type"], "factor": scaling["factor"]}
        return entry | {"reference": as_llama(entry["config"], groups, bias, rope), "pack": pack, "unpack": unpack}
    yield model("", False, None)
    yield model("with biases", True, {"type": "linear", "factor": 4.0})
    yield model("dynamic", True, {"type": "dynamic", "factor": 3.0})
    yield model("beyond its length", False, {"type": "dynamic", "factor": 3.0}) | {"tokens": LONG}


PHI3 = dict(hidden_size=32, intermediate_size=44, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            pad_token_id=0)
LONGROPE = {"type": "longrope", "short_factor": [1.0, 1.1, 1.2], "long_factor": [1.5, 3.0, 7.0]}


def phi3():
    yield plain("plain", "phi3", **PHI3)
    for name, original in ("short factors", 16), ("short factors to the last token", 13), ("long factors", 8):
        yield plain(name, "phi3", max_position_embeddings=64, original_max_position_embeddings=original,
                    partial_rotary_factor=0.75, rope_scaling=dict(LONGROPE), **PHI3)
    yield plain("window", "phi3", sliding_window=4, **PHI3)
    old = dict(attention_bias=False, attention_dropout=0.0, bos_token_id=1, embd_pdrop=0.0, eos_token_id=2,
               hidden_act="silu", initializer_range=0.02, resid_pdrop=0.0, rms_norm_eps=1e-5, rope_theta=10000.0,
               transformers_version="4.40.2", use_cache=True, **PHI3)
    auto = {"AutoConfig": "configuration_phi3.Phi3Config", "AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"}
    yield published("4k", "phi3", "Phi3ForCausalLM", auto_map=auto, max_position_embeddings=40, rope_scaling=None,
                    original_max_position_embeddings=40, sliding_window=7, tie_word_embeddings=False, **old)
    # All of the head turns here: four factors. (The first upload said "su", which transformers 5.23 refuses.)
    whole = {"type": "longrope", "short_factor": [1.0, 1.1, 1.2, 1.4], "long_factor": [1.5, 3.0, 5.0, 7.0]}
    yield published("128k", "phi3", "Phi3ForCausalLM", auto_map=auto, max_position_embeddings=64, rope_scaling=whole,
                    original_max_position_embeddings=8, sliding_window=262144, tie_word_embeddings=False, **old)
    yield published("4 mini", "phi3", "Phi3ForCausalLM", auto_map=auto, full_attn_mod=1, interpolate_factor=1,
                    lm_head_bias=False, max_position_embeddings=64, mlp_bias=False, original_max_position_embeddings=16,
                    partial_rotary_factor=0.75, rope_scaling=dict(LONGROPE), sliding_window=262144,
                    tie_word_embeddings=True, **old)


GPT2 = dict(n_embd=24, n_layer=2, n_head=3, n_positions=40, n_inner=52)


def gpt2():
    yield plain("plain", "gpt2", **GPT2)
    yield plain("scores by block", "gpt2", scale_attn_by_inverse_layer_idx=True, **GPT2)
    # Names without the prefix, beside masks that nobody reads.
    yield published("", "gpt2", "GPT2LMHeadModel", activation_function="gelu_new", attn_pdrop=0.1, bos_token_id=50,
                    embd_pdrop=0.1, eos_token_id=50, initializer_range=0.02, layer_norm_epsilon=1e-5, n_ctx=40, n_embd=24,
                    n_head=3, n_layer=2, n_positions=40, resid_pdrop=0.1, summary_activation=None,
                    summary_first_dropout=0.1, summary_proj_to_labels=True, summary_type="cls_index",
                    summary_use_proj=True, task_specific_params={"text-generation": {"do_sample": True, "max_length": 50}},
                    ) | {
        "names": lambda name: name.removeprefix("transformer."), "idle": r"\.attn\.bias$",
        "more": {f"h.{i}.attn.bias": [1, 1, 40, 40] for i in range(2)}}


def gpt_neox():
    sizes = dict(hidden_size=48, intermediate_size=52, num_hidden_layers=2, num_attention_heads=3)
    yield plain("plain", "gpt_neox", **sizes)
    yield plain("sequential", "gpt_neox", use_parallel_residual=False, **sizes)
    yield plain("whole head turned", "gpt_neox", rotary_pct=1.0, rotary_emb_base=500, **sizes)
    yield plain("no attention biases", "gpt_neox", attention_bias=False, **sizes)
    yield published("", "gpt_neox", "GPTNeoXForCausalLM", bos_token_id=0, eos_token_id=0, hidden_act="gelu",
                    initializer_range=0.02, layer_norm_eps=1e-5, max_position_embeddings=40, rotary_emb_base=10000,
                    rotary_pct=0.25, tie_word_embeddings=False, transformers_version="4.24.0", use_cache=True,
                    use_parallel_residual=True, **sizes) | {
        "idle": r"attention\.(bias|masked_bias)$",
        "more": {f"gpt_neox.layers.{i}.attention.bias": [1, 1, 40, 40] for i in range(2)}
        | {f"gpt_neox.layers.{i}.attention.masked_bias": [] for i in range(2)}}


def bloom():
    yield plain("3 heads", "bloom", hidden_size=24, n_layer=2, n_head=3)
    yield plain("2 heads", "bloom", hidden_size=24, n_layer=2, n_head=2)
    yield plain("12 heads", "bloom", hidden_size=48, n_layer=2, n_head=12)
    yield plain("residual after the norm", "bloom", hidden_size=24, n_layer=2, n_head=3,
                apply_residual_connection_post_layernorm=True)
    yield published("", "bloom", "BloomForCausalLM", apply_residual_connection_post_layernorm=False,
                    attention_dropout=0.0, attention_softmax_in_fp32=True, bias_dropout_fusion=True, bos_token_id=1,
                    eos_token_id=2, pad_token_id=3, unk_token_id=0, hidden_dropout=0.0, initializer_range=0.02,
                    layer_norm_epsilon=1e-5, masked_softmax_fusion=True, n_embed=24, n_inner=None, n_layer=2,
                    num_attention_heads=4, offset_alibi=100, pretraining_tp=1, seq_length=2048, skip_bias_add=True,
                    skip_bias_add_qkv=False, transformers_version="4.20.0", use_cache=True) | {
        "names": lambda name: name.removeprefix("transformer.")}


FOUR = dict(vocab_size=48, hidden_size=24, intermediate_size=44, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
            pad_token_id=0)
TWO = FOUR | dict(num_hidden_layers=2)
OLD = dict(attention_dropout=0.0, bos_token_id=1, eos_token_id=2, hidden_act="silu", initializer_range=0.02,
           transformers_version="4.44.0", use_cache=True)


def smollm3():
    yield plain("plain", "smollm3", **FOUR)
    yield plain("window in blocks without rotary", "smollm3", use_sliding_window=True, sliding_window=3, **FOUR)
    yield plain("dynamic", "smollm3", max_position_embeddings=8, rope_scaling={"rope_type": "dynamic", "factor": 2.0},
                **FOUR)
    yield plain("llama3", "smollm3", max_position_embeddings=80, rope_theta=100.0,
                rope_scaling={"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                              "original_max_position_embeddings": 20}, **FOUR)
    yield plain("other blocks without rotary", "smollm3", no_rope_layers=[0, 1, 0, 1], **FOUR)
    yield published("", "smollm3", "SmolLM3ForCausalLM", attention_bias=False, layer_types=["full_attention"] * 4,
                    max_position_embeddings=40, max_window_layers=28, mlp_bias=False, no_rope_layer_interval=4,
                    no_rope_layers=[1, 1, 1, 0], pretraining_tp=2, rms_norm_eps=1e-6, rope_scaling=None,
                    rope_theta=5000000.0, sliding_window=None, use_sliding_window=False, **OLD, **FOUR)


def olmo2():
    yield plain("plain", "olmo2", **TWO)
    yield plain("attention biases", "olmo2", attention_bias=True, **TWO)
    yield published("", "olmo2", "Olmo2ForCausalLM", attention_bias=False, max_position_embeddings=40, rms_norm_eps=1e-6,
                    rope_scaling=None, rope_theta=500000, tie_word_embeddings=False, **OLD, **TWO)


def olmo3():
    yarn = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 6, "attention_factor": 1.2}
    yield plain("plain", "olmo3", sliding_window=5, **FOUR)
    yield plain("yarn", "olmo3", sliding_window=5, max_position_embeddings=48, rope_scaling=yarn, **FOUR)
    old = dict(attention_bias=False, max_position_embeddings=48, rms_norm_eps=1e-6, sliding_window=5,
               layer_types=["sliding_attention"] * 3 + ["full_attention"], tie_word_embeddings=False, **OLD, **FOUR)
    yield published("", "olmo3", "Olmo3ForCausalLM", rope_theta=500000,
                    rope_scaling=yarn | {"beta_fast": 32.0, "beta_slow": 1.0}, **old)
    # The theta is that of full blocks only.
    yield published("with another theta", "olmo3", "Olmo3ForCausalLM", rope_theta=100, rope_scaling=None, **old)


def granite():
    factors = dict(embedding_multiplier=12.0, attention_multiplier=0.2, residual_multiplier=0.3, logits_scaling=5.0)
    yield plain("plain", "granite", **factors, **TWO)
    yield plain("no factors", "granite", **TWO)
    yield plain("biases", "granite", attention_bias=True, mlp_bias=True, **factors, **TWO)
    yield published("", "granite", "GraniteForCausalLM", attention_bias=False, max_position_embeddings=40, mlp_bias=False,
                    rms_norm_eps=1e-5, rope_scaling=None, rope_theta=10000000.0, tie_word_embeddings=True, **factors,
                    **OLD, **TWO)


def glm(type="glm", architecture="GlmForCausalLM"):
    yield plain("plain", type, head_dim=12, **TWO)
    yield plain("odd rotary width", type, head_dim=10, **TWO)
    yield plain("no biases", type, head_dim=12, attention_bias=False, **TWO)
    yield published("", type, architecture, attention_bias=True, head_dim=12, max_position_embeddings=40,
                    partial_rotary_factor=0.5, rms_norm_eps=1.5625e-7, rope_theta=10000.0, tie_word_embeddings=False,
                    **OLD, **TWO)


def glm4():
    yield from glm("glm4", "Glm4ForCausalLM")


def cohere():
    yield plain("norms of queries and keys", "cohere", use_qk_norm=True, **TWO)
    yield plain("no norms of queries and keys", "cohere", use_qk_norm=False, **TWO)
    yield plain("attention biases", "cohere", attention_bias=True, **TWO)
    yield published("", "cohere", "CohereForCausalLM", attention_bias=False, layer_norm_eps=1e-5, logit_scale=0.8333,
                    max_position_embeddings=40, rope_theta=75000000.0, use_qk_norm=True, **OLD, **TWO)


def cohere2():
    yield plain("plain", "cohere2", sliding_window=5, **FOUR)
    yield plain("every second block full", "cohere2", sliding_window=5, sliding_window_pattern=2, **FOUR)
    yield plain("full blocks only", "cohere2", sliding_window=5, layer_types=["full_attention"] * 4, **FOUR)
    yield published("", "cohere2", "Cohere2ForCausalLM", attention_bias=False, cache_implementation="hybrid", head_dim=6,
                    layer_norm_eps=1e-5, logit_scale=0.25, max_position_embeddings=40,
                    order_of_interleaved_layers="local_attn_first", position_embedding_type="rope_gptj",
                    rope_scaling=None, rope_theta=50000, rotary_pct=1.0, sliding_window=5, sliding_window_pattern=4,
                    use_embedding_sharing=True, use_gated_activation=True, use_parallel_block=True,
                    use_parallel_embedding=True, **OLD, **FOUR)


def stablelm():
    sizes = dict(vocab_size=48, hidden_size=32, intermediate_size=44, num_hidden_layers=2, num_attention_heads=4,
                 num_key_value_heads=2)
    yield plain("biases and norms", "stablelm", use_qkv_bias=True, qk_layernorm=True, **sizes)
    yield plain("parallel", "stablelm", use_qkv_bias=True, use_parallel_residual=True, qk_layernorm=False, **sizes)
    yield plain("nothing extra", "stablelm", **sizes)
    old = dict(hidden_dropout=0.0, layer_norm_eps=1e-5, max_position_embeddings=40, partial_rotary_factor=0.25,
               rope_theta=10000, tie_word_embeddings=False, use_qkv_bias=True, **OLD, **sizes)
    yield published("", "stablelm", "StableLmForCausalLM", **old)
    yield published("12b", "stablelm", "StableLmForCausalLM", qk_layernorm=True, use_parallel_residual=True,
                    **old | dict(use_qkv_bias=False))


# MARK: mixtures of experts

def mixtral():
    sizes = dict(vocab_size=48, hidden_size=24, intermediate_size=20, num_hidden_layers=2, num_local_experts=3,
                 num_experts_per_tok=2, num_attention_heads=3, num_key_value_heads=1)
    yield plain("plain", "mixtral", **sizes)
    yield plain("window", "mixtral", sliding_window=4, **sizes)
    yield published("", "mixtral", "MixtralForCausalLM", max_position_embeddings=40, output_router_logits=False,
                    rms_norm_eps=1e-5, rope_theta=1000000.0, router_aux_loss_coef=0.02, sliding_window=None,
                    tie_word_embeddings=False, **OLD, **sizes)


def qwen2_moe():
    router = {"scales": {r"mlp\.gate\.weight$": 1.5}}  # no near ties
    sizes = QWEN2 | dict(vocab_size=48, num_hidden_layers=3, moe_intermediate_size=20,
                         shared_expert_intermediate_size=28, num_experts=4, num_experts_per_tok=3)
    yield plain("plain", "qwen2_moe", **sizes) | router
    yield plain("normalized, some dense blocks, window", "qwen2_moe", norm_topk_prob=True, decoder_sparse_step=2,
                use_sliding_window=True, sliding_window=3, max_window_layers=2, qkv_bias=False, **sizes) | router
    yield published("", "qwen2_moe", "Qwen2MoeForCausalLM", decoder_sparse_step=1, max_position_embeddings=40,
                    max_window_layers=2, mlp_only_layers=[0], norm_topk_prob=False, output_router_logits=False,
                    rms_norm_eps=1e-6, rope_theta=1000000.0, router_aux_loss_coef=0.001, sliding_window=4,
                    tie_word_embeddings=False, use_sliding_window=False, **OLD, **sizes) | router


def qwen3_moe():
    router = {"scales": {r"mlp\.gate\.weight$": 1.5}, "tokens": LONG[:16]}  # no expert without tokens
    sizes = dict(vocab_size=48, moe_intermediate_size=20, num_experts_per_tok=2, **QWEN3)
    yield plain("one block of experts", "qwen3_moe", num_hidden_layers=4, num_experts=5, norm_topk_prob=True,
                decoder_sparse_step=2, mlp_only_layers=[3], **sizes) | router
    yield plain("not normalized, biases, window", "qwen3_moe", num_hidden_layers=2, num_experts=5, norm_topk_prob=False,
                attention_bias=True, use_sliding_window=True, sliding_window=3, **sizes) | router
    yield published("", "qwen3_moe", "Qwen3MoeForCausalLM", attention_bias=False, decoder_sparse_step=1,
                    max_position_embeddings=40, max_window_layers=2, mlp_only_layers=[], norm_topk_prob=True,
                    num_experts=5, num_hidden_layers=2, output_router_logits=False, rms_norm_eps=1e-6, rope_scaling=None,
                    rope_theta=1000000.0, router_aux_loss_coef=0.001, sliding_window=None, tie_word_embeddings=False,
                    use_sliding_window=False, **OLD, **sizes) | router


def gpt_oss():
    sizes = dict(vocab_size=48, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_local_experts=4,
                 num_experts_per_tok=2, num_attention_heads=4, num_key_value_heads=2, head_dim=10, sliding_window=5)
    yield plain("rope of the defaults", "gpt_oss", **sizes)
    yield plain("low limit", "gpt_oss", swiglu_limit=0.3, **sizes)
    yield plain("yarn of a short original length", "gpt_oss", max_position_embeddings=40, rope_scaling={
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 10, "beta_fast": 1.5, "beta_slow": 0.5,
        "truncate": False}, **sizes)
    yield published("", "gpt_oss", "GptOssForCausalLM", attention_bias=True, attention_dropout=0.0, eos_token_id=2,
                    experts_per_token=2, hidden_act="silu", initial_context_length=4096, initializer_range=0.02,
                    layer_types=["sliding_attention", "full_attention"], max_position_embeddings=131072,
                    output_router_logits=False, pad_token_id=1, rms_norm_eps=1e-5,
                    rope_scaling={"beta_fast": 32.0, "beta_slow": 1.0, "factor": 32.0,
                                  "original_max_position_embeddings": 4096, "rope_type": "yarn", "truncate": False},
                    rope_theta=150000, router_aux_loss_coef=0.9, swiglu_limit=7.0, tie_word_embeddings=False,
                    transformers_version="4.55.0.dev0", use_cache=True, **sizes)

    def packed(shapes):
        out = {}
        for name, shape in shapes.items():
            if name.endswith(("experts.gate_up_proj", "experts.down_proj")):
                experts, inputs, outputs = shape
                out[name + "_blocks"] = [experts, outputs, inputs // 32, 16]
                out[name + "_scales"] = [experts, outputs, inputs // 32]
            else:
                out[name] = shape
        return out
    quantization = {"quant_method": "mxfp4", "modules_to_not_convert": [
        "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]}
    entry = published("mxfp4", "gpt_oss", "GptOssForCausalLM", attention_bias=True, eos_token_id=2,
                      max_position_embeddings=131072, pad_token_id=1, rope_theta=150000,
                      rope_scaling={"beta_fast": 32.0, "beta_slow": 1.0, "factor": 32.0,
                                    "original_max_position_embeddings": 4096, "rope_type": "yarn", "truncate": False},
                      transformers_version="4.55.0.dev0", **sizes | {"intermediate_size": 64})
    written = entry["config"] | {"quantization_config": quantization}
    yield entry | {"blank": entry["config"], "config": written, "pack": packed}


# MARK: several kinds of blocks

def gemma4():
    sizes = dict(vocab_size=48, hidden_size=24, intermediate_size=44, num_attention_heads=4, num_key_value_heads=2,
                 head_dim=8, global_head_dim=16, sliding_window=5)
    six = dict(num_hidden_layers=6, hidden_size_per_layer_input=0, **sizes)
    alternating = ["sliding_attention", "full_attention"]
    four = six | dict(num_hidden_layers=4, layer_types=alternating * 2)
    two = six | dict(num_hidden_layers=2, layer_types=alternating)
    router = {"scales": {r"router\.proj\.weight$": 3}}  # no near ties
    # The last block's factor vanishes in the norm behind it.
    last = {n: {"idle": rf"layers\.{n - 1}\.layer_scalar$"} for n in (2, 4, 6)}
    yield plain("plain", "gemma4_text", **six) | last[6]
    shared = dict(hidden_size_per_layer_input=6, vocab_size_per_layer_input=48, num_kv_shared_layers=2,
                  use_double_wide_mlp=True, layer_types=alternating * 3, final_logit_softcapping=9.0)
    yield plain("inputs per block, shared caches", "gemma4_text", **six | shared) | last[6]
    yield plain("values are keys", "gemma4_text", attention_k_eq_v=True, num_global_key_value_heads=1, **four) | last[4]
    yield plain("experts", "gemma4_text", enable_moe_block=True, num_experts=4, top_k_experts=2,
                moe_intermediate_size=12, **two) | router | last[2]
    yield published("", "gemma4_text", "Gemma4ForCausalLM", attention_bias=False, attention_dropout=0.0,
                    attention_k_eq_v=True, bos_token_id=2, enable_moe_block=True, eos_token_id=1,
                    final_logit_softcapping=30.0, hidden_activation="gelu_pytorch_tanh", initializer_range=0.02,
                    max_position_embeddings=262144, moe_intermediate_size=12, num_experts=4,
                    num_global_key_value_heads=1, num_kv_shared_layers=0, pad_token_id=0, rms_norm_eps=1e-6,
                    rope_parameters={
                        "full_attention": {"partial_rotary_factor": 0.25, "rope_theta": 1000000.0,
                                           "rope_type": "proportional"},
                        "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"}},
                    tie_word_embeddings=True, top_k_experts=2, transformers_version="5.5.0", use_bidirectional_attention=None,
                    use_cache=True, use_double_wide_mlp=False, vocab_size_per_layer_input=48, **two) | router | last[2]
    # Inside its wrapper, with projections that the blocks of shared caches do not use.
    text = six | shared | dict(
        model_type="gemma4_text", num_hidden_layers=4, layer_types=alternating * 2, dtype="float32", rms_norm_eps=1e-6,
        attention_k_eq_v=False, enable_moe_block=False, num_experts=None, top_k_experts=None, moe_intermediate_size=None,
        num_global_key_value_heads=None, tie_word_embeddings=True, use_bidirectional_attention=None,
        rope_parameters={
            "full_attention": {"partial_rotary_factor": 0.25, "rope_theta": 1000000.0, "rope_type": "proportional"},
            "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"}})
    wrapper = dict(
        model_type="gemma4", architectures=["Gemma4ForConditionalGeneration"], audio_config=None, boi_token_id=1,
        eoi_token_id=2, image_token_id=3, video_token_id=4, eos_token_id=[1, 106], tie_word_embeddings=True,
        transformers_version="5.5.0", text_config=text,
        vision_config=dict(model_type="gemma4_vision", hidden_size=8, intermediate_size=12, num_hidden_layers=1,
                           num_attention_heads=2, num_key_value_heads=2, head_dim=4, patch_size=2,
                           position_embedding_size=8, pooling_kernel_size=1))
    more = {}
    for block, size in ((2, 8), (3, 16)):
        path = f"model.language_model.layers.{block}.self_attn."
        more |= {path + "k_proj.weight": [2 * size, 24], path + "v_proj.weight": [2 * size, 24],
                 path + "k_norm.weight": [size]}
    yield {"name": "published wrapper", "verbatim": True, "config": wrapper, "auto": AutoModelForImageTextToText,
           "more": more,
           "idle": r"^model\.(vision_tower|embed_vision)\.|\.[23]\.self_attn\.(k_|v_)|layers\.3\.layer_scalar$"}


def qwen3_5():
    one = {"one_plus": r"^(?!.*linear_attn\.norm).*norm"}
    sizes = dict(vocab_size=48, hidden_size=24, intermediate_size=44, num_attention_heads=4, num_key_value_heads=2,
                 head_dim=16, linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=6,
                 linear_value_head_dim=10, num_hidden_layers=4)
    experts = dict(moe_intermediate_size=12, shared_expert_intermediate_size=14, num_experts=4, num_experts_per_tok=2)
    yield plain("dense", "qwen3_5_text", **sizes) | one
    yield plain("longer than a chunk", "qwen3_5_text", **sizes) | one | {"tokens": LONG + LONG[::-1]}
    moe = {k: v for k, v in sizes.items() if k != "intermediate_size"} | dict(num_hidden_layers=2)
    yield plain("experts", "qwen3_5_moe_text", full_attention_interval=2, **experts, **moe) | one

    # As published: the experts of a block are in two tensors.
    def stack(shapes):
        stacked = {}
        for name, shape in shapes.items():
            if match := re.match(r"(.*\.experts)\.(\d+)\.(\w+)_proj\.weight$", name):
                path, expert, role = match.groups()
                if expert == "0" and role != "up":
                    rows = shape[0] * (2 if role == "gate" else 1)
                    tensor = path + (".gate_up_proj" if role == "gate" else ".down_proj")
                    stacked[tensor] = [experts["num_experts"], rows, shape[1]]
            else:
                stacked[name] = shape
        return stacked

    seeing = dict(image_token_id=1, video_token_id=2, vision_start_token_id=3, vision_end_token_id=4,
                  transformers_version="4.57.0.dev0")
    vision = dict(depth=1, hidden_size=8, intermediate_size=12, num_heads=2, out_hidden_size=24,
                  num_position_embeddings=4, patch_size=2, spatial_merge_size=1)
    mixed = dict(
        model_type="qwen3_5_moe", architectures=["Qwen3_5MoeForConditionalGeneration"], tie_word_embeddings=False,
        text_config=moe | experts | dict(
            model_type="qwen3_5_moe_text", dtype="float32", full_attention_interval=2, attn_output_gate=True,
            layer_types=["linear_attention", "full_attention"], mamba_ssm_dtype="float32", mlp_only_layers=[],
            mtp_num_hidden_layers=1, rms_norm_eps=1e-6, rope_parameters={
                "mrope_interleaved": True, "mrope_section": [1, 1, 0], "rope_type": "default",
                "rope_theta": 10000000, "partial_rotary_factor": 0.25}),
        vision_config=vision | dict(model_type="qwen3_5_moe"), **seeing)
    yield {"name": "published wrapper with experts", "verbatim": True, "config": mixed,
           "auto": AutoModelForImageTextToText, "pack": stack, "more": {"mtp.fc.weight": [24, 48]},
           "idle": r"^(model\.visual|mtp)\."} | one
    # Inside its wrapper, beside the part that sees and the block that drafts.
    text = sizes | dict(
        model_type="qwen3_5_text", dtype="float32", full_attention_interval=2, num_hidden_layers=2,
        layer_types=["linear_attention", "full_attention"], attn_output_gate=True, mamba_ssm_dtype="float32",
        mtp_num_hidden_layers=1, tie_word_embeddings=True, rms_norm_eps=1e-6,
        rope_parameters={"mrope_interleaved": True, "mrope_section": [1, 1, 0], "rope_type": "default",
                         "rope_theta": 10000000, "partial_rotary_factor": 0.25})
    wrapper = dict(
        model_type="qwen3_5", architectures=["Qwen3_5ForConditionalGeneration"], tie_word_embeddings=True,
        text_config=text, vision_config=vision | dict(model_type="qwen3_5"), **seeing)
    yield {"name": "published wrapper", "verbatim": True, "config": wrapper, "auto": AutoModelForImageTextToText,
           "more": {"mtp.fc.weight": [24, 48], "mtp.norm.weight": [24]}, "idle": r"^(model\.visual|mtp)\."} | one


FAMILIES = {
    family.__name__: family for family in (
        opt, llama, qwen2, qwen3, gemma3, gemma2, internlm, internlm2, phi3, gpt2, gpt_neox, bloom, smollm3, olmo2, olmo3,
        granite, glm, glm4, cohere, cohere2, stablelm, mixtral, qwen2_moe, qwen3_moe, gpt_oss, gemma4, qwen3_5)
}


# MARK: run

def read(folder):
    names = [n for n in os.listdir(folder) if n.endswith(".safetensors")]
    assert names == ["model.safetensors"], names
    return safetensors.numpy.load_file(os.path.join(folder, names[0]))


def load(config, tensors, auto):
    """The model of a folder of this config.json and these tensors."""
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "config.json"), "w") as file:
            json.dump(config, file)
        safetensors.numpy.save_file(tensors, os.path.join(folder, "model.safetensors"), {"format": "pt"})
        model, found = auto.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    for key in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        assert not found.get(key), (key, found[key])
    assert all(p.dtype == torch.float32 for p in model.parameters())
    return model.eval()


def saved(model):
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        with open(os.path.join(folder, "config.json")) as file:
            return json.load(file), read(folder)


def blank(config, auto):
    """The config.json and the tensors that transformers writes for a config."""
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "config.json"), "w") as file:
            json.dump(config, file)
        config = AutoConfig.from_pretrained(folder)
    return saved(auto.from_config(config, dtype=torch.float32))


def margin(model, tokens):
    """The smallest distance between the last expert chosen and the first one not chosen."""
    found, hooks = [], []
    for name, module in model.named_modules():
        if type(module).__name__.endswith("Router"):
            def hook(module, _, output):
                scores = torch.sort(output[0].float(), dim=-1, descending=True).values
                k = module.top_k if hasattr(module, "top_k") else module.config.top_k_experts
                found.append((scores[:, k - 1] - scores[:, k]).min().item())
            hooks.append(module.register_forward_hook(hook))
    model(torch.tensor([tokens]))
    for hook in hooks:
        hook.remove()
    return min(found, default=None)


def prefill(model, tokens):
    return model(torch.tensor([tokens]), use_cache=False).logits[0].float().numpy()


def steps(model, tokens):
    cache, rows = None, []
    for token in tokens:
        output = model(torch.tensor([[token]]), past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        rows.append(output.logits[0, 0].float().numpy())
    return np.stack(rows)


def difference(a, b):
    return float(np.abs(a - b).max() / np.abs(b).max())


class Tiny:
    """A model of the list above with its tensors."""

    def __init__(self, entry):
        self.entry = entry
        self.auto = entry.get("auto", AutoModelForCausalLM)
        vocabulary = entry["config"].get("text_config", entry["config"])["vocab_size"]
        self.tokens = [token % vocabulary for token in entry.get("tokens", TOKENS)]
        self.reference = entry.get("reference", entry["config"])  # what transformers runs
        written, tensors = blank(entry.get("blank", self.reference), self.auto)
        if not entry.get("verbatim"):
            self.reference = written
        self.config = entry["config"] if entry.get("verbatim") else written
        shapes = {name: list(t.shape) for name, t in tensors.items()}
        rename = entry.get("names", lambda name: name)
        shapes = {rename(name): shape for name, shape in shapes.items()} | entry.get("more", {})
        if "pack" in entry:
            shapes = entry["pack"](shapes)
        self.list = [[name, shape, *kind(name, shape, entry)] for name, shape in sorted(shapes.items())]
        self.tensors = {row[0]: values(*row) for row in self.list}

    def model(self, tensors):
        return load(self.reference, self.entry.get("unpack", lambda t: t)(tensors), self.auto)

    def fixture(self):
        model = self.model(self.tensors)
        if not any(key in self.entry for key in ("names", "pack", "more")):
            again = saved(model)[1]
            assert again.keys() == self.tensors.keys()
            assert all(np.array_equal(again[name], self.tensors[name]) for name in again)
        logits = prefill(model, self.tokens)
        assert np.isfinite(logits).all() and logits.dtype == f32
        gap, step = margin(model, self.tokens), difference(steps(model, self.tokens), logits)
        assert gap is None or gap > 1e-3, (self.entry["name"], "experts nearly tied", gap)
        print(f"  {self.entry['name']}: {logits.shape} largest {np.abs(logits).max():.3g} steps {step:.1e}"
              + (f" margin {gap:.2g}" if gap else ""), flush=True)
        return {
            "name": self.entry["name"], "config": self.config, "tensors": self.list, "tokens": self.tokens,
            "logits": base64.b64encode(logits.astype("<f4").tobytes()).decode(), "step_difference": float(f"{step:.1e}"),
        }

    def check(self):
        logits, bad = prefill(self.model(self.tensors), self.tokens), []
        for name, shape, kind, *_ in self.list:
            if kind == "bytes":
                changed = self.tensors[name] ^ 1
            else:
                changed = np.asarray(self.tensors[name] + values("check " + name, shape, kind, 0.2, 0))
            other = self.tensors | {name: changed}
            change = difference(prefill(self.model(other), self.tokens), logits)
            idle = re.search(self.entry.get("idle", "^$"), name) is not None
            if (change > 1e-6) == idle:
                bad.append(f"{name} {change:.1e}")
        print(f"  {self.entry['name']}: {len(self.list)} tensors" + "".join("\n    WRONG " + b for b in bad), flush=True)
        return not bad


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--check", action="store_true")
    arguments.add_argument("names", nargs="*")
    arguments = arguments.parse_args()
    folder = None if arguments.check else arguments.names.pop(0)
    fine = True
    for family in arguments.names or FAMILIES:
        print(family)
        models = [Tiny(entry) for entry in FAMILIES[family]()]
        assert len({m.entry["name"] for m in models}) == len(models)
        if arguments.check:
            fine = all([m.check() for m in models]) and fine
            continue
        head = f"Tests/Golden/families.py, transformers {transformers.__version__}, torch {torch.__version__}"
        with open(os.path.join(folder, family + ".json"), "w") as file:
            file.write('{"made_by":' + json.dumps(head) + ',"models":[\n')
            file.write(",\n".join(json.dumps(m.fixture(), sort_keys=True, separators=(",", ":")) for m in models))
            file.write("\n]}\n")
    raise SystemExit(0 if fine else "some tensors do not do what they should")


if __name__ == "__main__":
    main()
