"""Gradients of the parts of a decoder block and of whole blocks, for Tests/NibbleQuantizeTests/Fixtures/gradients.

Run with transformers 5.23.0, torch 2.13.0 and safetensors 0.8.0 on a CPU: python gradients.py FOLDER
All is computed in float64 by torch's automatic differentiation, from inputs that float32 holds exactly, and stored in
float32. Central differences in float64 check every gradient here except those of straight-through rounding, which has none:
those are compared with their formulas.

FILE.json lists the cases, FILE.safetensors holds their tensors as CASE/TENSOR, row-major float32. `g_v` is the gradient of v;
`g_y`, that of the output y, is given. T tokens, d channels of a head.

primitives.json, by kind of case:
norms      x, g_y, y, g_x [T, channels] or [T, heads, d]; w, g_w; b, g_b where has_bias. {name, kind ("rms", "layer"), eps,
           one_plus (factors are 1 + w), has_bias, per_head: a row is one head of one token, and w is [d], or [heads, d]}
           Compare row by row: their sizes differ by powers of ten, and one row is all zeros.
rotary     x, g_y, y, g_x [T, heads, d]; frequencies [pairs], radians; cos, sin [T, pairs], with the amplitude in them.
           {name, interleaved: pairs are (2i, 2i+1) and not (i, i+pairs), first: position of row 0, amplitude}
           Channels from 2 * pairs on pass.
gates      gate, up, g_y, y, g_gate, g_up [T, channels]. {name, activation ("silu", "gelu", "gelu_tanh", "relu", "relu2",
           "clamped"), gated}: y = act(gate) * up; where gated is false y = act(up) without gate. "clamped" has limit and
           slope: g = min(gate, limit), y = (clamp(up, -limit, limit) + 1) * g * sigmoid(slope * g).
attention  q, g_y, y, g_q [T, heads, d]; k, v, g_k, g_v [T, key_heads, d]; lse [heads, T]: log of the sum of the exponents
           of a row, sink included; sinks, g_sinks [heads] and slopes [heads] where the case has them. {name, heads,
           key_heads, head_size, scale, window, cap (null: none)}: u = scale * q k; u = cap * tanh(u / cap); u += slope * j;
           j <= i and i - j < window; softmax over the j and the sink; y = P v.
linears    x [T, K], w [N, K], b [N] where has_bias; w_scales [N, K / group], w_rounded [N, K]: int4 as it is stored, codes
           in -8...7, scale absmax / 7.5; x_scales [T], x_rounded [T, K] where rounds_inputs: int8 a token, absmax / 127 (scale
           1 for zeros), else x itself; y = x_rounded w_rounded^T + b; g_y, g_x, g_w, g_b with the rounding as identity,
           nothing masked.
           {name, group, has_bias, rounds_inputs, margin: least distance of a value to a tie, in steps}
scales     s [bands, groups]; codes, integers [N, K]; zeros [bands, groups] where has_zeros; w [N, K] = s (codes - zeros), a scale
           for band rows and group columns, the last of each may be shorter; g_w, g_s. {name, bits, band, group, has_zeros}
divergences x, b [rows, V]; y [rows] = T^2 KL(softmax(b / T) || softmax(x / T)); g_x: gradient of the sum of y. {name, temperature}
steps      start [n], gradients [steps, n], values [steps, n] after each step; first, second [n]: Adam's moments after the
           last. {name, kind ("adamw", "sign"), rates: one a step, decay, betas, epsilon}

blocks.json cases: {name, family, model: which of Tests/TinyModel/Families/FAMILY.json, block: index, tokens, prefix: of the
           block's tensors, frozen: its tensors without gradient (what the router chose and its weights are constants, and so
           is the gate of the shared expert in "qwen2_moe_frozen_shared"), loss, float32: largest difference of transformers'
           own gradients in float32, relative to the largest of each tensor}
states     [T, hidden], enters the block (float32 rounding of what the model gives for the tokens)
output     [T, hidden], leaves it
target     [T, hidden]; loss = mean((output - target)^2)
g_output, g_states; g/NAME for every tensor NAME of the block that has a gradient, in its shape in the checkpoint.
"""

import copy
import json
import math
import pathlib
import re
import sys

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from safetensors.numpy import save_file
from torch.overrides import TorchFunctionMode

from families import FAMILIES, LONG, Tiny, margin, saved

torch.set_grad_enabled(True)
f32, f64 = np.float32, np.float64


class Draw:
    """Random numbers that float32 holds, as float64."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)

    def normal(self, *shape, scale=1.0, offset=0.0):
        values = offset + scale * self.random.standard_normal(shape)
        return torch.tensor(values.astype(f32).astype(f64))

    def uniform(self, low, high, *shape):
        return torch.tensor(self.random.uniform(low, high, shape).astype(f32).astype(f64))


def rounded(tensor):
    return tensor.detach().float().double()


class Store:
    """The tensors of a file."""

    def __init__(self):
        self.tensors = {}

    def add(self, case, **tensors):
        for name, values in tensors.items():
            self.put(f"{case}/{name}", values.detach().numpy())

    def put(self, name, values):
        assert name not in self.tensors and values.dtype == f64 and np.isfinite(values).all(), name
        self.tensors[name] = np.ascontiguousarray(values, dtype=f32)

    def write(self, path):
        save_file(self.tensors, path)


# MARK: differentiation

def central(function, inputs, gradients, name, step=1e-5, limit=1e-7):
    """Compares gradients of a scalar with central differences along random directions, one input at a time."""
    random = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for key, value in inputs.items():
            direction = torch.randn(value.shape, generator=random, dtype=torch.float64)
            # Rows of other sizes are moved in proportion.
            size = value.abs().amax(dim=-1, keepdim=True) if value.dim() else value.abs()
            direction = direction * torch.where(size > 0, size, 1e-3)
            ends = [function(inputs | {key: value + sign * step * direction}) for sign in (1, -1)]
            found = (ends[0] - ends[1]) / (2 * step)
            terms = gradients[key] * direction
            error = (found - terms.sum()).abs() / terms.norm().clamp(min=1e-12)
            assert error < limit, (name, key, error.item(), found.item(), terms.sum().item())


def differentiate(function, inputs, g_y, name, check=True, **options):
    """y, and the gradient of every input."""
    leaves = {key: value.clone().requires_grad_() for key, value in inputs.items()}
    y = function(**leaves)
    found = torch.autograd.grad(y, list(leaves.values()), g_y)
    gradients = dict(zip(leaves, found))
    if check:
        central(lambda values: (function(**values) * g_y).sum(), inputs, gradients, name, **options)
    return y.detach(), {"g_" + key: value for key, value in gradients.items()}


# MARK: primitives

def norms(store, draw):
    cases = []

    def case(name, kind, shape, weight, eps, one_plus=False, has_bias=False):
        x = draw.normal(*shape)
        sizes = torch.tensor([1, 1e-4, 300, 0.02, 1, 0, 7], dtype=torch.float64)
        x = rounded(x * sizes.reshape(-1, *[1] * (len(shape) - 1)))
        if kind == "layer":
            x = rounded(x + 0.5 * sizes.reshape(-1, *[1] * (len(shape) - 1)))
        x[4, ..., 3] = 40
        inputs = {"x": x, "w": draw.normal(*weight, scale=0.5, offset=0 if one_plus else 1)}
        if has_bias:
            inputs["b"] = draw.normal(*weight)

        def function(x, w, b=0):
            factor = 1 + w if one_plus else w
            centered = x - x.mean(-1, keepdim=True) if kind == "layer" else x
            return centered * (centered.square().mean(-1, keepdim=True) + eps).rsqrt() * factor + b

        g_y = draw.normal(*shape)
        y, gradients = differentiate(function, inputs, g_y, name, limit=1e-6)
        if kind == "layer" and len(weight) == 1:
            theirs = F.layer_norm(x, weight, inputs["w"], inputs.get("b"), eps)
        elif len(weight) == 1:
            theirs = F.rms_norm(x, weight, 1 + inputs["w"] if one_plus else inputs["w"], eps)
        else:
            theirs = y
        assert (y - theirs).abs().max() < 1e-12
        store.add(name, **inputs, y=y, g_y=g_y, **gradients)
        cases.append(dict(name=name, kind=kind, eps=eps, one_plus=one_plus, has_bias=has_bias, per_head=len(shape) == 3))

    case("rms_norm", "rms", (7, 24), (24,), 1e-6)
    case("rms_norm_one_plus", "rms", (7, 24), (24,), 1e-5, one_plus=True)
    case("layer_norm", "layer", (7, 24), (24,), 1e-5, has_bias=True)
    case("layer_norm_without_bias", "layer", (7, 37), (37,), 1e-5)
    case("head_norm", "rms", (7, 3, 8), (8,), 1e-6)
    case("head_norm_one_plus", "rms", (7, 3, 10), (10,), 1e-6, one_plus=True)
    case("head_layer_norm", "layer", (7, 3, 8), (3, 8), 1e-5)
    return cases


def rotary(store, draw):
    cases = []

    def case(name, pairs, size, interleaved, first=0, amplitude=1.0):
        tokens, heads = 9, 3
        frequencies = torch.tensor((100.0 ** (-np.arange(pairs) / pairs)).astype(f32))
        # As transformers: the angle is a product in float.
        angles = (torch.arange(first, first + tokens).float()[:, None] * frequencies).double()
        cos, sin = rounded(amplitude * angles.cos()), rounded(amplitude * angles.sin())

        def function(x):
            turned, rest = x[..., : 2 * pairs], x[..., 2 * pairs:]
            a, b = (turned[..., ::2], turned[..., 1::2]) if interleaved else turned.chunk(2, dim=-1)
            c, s = cos[:, None], sin[:, None]
            a, b = a * c - b * s, b * c + a * s
            turned = torch.stack([a, b], dim=-1).flatten(-2) if interleaved else torch.cat([a, b], dim=-1)
            return torch.cat([turned, rest], dim=-1)

        x, g_y = draw.normal(tokens, heads, size), draw.normal(tokens, heads, size)
        y, gradients = differentiate(function, {"x": x}, g_y, name)
        store.add(name, x=x, frequencies=frequencies.double(), cos=cos, sin=sin, y=y, g_y=g_y, **gradients)
        cases.append(dict(name=name, interleaved=interleaved, first=first, amplitude=amplitude))

    case("rotary_halves", 4, 8, False)
    case("rotary_pairs", 4, 8, True)
    case("rotary_halves_partial", 3, 10, False, first=5)
    case("rotary_pairs_partial", 3, 10, True, first=5)
    case("rotary_halves_amplitude", 4, 8, False, amplitude=1.25)
    return cases


def gates(store, draw):
    activations = {
        "silu": F.silu,
        "gelu": F.gelu,
        "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
        "relu": F.relu,
        "relu2": lambda x: F.relu(x).square(),
    }
    cases = []
    # Away from zero, where ReLU has no derivative; and so large that a careless exponential overflows.
    extremes = torch.tensor([-100.0, -30, -12, -5, -1e-3, 1e-3, 5, 12, 30, 100], dtype=torch.float64)

    def values():
        x = draw.normal(5, 10, scale=2)
        x[0] = extremes
        return x

    def add(name, function, inputs, **more):
        g_y = draw.normal(5, 10)
        y, gradients = differentiate(function, inputs, g_y, name, step=1e-7, limit=1e-6)
        store.add(name, **inputs, y=y, g_y=g_y, **gradients)
        cases.append(dict(name=name, **more))

    for key, activation in activations.items():
        add(f"gated_{key}", lambda gate, up: activation(gate) * up, {"gate": values(), "up": draw.normal(5, 10)},
            activation=key, gated=True)
        add(f"plain_{key}", lambda up: activation(up), {"up": values()}, activation=key, gated=False)

    def clamped(limit, slope):
        def function(gate, up):
            gate, up = gate.clamp(max=limit), up.clamp(min=-limit, max=limit)
            return (up + 1) * (gate * torch.sigmoid(gate * slope))
        return function

    for limit, name in (7.0, "gated_clamped"), (0.75, "gated_clamped_low"):
        add(name, clamped(limit, 1.702), {"gate": values(), "up": draw.normal(5, 10, scale=4)},
            activation="clamped", gated=True, limit=limit, slope=1.702)
    return cases


def attention(store, draw):
    cases = []

    def case(name, heads, key_heads, tokens=13, size=8, window=None, cap=None, sinks=False, slopes=None, scale=None):
        scale = scale or float(f32(size**-0.5))
        i, j = torch.arange(tokens)[:, None], torch.arange(tokens)[None]
        hidden = j > i if window is None else (j > i) | (i - j >= window)
        slope = None if slopes is None else torch.tensor(slopes, dtype=torch.float64)

        def scores(q, k, sinks=None):
            u = scale * torch.einsum("ihd,jhd->hij", q, k.repeat_interleave(heads // key_heads, dim=1))
            if cap is not None:
                u = cap * torch.tanh(u / cap)
            if slope is not None:
                u = u + slope[:, None, None] * torch.arange(tokens)
            u = u.masked_fill(hidden, -torch.inf)
            if sinks is not None:
                u = torch.cat([u, sinks[:, None, None].expand(heads, tokens, 1)], dim=-1)
            return u

        def function(q, k, v, sinks=None):
            weights = scores(q, k, sinks).softmax(dim=-1)[..., :tokens]
            return torch.einsum("hij,jhd->ihd", weights, v.repeat_interleave(heads // key_heads, dim=1))

        inputs = dict(q=draw.normal(tokens, heads, size, scale=2), k=draw.normal(tokens, key_heads, size, scale=1.5),
                      v=draw.normal(tokens, key_heads, size))
        if sinks:
            inputs["sinks"] = draw.normal(heads, scale=2)
        g_y = draw.normal(tokens, heads, size)
        y, gradients = differentiate(function, inputs, g_y, name, limit=1e-6)
        lse = scores(inputs["q"], inputs["k"], inputs.get("sinks")).logsumexp(dim=-1)
        more = {} if slope is None else {"slopes": slope}
        store.add(name, **inputs, **more, y=y, lse=lse, g_y=g_y, **gradients)
        cases.append(dict(name=name, heads=heads, key_heads=key_heads, head_size=size, scale=scale, window=window, cap=cap))

    case("attention_1", 2, 2)
    case("attention_3", 6, 2)
    case("attention_8", 8, 1)
    case("attention_window", 6, 2, window=5)
    case("attention_cap", 6, 2, cap=2.0)
    case("attention_sinks", 6, 2, sinks=True)
    case("attention_alibi", 4, 4, slopes=[0.25, 0.0625, 0.015625, 0.00390625])
    case("attention_scale", 6, 2, scale=0.3125)
    case("attention_window_cap_sinks", 6, 2, window=4, cap=3.0, sinks=True)
    # More than one tile of keys, and tiles that the window empties.
    case("attention_long", 2, 1, tokens=150)
    case("attention_long_window_sinks", 2, 1, tokens=150, window=40, sinks=True)
    return cases


def linears(store, draw):
    cases = []

    def distance(values):
        """Least distance to a tie, in steps; the largest positive weight of a group lies on 7.5, which is 7 either way."""
        found = ((values - values.floor()) - 0.5).abs()
        return found[(values - 7.5).abs() > 1e-5].min().item()

    def scale(values, steps):
        peak = values.abs().amax(dim=-1, keepdim=True)
        return torch.where(peak > 0, rounded(peak / steps), 1)

    def case(name, group, has_bias, rounds_inputs, tokens=11, columns=32, rows=12):
        least = 0
        while least < 5e-4:
            x = draw.normal(tokens, columns) * torch.logspace(-2, 2, tokens, dtype=torch.float64)[:, None]
            parts = draw.normal(rows, columns // group, group, scale=0.3)
            # The largest magnitude is positive: a negative one lies on the edge between -8 and -7.
            parts = parts * parts.gather(-1, parts.abs().argmax(dim=-1, keepdim=True)).sign()
            x = rounded(x)
            parts[2, 1], x[3] = 0, 0
            w_scale, x_scale = scale(parts, 7.5), scale(x, 127)
            least = min(distance(parts / w_scale), distance(x / x_scale) if rounds_inputs else 1)
        w = parts.reshape(rows, columns)
        w_rounded = ((parts / w_scale).round().clamp(-8, 7) * w_scale).reshape(rows, columns)
        x_rounded = (x / x_scale).round().clamp(-127, 127) * x_scale if rounds_inputs else x

        def function(x, w, b=None):
            y = (x + (x_rounded - x).detach()) @ (w + (w_rounded - w).detach()).T
            return y if b is None else y + b

        inputs = {"x": x, "w": w} | ({"b": draw.normal(rows)} if has_bias else {})
        g_y = draw.normal(tokens, rows)
        y, gradients = differentiate(function, inputs, g_y, name, check=False)
        formulas = {"g_x": g_y @ w_rounded, "g_w": g_y.T @ x_rounded, "g_b": g_y.sum(0)}
        for key, value in gradients.items():
            assert (value - formulas[key]).abs().max() < 1e-12 * value.abs().max(), key
        more = dict(x_scales=x_scale[:, 0], x_rounded=x_rounded) if rounds_inputs else {}
        store.add(name, **inputs, w_scales=w_scale[..., 0], w_rounded=w_rounded, **more, y=y, g_y=g_y, **gradients)
        cases.append(dict(name=name, group=group, has_bias=has_bias, rounds_inputs=rounds_inputs,
                          margin=float(f"{least:.2g}")))

    case("w4", 16, False, False)
    case("w4a8", 16, True, True)
    case("w4a8_group_8", 8, True, True)
    return cases


def scales(store, draw):
    cases = []

    def case(name, bits, rows, columns, band, group, has_zeros):
        half = 1 << (bits - 1)
        bands, groups = -(-rows // band), -(-columns // group)
        codes = torch.tensor(draw.random.integers(-half, half, (rows, columns)).astype(f64))
        zeros = torch.tensor(draw.random.integers(-half, half, (bands, groups)).astype(f64))

        def spread(values):
            return values.repeat_interleave(band, 0)[:rows].repeat_interleave(group, 1)[:, :columns]

        def function(s):
            return spread(s) * (codes - spread(zeros) if has_zeros else codes)

        g_w = draw.normal(rows, columns)
        s = draw.uniform(0.01, 0.2, bands, groups)
        w, gradients = differentiate(function, {"s": s}, g_w, name)
        store.add(name, s=s, codes=codes, w=w, g_w=g_w, **gradients,
                  **(dict(zeros=zeros) if has_zeros else {}))
        cases.append(dict(name=name, bits=bits, band=band, group=group, has_zeros=has_zeros))

    case("scales_int4", 4, 12, 32, 1, 8, True)
    case("scales_int8", 8, 10, 24, 1, 24, False)
    case("scales_blocks", 8, 10, 20, 4, 8, False)
    return cases


def divergences(store, draw):
    cases = []

    def case(name, temperature, size):
        x, b = draw.normal(7, 50, scale=size), draw.normal(7, 50, scale=size)
        x[2] = b[2]

        def function(x):
            p, q = (F.log_softmax(values / temperature, -1) for values in (b, x))
            return temperature**2 * (p.exp() * (p - q)).sum(-1)

        y, gradients = differentiate(function, {"x": x}, torch.ones(7, dtype=torch.float64), name)
        store.add(name, x=x, b=b, y=y, **gradients)
        cases.append(dict(name=name, temperature=temperature))

    case("divergence", 1.0, 2)
    case("divergence_warm", 2.0, 4)
    case("divergence_large", 1.0, 30)
    return cases


def steps(store, draw):
    cases, n, count = [], 9, 5

    def gradients():
        g = draw.normal(count, n) * torch.logspace(-9, 2, n, dtype=torch.float64)
        g[:, 4] = 0
        g[2, 5] = 0
        return rounded(g)

    def adamw(name, rates, decay):
        start, g = draw.normal(n), gradients()
        theta = torch.nn.Parameter(start.clone())
        optimizer = torch.optim.AdamW([theta], lr=rates[0], weight_decay=decay)
        by_hand, m, v, values = start.clone(), 0, 0, []
        for t, (rate, row) in enumerate(zip(rates, g), 1):
            optimizer.param_groups[0]["lr"] = rate
            theta.grad = row.clone()
            optimizer.step()
            m, v = 0.9 * m + (1 - 0.9) * row, 0.999 * v + (1 - 0.999) * row**2
            by_hand = by_hand * (1 - rate * decay)
            by_hand = by_hand - rate * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
            assert (theta.detach() - by_hand).abs().max() < 1e-12
            values.append(theta.detach().clone())
        state = optimizer.state[theta]
        store.add(name, start=start, gradients=g, values=torch.stack(values), first=state["exp_avg"],
                  second=state["exp_avg_sq"])
        cases.append(dict(name=name, kind="adamw", rates=rates, decay=decay, betas=[0.9, 0.999], epsilon=1e-8))

    adamw("adamw", [1e-2] * count, 0.01)
    adamw("adamw_falling_rate", [1e-2 * (1 - t / count) for t in range(count)], 0.01)
    adamw("adamw_no_decay", [1e-2] * count, 0.0)
    start, g = draw.normal(n), gradients()
    rates = [(1 - t / count) / count for t in range(count)]
    values = torch.stack([start - sum(rates[s] * g[s].sign() for s in range(t + 1)) for t in range(count)])
    store.add("sign", start=start, gradients=g, values=values)
    cases.append(dict(name="sign", kind="sign", rates=rates, decay=0.0))
    return cases


# MARK: blocks

BLOCKS = [
    # name, family, model, block, modules whose outputs are constants
    ("llama", "llama", "plain", 1, None),
    ("llama_biases", "llama", "biases", 1, None),
    ("qwen3", "qwen3", "plain", 1, None),
    ("gemma3_window", "gemma3", "plain", 1, None),
    ("gemma3_full", "gemma3", "plain", 2, None),
    ("gemma2", "gemma2", "low caps and biases", 1, None),
    ("olmo2", "olmo2", "plain", 1, None),
    ("gpt_neox", "gpt_neox", "plain", 1, None),
    ("gpt_neox_sequential", "gpt_neox", "sequential", 1, None),
    ("phi3", "phi3", "window", 1, None),
    ("cohere", "cohere", "norms of queries and keys", 1, None),
    ("granite", "granite", "plain", 1, None),
    ("bloom", "bloom", "3 heads", 1, None),
    ("mixtral", "mixtral", "window", 1, r"\.gate$"),
    ("qwen2_moe", "qwen2_moe", "plain", 1, r"\.gate$"),
    ("qwen2_moe_frozen_shared", "qwen2_moe", "plain", 1, r"\.(gate|shared_expert_gate)$"),
    ("gpt_oss", "gpt_oss", "low limit", 1, r"\.router$"),
]
COUNT = 17


class Double(TorchFunctionMode):
    """Makes code that asks for float32 compute in float64."""

    def __torch_function__(self, function, types, arguments=(), options=None):
        if function is torch.Tensor.float:
            function = torch.Tensor.double
        change = lambda value: torch.float64 if value is torch.float32 else value
        return function(*map(change, arguments), **{k: change(v) for k, v in (options or {}).items()})


class Replay:
    """Outputs of some modules of a block as constants: those of the first run."""

    def __init__(self, block, pattern):
        self.outputs = {}
        for name, module in block.named_modules():
            if pattern and re.search(pattern, "." + name):
                module.register_forward_hook(self.hook(name))

    def hook(self, name):
        def run(module, _, output):
            if name not in self.outputs:
                detach = lambda value: value.detach().clone()
                self.outputs[name] = tuple(map(detach, output)) if isinstance(output, tuple) else detach(output)
            return self.outputs[name]
        return run


def first(output):
    return output[0] if isinstance(output, tuple) else output


def find(model, index):
    """The block, and its path in the model."""
    path, blocks = next((n, m) for n, m in model.named_modules() if re.search(r"(^|\.)(layers|h)$", n))
    return blocks[index], f"{path}.{index}."


def enter(model, index, tokens):
    """What enters a block: the states and the other arguments."""
    seen = {}

    def hook(module, arguments, options):
        seen.update(arguments=arguments, options=options)

    handle = find(model, index)[0].register_forward_pre_hook(hook, with_kwargs=True)
    with torch.no_grad():
        model(torch.tensor([tokens]), use_cache=False)
    handle.remove()
    options = dict(seen["options"])
    states = seen["arguments"][0] if seen["arguments"] else options.pop("hidden_states")
    return states, seen["arguments"][1:], options


def in_checkpoint(model, gradients, prefix):
    """Gradients by their names and in their shapes in the checkpoint, and the names of tensors that have none.

    A model is saved that has them as its weights.
    """
    carrier = copy.deepcopy(model)
    for name, parameter in carrier.named_parameters():
        found = gradients.get(name)
        parameter.data = torch.full_like(parameter, torch.nan) if found is None else found.detach().clone()
    tensors = {k: v for k, v in saved(carrier)[1].items() if k.startswith(prefix)}
    without = [k for k, v in tensors.items() if np.isnan(v).all()]
    return {k: v for k, v in tensors.items() if k not in without}, sorted(without)


def run(model, index, states, arguments, options, target, frozen, check):
    """Output, loss, gradients of the output, of the states and of parameters by their names in the model."""
    block, prefix = find(model, index)
    Replay(block, frozen)
    parameters = dict(block.named_parameters())
    states = states.clone().requires_grad_()

    def forward(states):
        return first(block(states, *arguments, **options))

    output = forward(states)
    assert output.shape == states.shape
    loss = (output - target).square().mean()
    wanted = {"states": states} | parameters
    found = torch.autograd.grad(loss, [output, *wanted.values()], allow_unused=True)
    g_output, gradients = found[0], dict(zip(wanted, found[1:]))
    if check:
        def value(inputs):
            changed = {k: v for k, v in inputs.items() if k != "states"}
            entering = (inputs["states"], *arguments)
            return (first(torch.func.functional_call(block, changed, entering, options)) - target).square().mean()
        inputs = {k: v.detach() for k, v in wanted.items() if gradients[k] is not None}
        central(value, inputs, gradients, prefix, limit=2e-6)
    g_states = gradients.pop("states")
    named = {prefix + k: v for k, v in gradients.items() if v is not None}
    return output.detach(), loss.item(), g_output, g_states, named


def blocks(store, draw):
    cases = []
    for name, family, model_name, index, frozen in BLOCKS:
        tiny = Tiny(next(entry for entry in FAMILIES[family]() if entry["name"] == model_name))
        vocabulary = tiny.config["vocab_size"]
        tokens = [token % vocabulary for token in LONG[:COUNT]]

        def loaded():
            model = tiny.model(tiny.tensors)
            if hasattr(model.config, "_experts_implementation"):
                model.config._experts_implementation = "eager"
            return model.requires_grad_()

        single = loaded()
        gap = margin(single, tokens)
        assert gap is None or gap > 1e-3, (name, "experts nearly tied", gap)
        wide = loaded().double()
        with Double():
            states, arguments, options = enter(wide, index, tokens)
            states = rounded(states)
            with torch.no_grad():
                scale = first(find(wide, index)[0](states, *arguments, **options)).std().item()
            target = draw.normal(*states.shape, scale=scale)
            output, loss, g_output, g_states, gradients = run(
                wide, index, states, arguments, options, target, frozen, True)
            path = find(wide, index)[1]
        ours = {"g_output": g_output[0].numpy(), "g_states": g_states[0].numpy()}
        named, constant = in_checkpoint(wide, gradients, path)
        assert bool(constant) == bool(frozen)
        ours |= {"g/" + k: v for k, v in named.items()}

        _, arguments, options = enter(single, index, tokens)
        again = run(single, index, states.float(), arguments, options, target.float(), frozen, False)
        theirs = {"g_output": again[2][0].numpy(), "g_states": again[3][0].numpy()}
        theirs |= {"g/" + k: v for k, v in in_checkpoint(single, again[4], path)[0].items()}
        assert ours.keys() == theirs.keys() and len(ours) > 2
        assert all(v.dtype == f64 for v in ours.values()) and all(v.dtype == f32 for v in theirs.values())
        errors = {k: np.abs(theirs[k] - v).max() / np.abs(v).max() for k, v in ours.items()}
        worst = max(errors, key=errors.get)
        sizes = [np.abs(v).max() for v in ours.values()]
        print(f"{name}: {len(ours) - 2} tensors, loss {loss:.3g}, largest gradients {min(sizes):.1e} to {max(sizes):.1e}, "
              f"float32 {errors[worst]:.1e} ({worst})", file=sys.stderr)
        assert errors[worst] < 1e-4
        store.add(name, states=states[0], output=output[0], target=target[0])
        for key, values in ours.items():
            store.put(f"{name}/{key}", values)
        cases.append(dict(
            name=name, family=family, model=model_name, block=index, tokens=tokens, prefix=path, frozen=constant,
            loss=loss, float32=float(f"{errors[worst]:.1e}")))
    return cases


# MARK: writing

def main(folder):
    folder = pathlib.Path(folder)
    head = f"Tests/Golden/gradients.py, transformers {transformers.__version__}, torch {torch.__version__}"

    def write(name, store, content):
        text = json.dumps(dict(made_by=head, **content), separators=(",", ":"), allow_nan=False)
        text = text.replace('},{"', '},\n{"').replace('[{"', '[\n{"')
        (folder / f"{name}.json").write_text(text + "\n")
        store.write(folder / f"{name}.safetensors")

    store = Store()
    kinds = (norms, rotary, gates, attention, linears, steps, scales, divergences)
    write("primitives", store, {
        kind.__name__: kind(store, Draw(30 + seed)) for seed, kind in enumerate(kinds)})
    store = Store()
    write("blocks", store, {"cases": blocks(store, Draw(40))})


main(*sys.argv[1:])
