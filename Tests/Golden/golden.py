"""Logits of tiny models as transformers computes them, for Tests/NibbleQuantizeTests/GoldenLogits.swift.

Run with transformers 5.23.0 and torch 2.13.0 (CPU): python golden.py > GoldenLogits.swift
The weights are those of Tests/TinyModel, whose generator is repeated here: nothing is read from disk.
"""

import numpy as np
import torch
import transformers

f32 = np.float32
TOKENS = [3, 1, 4, 1, 5, 9, 2, 6]

PLAIN = dict(
    blocks=2, hidden=32, intermediate=40, heads=4, keyHeads=2, headSize=8, vocabulary=13, tiesHead=False,
    seed=1, biases=False, type="llama", extra={},
)
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
MODELS = {
    "plain": {},
    "headSizeOfItsOwn": dict(hidden=24, heads=3, keyHeads=1, headSize=10, tiesHead=True, seed=2),
    "biases": dict(heads=2, keyHeads=2, headSize=16, biases=True, seed=3,
                   extra={"attention_bias": True, "mlp_bias": True}),
    "llama3Rope": dict(seed=4, extra={"rope_scaling": LLAMA3}),
    "linearRope": dict(seed=5, extra={"rope_scaling": {"rope_type": "linear", "factor": 2.0}}),
    "slidingWindow": dict(seed=6, type="mistral", extra={"sliding_window": 3}),
}


class TinyRandom:
    def __init__(self, state):
        self.state = state

    def next(self):
        self.state = (self.state * 6_364_136_223_846_793_005 + 1_442_695_040_888_963_407) % 2**64
        return f32(self.state >> 33) / f32(2**30) - f32(1)


def shapes(m):
    hidden, wide, q, k = m["hidden"], m["intermediate"], m["heads"] * m["headSize"], m["keyHeads"] * m["headSize"]
    yield "model.embed_tokens.weight", [m["vocabulary"], hidden]
    for block in range(m["blocks"]):
        p = f"model.layers.{block}."
        yield p + "input_layernorm.weight", [hidden]
        yield p + "self_attn.q_proj.weight", [q, hidden]
        yield p + "self_attn.k_proj.weight", [k, hidden]
        yield p + "self_attn.v_proj.weight", [k, hidden]
        yield p + "self_attn.o_proj.weight", [hidden, q]
        yield p + "post_attention_layernorm.weight", [hidden]
        yield p + "mlp.gate_proj.weight", [wide, hidden]
        yield p + "mlp.up_proj.weight", [wide, hidden]
        yield p + "mlp.down_proj.weight", [hidden, wide]
    yield "model.norm.weight", [hidden]
    if not m["tiesHead"]:
        yield "lm_head.weight", [m["vocabulary"], hidden]


def biases(m):
    """Drawn after the weights, block by block, from a generator of their own."""
    for block in range(m["blocks"]):
        for name, shape in shapes(dict(m, blocks=block + 1)):
            if f"layers.{block}." in name and "_proj" in name:
                yield name.replace(".weight", ".bias"), [shape[0]]


def tensors(m):
    random, out = TinyRandom(m["seed"]), {}
    for name, shape in shapes(m):
        norm = len(shape) == 1
        spread = f32(0.1) if norm else f32(1.5) / np.sqrt(f32(shape[-1]))
        values = [f32(1 if norm else 0) + spread * random.next() for _ in range(int(np.prod(shape)))]
        out[name] = np.array(values, f32).astype(np.float16).astype(f32).reshape(shape)
    if m["biases"]:
        random = TinyRandom(m["seed"] + 100)
        for name, shape in biases(m):
            values = [f32(0.5) * random.next() for _ in range(shape[0])]
            out[name] = np.array(values, f32).astype(np.float16).astype(f32)
    return {name: torch.tensor(value) for name, value in out.items()}


def logits(m):
    config = dict(
        hidden_size=m["hidden"], intermediate_size=m["intermediate"], num_hidden_layers=m["blocks"],
        num_attention_heads=m["heads"], num_key_value_heads=m["keyHeads"], head_dim=m["headSize"],
        vocab_size=m["vocabulary"], rms_norm_eps=1e-05, rope_theta=10000.0, max_position_embeddings=512,
        tie_word_embeddings=m["tiesHead"], hidden_act="silu", **m["extra"])
    kind = {"llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
            "mistral": (transformers.MistralConfig, transformers.MistralForCausalLM)}[m["type"]]
    config = kind[0](**config)
    config._attn_implementation = "eager"
    model = kind[1](config).float().eval()
    state = tensors(m)
    if m["tiesHead"]:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state, strict=True)
    with torch.no_grad():
        return model(torch.tensor([TOKENS])).logits[0].float().numpy(), model


print("// Made by Tests/Golden/golden.py with transformers", transformers.__version__, "and torch",
      torch.__version__ + ".")
print("enum GoldenLogits {")
print(f"  static let tokens = {TOKENS}\n")
print("  /// `[8, 13]` by the name of the model.")
print("  static let logits: [String: [Float]] = [")
for name, changes in MODELS.items():
    values, model = logits({**PLAIN, **changes})
    print(f'    "{name}": [')
    for row in values:
        print("      " + ", ".join(f"{v:.6f}" for v in row[:7]) + ",")
        print("      " + ", ".join(f"{v:.6f}" for v in row[7:]) + ",")
    print("    ],")
print("  ]\n")
print("  /// `inv_freq` of transformers, head size 16, theta 10000, by kind of scaling.")
print("  static let frequencies: [String: [Float]] = [")
for name, extra in {"default": {}, "linear": MODELS["linearRope"]["extra"], "llama3": MODELS["llama3Rope"]["extra"]}.items():
    model = logits({**PLAIN, "headSize": 16, "extra": extra})[1]
    print(f'    "{name}": [')
    values = [f"{v:.9g}" for v in model.model.rotary_emb.inv_freq.tolist()]
    print("      " + ", ".join(values[:4]) + ",")
    print("      " + ", ".join(values[4:]) + ",")
    print("    ],")
print("  ]\n}")
