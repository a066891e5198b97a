"""What the reference implementations of the quantization methods make of small inputs, for
Tests/NibbleQuantizeTests/Fixtures/methods.

Run with Python 3.11, in an environment of its own:

    pip install torch==2.13.0 llmcompressor==0.14.0.1 brevitas==0.13.4 nvidia-modelopt==0.47.0
    pip install --no-deps autoawq==0.2.9 auto-gptq==0.7.1
    pip download --no-deps gptqmodel==7.7.0 && tar xf gptqmodel-7.7.0.tar.gz
    python methods.py gptqmodel-7.7.0 FOLDER

The first line brings compressed-tensors 0.19.0, transformers 5.17.0 and numpy 2.4.6. All arithmetic runs on one thread of
the CPU, so a second run writes the same bytes. Each file names its packages under `made_by`.

Arrays are base64 of little-endian numbers, row-major: `f16`, `f32`, `f64` or `i8` after the name here. Codes are signed:
`value = (code - zero) * scale`, with code in -2^(bits-1)...2^(bits-1)-1. K is 64 inputs, N 24 outputs, T 200 tokens.

inputs.json     weight f16 [24, 64]; inputs f16 [200, 64], the float model's; quantized_inputs f16 [200, 64], those of a
                model quantized up to here; wide_weight f16 [6, 144] and wide_inputs f16 [90, 144].
smooth.json     cases: [{reference, strength, mirrored, factors: [64]}]. Query, key and value are eight rows of the weight
                each; the split changes nothing. `mirrored`: the tokens are the inputs and their negatives, without which
                llm-compressor's ranges differ from magnitudes.
awq.json        cases: [{reference, bits, symmetric, group (0: channel), candidates: [{ratio, duo, factors f32 [64],
                loss}], chosen f32 [64]}]. Loss: mean squared error of the outputs of query, key and value, concatenated.
                clip: {codes i8, scales f32 [24, 4], zeros i8, clipped (share of groups), gap}: AutoAWQ's clip search on the
                weight and rounding to int4, asymmetric, in groups of 16. gap: how far the second best candidate of any
                group is behind, relative.
gptq.json       order, wide_order: columns by falling diag(H). cases: [{name, reference, input ("inputs", "wide" or "dead":
                channel 9 of the inputs is 0), bits, symmetric, group, ordered, searched (whether AutoGPTQ's grid search is
                on), damping, compares ("codes" or "loss"), codes i8 (empty for "loss"), scales f32, zeros i8 (empty when
                symmetric), loss, nearest_loss, margin, ties: [n]}].
                loss: tr(E H E^T) with H of all tokens, without damping, in float64. `ties[r]`: how many columns of row r, in
                the order of rounding, come before the first whose target lies within 1e-3 steps of the edge between two
                codes, as float64 has it; K when none does. `margin`: the least distance among the columns before.
                nearest_loss: that of rounding to nearest with the same kind of grid.
histogram.json  cases: [{name, values f16, low, high, scale, zero (of codes 0...255), least_loss}]: torch's
                HistogramObserver on one batch; least_loss: its estimate of the squared error with that range.
align.json      example: a 3 x 4 problem: weight; inputs and quantized_inputs as [4, 6], one row a channel; step 0.25, codes
                in -8...7; damping; wanted, W*; methods: {name: {codes [3, 4], reference, loss, refit: [3], refit_loss}},
                with loss ||W X - Q X~||^2 and one exact least-squares scale a row as refit.
                two_streams: for weight, inputs and quantized_inputs of inputs.json. order: columns by falling diag(H).
                by_damping: [{damping (a share of mean diag H), wanted f32 [24, 64]: W* = (W G + l W) (H + l I)^-1,
                unrounded_loss, cases: [entry], plain: entry}], entry: {symmetric, ordered, codes i8, scales f32, zeros i8,
                margin, ties, loss, refit f64 [24, 4], refit_loss}: GPTQ on W* (plain: on W) to int4 in groups of 16, and the
                closed-form scales of its codes toward W X, with a ridge of 1e-3 mean diag A toward the old ones.
                references: [{name, reference, codes i8, loss}] on grid: {scales f32 [24], zeros i8 [24]}, int4 asymmetric,
                one a row.

By numpy in float64, an independent implementation and no reference: `ties`, `margin`, `loss`, `wanted`, `refit`, and all of
`two_streams` but `references`. Everything else is executed code of the packages. What had to be replaced to run a piece by
itself is said at the place.
"""

import base64
import importlib.util
import json
import logging
import math
import pathlib
import sys
import types
import warnings
from types import SimpleNamespace

import numpy as np

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)

import torch  # noqa: E402
import transformers  # noqa: E402

torch.set_num_threads(1)
torch.set_grad_enabled(False)

N, K, T, GROUP, DAMPING = 24, 64, 200, 16, 0.01
TIE = 1e-3
f32, f64 = np.float32, np.float64


def b64(values, dtype):
    return base64.b64encode(np.ascontiguousarray(np.asarray(values), dtype).tobytes()).decode()


def floats(values):
    return [float(f"{v:.9g}") for v in np.asarray(values, f64).flatten()]


# ---------------------------------------------------------------------------------------------------------- the inputs


def activations(random, tokens, channels, loud):
    """Correlated channels of different sizes, some with outliers, some off zero."""
    latent = random.standard_normal((tokens, channels // 3)) @ random.standard_normal((channels // 3, channels))
    x = 0.25 * latent + 0.6 * random.standard_normal((tokens, channels))
    x *= np.exp(0.5 * random.standard_normal(channels))
    for channel, factor in loud.items():
        x[:, channel] *= factor
    x[:, 17] += 1.5
    return x.astype(np.float16)


def make_inputs():
    random = np.random.default_rng(2026)
    weight = (0.3 * random.standard_normal((N, K)) * np.exp(0.3 * random.standard_normal((N, 1)))).astype(np.float16)
    x = activations(random, T, K, {5: 12, 23: 20, 41: 30})
    step = np.abs(x.astype(f64)).max(axis=1, keepdims=True) / 127
    size = x.astype(f64).std(axis=0)
    drift = np.eye(K) + 0.01 * random.standard_normal((K, K))
    quantized = ((np.round(x.astype(f64) / step) * step / size) @ drift * size).astype(np.float16)
    wide_weight = random.standard_normal((6, 144)).astype(np.float16)
    wide = activations(random, 90, 144, {3: 10, 101: 25})
    return dict(weight=weight, inputs=x, quantized_inputs=quantized, wide_weight=wide_weight, wide_inputs=wide)


# ------------------------------------------------------------------------------------------- numpy float64, not a reference


def moments(x):
    x = np.asarray(x, f64)
    return x.T @ x


def grid(values, bits, symmetric):
    """Scale and zero of each row, the range widened to contain 0; codes are signed."""
    low, high = np.minimum(values.min(axis=1), 0), np.maximum(values.max(axis=1), 0)
    if symmetric:
        scale = np.maximum(-low, high) / ((2**bits - 1) / 2)
        zero = np.zeros_like(scale)
    else:
        scale = (high - low) / (2**bits - 1)
        zero = np.clip(np.round(-(2 ** (bits - 1)) - low / scale), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return scale, zero


def gptq64(weight, h, bits, symmetric, group, order, damping, grids=None):
    """GPTQ in float64: codes, scales and zeros [n, groups], and each row's distances to ties in the order of rounding.

    With groups and no order, a group's grid is found on its targets when it is reached; else on the weight.
    """
    w = np.array(weight, f64)
    n, k = w.shape
    span = group or k
    perm = np.arange(k) if order is None else np.asarray(order)
    h = h[np.ix_(perm, perm)] + damping * np.diag(h).mean() * np.eye(k)
    u = np.linalg.cholesky(np.linalg.inv(h)).T
    scales, zeros = np.zeros((n, k // span)), np.zeros((n, k // span))
    for g in range(k // span):
        scales[:, g], zeros[:, g] = grid(w[:, g * span:(g + 1) * span], bits, symmetric)
    if grids is not None:
        scales, zeros = (np.array(part, f64).reshape(n, -1) for part in grids)
    finds = order is None and group and grids is None
    t = w[:, perm].copy()
    codes, distance = np.zeros((n, k)), np.zeros((n, k))
    least, most = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    for j in range(k):
        g = perm[j] // span
        if finds and j % span == 0:
            scales[:, g], zeros[:, g] = grid(t[:, j:j + span], bits, symmetric)
        v = t[:, j] / scales[:, g] + zeros[:, g]
        q = np.clip(np.round(v), least, most)
        # An edge is half a step off an integer, and counts where both sides are codes.
        edge = np.floor(v) + 0.5
        distance[:, j] = np.where((edge > least) & (edge < most), np.abs(v - edge), 0.5)
        e = (t[:, j] - scales[:, g] * (q - zeros[:, g])) / u[j, j]
        t[:, j:] -= np.outer(e, u[j, j:])
        codes[:, perm[j]] = q
    return codes, scales, zeros, distance


def ties(distance):
    k = distance.shape[1]
    first = [int(np.argmax(row < TIE)) if (row < TIE).any() else k for row in distance]
    margin = min(row[:count].min() for row, count in zip(distance, first) if count > 0)
    return first, margin


def decode(codes, scales, zeros, group):
    span = group or codes.shape[1]
    scales, zeros = (np.repeat(np.asarray(part, f64).reshape(codes.shape[0], -1), span, axis=1) for part in (scales, zeros))
    return (codes - zeros) * scales


def energy(error, h):
    return float(np.einsum("nk,kl,nl->", error, h, error))


# -------------------------------------------------------------------------------------------------------- SmoothQuant


def smooth(data):
    from llmcompressor.modifiers.transform.smoothquant.base import SmoothQuantModifier
    import modelopt.torch.quantization as mtq

    x = torch.tensor(data["inputs"].astype(f32))
    weight = torch.tensor(data["weight"].astype(f32))
    cases = []
    for strength in [0.5, 0.8]:
        # llm-compressor: the modifier's own hook, scales and folding, on a norm that passes its input on.
        norm = torch.nn.Linear(K, K, bias=False)
        norm.weight.data = torch.eye(K)
        linears = torch.nn.ModuleList([torch.nn.Linear(K, 8, bias=False) for _ in range(3)])
        for index, linear in enumerate(linears):
            linear.weight.data = weight[8 * index:8 * index + 8].clone()
        model = torch.nn.ModuleDict({"norm": norm, "readers": linears})
        modifier = SmoothQuantModifier(smoothing_strength=strength, mappings=[[["re:.*readers.[0-9]"], "re:.*norm"]])
        modifier.resolved_mappings_ = modifier._resolve_mappings(model)
        modifier.scales_ = {}
        modifier._setup_scale_hooks()
        norm(torch.cat([x, -x]))
        modifier._apply_smoothing(model)
        factors = (linears[0].weight / weight[:8])[weight[:8].abs().argmax(0), torch.arange(K)]
        divided = 1 / norm.weight.diagonal()
        assert torch.allclose(factors, divided, rtol=1e-5)
        cases.append(dict(reference="llm-compressor", strength=strength, mirrored=True, factors=floats(divided)))

        # modelopt: magnitudes, one linear.
        model = torch.nn.Sequential(torch.nn.Linear(K, N, bias=False))
        model[0].weight.data = weight.clone()
        config = {"quant_cfg": mtq.INT8_SMOOTHQUANT_CFG["quant_cfg"], "algorithm": {"method": "smoothquant", "alpha": strength}}
        mtq.quantize(model, config, lambda m: m(x))
        factors = 1 / model[0].input_quantizer._pre_quant_scale
        cases.append(dict(reference="modelopt", strength=strength, mirrored=False, factors=floats(factors)))
    return cases


# ---------------------------------------------------------------------------------------------------------------- AWQ


class Readers(torch.nn.Module):
    """Query, key and value with their outputs side by side, in the place of the attention whose output AWQ compares."""

    def __init__(self, weight):
        super().__init__()
        for index, name in enumerate(["q_proj", "k_proj", "v_proj"]):
            linear = torch.nn.Linear(K, 8, bias=False)
            linear.weight.data = weight[8 * index:8 * index + 8].clone()
            setattr(self, name, linear)

    def forward(self, x):
        return torch.cat([self.q_proj(x), self.k_proj(x), self.v_proj(x)], dim=-1)

    def state_dict(self, *arguments, **named):
        # AutoAWQ keeps the weights with .cpu(), which copies them from a GPU. On the CPU it would keep an alias, which its
        # first candidate multiplies in place, and all others would start from scaled weights.
        return {name: value.clone() for name, value in super().state_dict(*arguments, **named).items()}

    @property
    def linears(self):
        return [self.q_proj, self.k_proj, self.v_proj]


class Parent(torch.nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.norm = torch.nn.LayerNorm(K, bias=False)
        self.attention = Readers(weight)


def spy(record):
    """Reads a candidate's scales from the frame of the running search, which keeps them to itself."""
    frame = sys._getframe(2).f_locals
    record.append((frame["ratio"], frame.get("use_duo_scaling"), frame["scales"].flatten().tolist()))


def auto_awq(data, duo):
    from awq.quantize.quantizer import AwqQuantizer

    seen = []

    class Quantizer(AwqQuantizer):
        def __init__(self):
            self.group_size, self.w_bit, self.zero_point, self.duo_scaling = GROUP, 4, True, duo
            self.max_chunk_memory, self.n_parallel_calib_samples = 1 << 30, None

        def _compute_loss(self, *arguments):
            loss = super()._compute_loss(*arguments)
            spy(seen)
            seen[-1] += (loss,)
            return loss

    x = torch.tensor(data["inputs"].astype(f32))
    block = Parent(torch.tensor(data["weight"].astype(f32)))
    chosen = Quantizer()._search_best_scale(
        block, block.norm, block.attention.linears, x, module2inspect=block.attention)[2]
    return [dict(ratio=r, duo=duo, factors=b64(s, "<f4"), loss=l) for r, _, s, l in seen], b64(chosen, "<f4")


def llm_compressor_awq(data, bits, symmetric, group, duo):
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    from compressed_tensors.quantization.lifecycle.initialize import initialize_module_for_quantization
    from llmcompressor.modifiers.quantization.calibration import initialize_observer
    from llmcompressor.modifiers.transform.awq.base import AWQModifier
    from llmcompressor.modifiers.transform.awq.mappings import ResolvedMapping

    seen = []

    class Modifier(AWQModifier):
        def _compute_loss(self, *arguments):
            loss = super()._compute_loss(*arguments)
            spy(seen)
            seen[-1] += (loss,)
            return loss

        # One batch, without the session's cache of batches.
        def _run_samples(self, module):
            return [module(x)]

    x = torch.tensor(data["inputs"].astype(f32))
    block = Parent(torch.tensor(data["weight"].astype(f32)))
    args = QuantizationArgs(
        num_bits=bits, type="int", symmetric=symmetric, strategy="group" if group else "channel", group_size=group or None)
    for linear in block.attention.linears:
        initialize_module_for_quantization(linear, QuantizationScheme(targets=["Linear"], weights=args))
        # Quantization is off while the float outputs are computed, as in the modifier's calibration.
        linear.quantization_enabled = False
        initialize_observer(linear, "weight")
    mapping = ResolvedMapping(
        "norm", block.norm, block.attention.linears, ["q_proj", "k_proj", "v_proj"], block.attention, "attention")
    modifier = Modifier(mappings=[], duo_scaling=duo)
    modifier._smooth_activation_stats["norm"] = [x.abs().sum(0), torch.tensor(T)]
    originals = {linear: linear.weight.clone() for linear in block.attention.linears}
    chosen = modifier._compute_best_scale(mapping, [block.attention(x)], originals)
    return [dict(ratio=r, duo=d, factors=b64(s, "<f4"), loss=l) for r, d, s, l in seen], b64(chosen, "<f4")


def auto_awq_clip(data):
    """AutoAWQ's clip search, on the weight repeated to 64 rows as it wants them, then clamping and rounding."""
    from awq.quantize.quantizer import AwqQuantizer

    quantizer = AwqQuantizer.__new__(AwqQuantizer)
    quantizer.group_size, quantizer.w_bit, quantizer.zero_point = GROUP, 4, True
    weight = torch.tensor(np.resize(data["weight"].astype(f32), (64, K)))
    x = torch.tensor(data["inputs"].astype(f32))
    largest = quantizer._compute_best_clip(weight, x)
    groups = weight.reshape(64, K // GROUP, GROUP)
    clipped = torch.clamp(groups, -largest, largest).reshape(64, K)
    rounded, scales, zeros = quantizer.pseudo_quantize_tensor(clipped)
    scales, zeros, rounded, largest = (part.numpy()[:N] for part in (scales, zeros, rounded, largest))
    codes = np.round(rounded / np.repeat(scales, GROUP, 1)) + np.repeat(zeros, GROUP, 1) - 8
    # How much worse the next candidate is. Grids in float: a range that is clipped at both ends has its zero point on the edge
    # between two codes.
    h, w, gap = moments(data["inputs"]), data["weight"].astype(f32), math.inf
    for row in range(N):
        for g in range(K // GROUP):
            part = slice(g * GROUP, (g + 1) * GROUP)
            values, errors, bounds = w[row, part], [], []
            for step in range(10):
                bound = np.abs(values).max() * f32(1 - step / 20)
                cut = np.clip(values, -bound, bound)
                s = (cut.max() - cut.min()) / f32(15)
                z = -np.round(cut.min() / s)
                d = ((np.clip(np.round(cut / s) + z, 0, 15) - z) * s).astype(f64) - values
                errors.append(float(d @ h[part, part] @ d))
                bounds.append(bound)
            assert bounds[np.argmin(errors)] == largest[row, g, 0]
            first, second = sorted(errors)[:2]
            gap = min(gap, 1 - first / second)
    return dict(codes=b64(codes, np.int8), scales=b64(scales, "<f4"), zeros=b64(zeros - 8, np.int8), gap=gap,
                clipped=float((largest.squeeze(-1) < np.abs(groups.numpy()[:N]).max(-1)).mean()))


def awq(data):
    cases = []
    for duo in [True, False]:
        candidates, chosen = auto_awq(data, duo)
        cases.append(dict(reference="AutoAWQ", bits=4, symmetric=False, group=GROUP, candidates=candidates, chosen=chosen))
    for bits, symmetric, group in [(4, True, GROUP), (8, True, 0)]:
        candidates, chosen = llm_compressor_awq(data, bits, symmetric, group, "both")
        cases.append(dict(
            reference="llm-compressor", bits=bits, symmetric=symmetric, group=group, candidates=candidates, chosen=chosen))
    return cases


# --------------------------------------------------------------------------------------------------------------- GPTQ


def load(package, name, path):
    """A module of a package whose own __init__ does not import here."""
    spec = importlib.util.spec_from_file_location(f"{package}.{name}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[f"{package}.{name}"] = module
    spec.loader.exec_module(module)
    return module


def package(name):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = []


def auto_gptq():
    """AutoGPTQ's copy of the authors' code. Its __init__ wants a CUDA extension and older transformers."""
    folder = pathlib.Path(importlib.util.find_spec("auto_gptq").submodule_search_locations[0]) / "quantization"
    package("auto_gptq_alone")
    quantizer = load("auto_gptq_alone", "quantizer", folder / "quantizer.py")
    gptq = load("auto_gptq_alone", "gptq", folder / "gptq.py")
    torch.cuda.synchronize = lambda: None
    return gptq.GPTQ, quantizer


def by_auto_gptq(weight, x, bits, symmetric, group, ordered, block, mse=False):
    GPTQ, _ = auto_gptq()
    n, k = weight.shape
    layer = torch.nn.Linear(k, n, bias=False)
    layer.weight.data = torch.tensor(weight.astype(f32))
    gptq = GPTQ(layer)
    gptq.quantizer.configure(bits, perchannel=True, sym=symmetric, mse=mse)
    gptq.add_batch(torch.tensor(x.astype(f32)), None)
    scales, zeros, _ = gptq.fasterquant(
        blocksize=block, percdamp=DAMPING, group_size=group or -1, actorder=ordered, static_groups=bool(group and ordered))
    half = 2 ** (bits - 1)
    wide = [np.repeat(part.numpy().astype(f64), group or k, axis=1) for part in (scales, zeros)]
    codes = np.round(layer.weight.numpy().astype(f64) / wide[0]) + wide[1] - half
    assert np.abs((codes + half - wide[1]) * wide[0] - layer.weight.numpy()).max() < 1e-6
    return codes, scales.numpy(), zeros.numpy() - half


def by_llm_compressor(weight, x, bits, symmetric, group, ordered):
    from compressed_tensors.quantization import QuantizationArgs
    from llmcompressor.modifiers.gptq.gptq_quantize import quantize_weight
    from llmcompressor.modifiers.gptq.helpers import accumulate_hessian
    from llmcompressor.observers import Observer

    n, k = weight.shape
    args = QuantizationArgs(
        num_bits=bits, type="int", symmetric=symmetric, strategy="group" if group else "channel", group_size=group or None,
        actorder="static" if ordered else None)
    layer = torch.nn.Linear(k, n, bias=False)
    layer.weight.data = torch.tensor(weight.astype(f32))
    observer = Observer.load_from_registry("memoryless_minmax", base_name="weight", args=args)
    observer(layer.weight)
    qparams = observer.get_qparams()
    scale, zero = qparams["scale"], qparams["zero_point"]
    hessian, count = accumulate_hessian(
        torch.tensor(x.astype(f32)), layer, torch.zeros(k, k), torch.zeros(()))
    rounded, _, failed = quantize_weight(
        layer.weight.clone()[None], (hessian / count)[None], scale[None], zero[None], None, args, percdamp=DAMPING)
    assert not failed.any()
    scales, zeros = scale.numpy().reshape(n, -1), zero.numpy().reshape(n, -1).astype(f64)
    wide = [np.repeat(part.astype(f64), group or k, axis=1) for part in (scales, zeros)]
    codes = np.round(rounded[0].numpy().astype(f64) / wide[0]) + wide[1]
    return codes, scales, zeros


def gptq(data):
    order = np.argsort(-np.diag(moments(data["inputs"])), kind="stable")
    wide_order = np.argsort(-np.diag(moments(data["wide_inputs"])), kind="stable")
    dead = data["inputs"].copy()
    dead[:, 9] = 0
    sets = {"inputs": (data["weight"], data["inputs"], order), "dead": (data["weight"], dead, None),
            "wide": (data["wide_weight"], data["wide_inputs"], wide_order)}
    # Reference, inputs, bits, symmetric, group, ordered, block size and grid search of AutoGPTQ, what is compared. A block of
    # one group has AutoGPTQ find a group's grid on its updated weights, as the paper says; in the default block of 128 it
    # finds it on the weights as they were before the block. llm-compressor always finds it on the weight.
    A, L = "AutoGPTQ", "llm-compressor"
    settings = [
        (A, "inputs", 8, True, 0, False, 128, False, "codes"), (A, "inputs", 8, True, 0, True, 128, False, "codes"),
        (L, "inputs", 8, True, 0, False, 0, False, "codes"), (A, "inputs", 4, False, 0, False, 128, False, "codes"),
        (A, "inputs", 4, True, GROUP, False, GROUP, False, "codes"),
        (A, "inputs", 4, False, GROUP, False, GROUP, False, "codes"),
        (A, "inputs", 4, True, GROUP, True, 128, False, "codes"), (A, "inputs", 4, False, GROUP, True, 128, False, "codes"),
        (L, "inputs", 4, True, GROUP, True, 0, False, "codes"), (L, "inputs", 4, False, GROUP, True, 0, False, "codes"),
        (A, "wide", 8, True, 0, False, 128, False, "codes"), (A, "wide", 4, False, 0, True, 128, False, "codes"),
        (A, "wide", 4, False, 48, True, 128, False, "codes"), (A, "wide", 4, False, 48, False, 48, False, "codes"),
        (A, "dead", 4, False, 0, False, 128, False, "loss"), (A, "inputs", 4, False, GROUP, False, 128, False, "loss"),
        (A, "inputs", 4, True, GROUP, False, 128, False, "loss"), (A, "inputs", 4, False, GROUP, True, 128, True, "loss"),
        (A, "inputs", 4, True, GROUP, True, 128, True, "loss"), (L, "inputs", 4, True, GROUP, False, 0, False, "loss"),
    ]
    cases = []
    for reference, name, bits, symmetric, group, ordered, block, mse, compares in settings:
        weight, x, perm = sets[name]
        made = (by_auto_gptq(weight, x, bits, symmetric, group, ordered, block, mse) if reference == A
                else by_llm_compressor(weight, x, bits, symmetric, group, ordered))
        codes, scales, zeros = made
        h = moments(x)
        w = weight.astype(f64)
        ours = gptq64(w, h, bits, symmetric, group, perm if ordered else None, DAMPING)
        first, margin = ties(ours[3])
        span = group or weight.shape[1]
        nearest = np.zeros_like(w)
        for start in range(0, w.shape[1], span):
            part = w[:, start:start + span]
            s, z = (p[:, None] for p in grid(part, bits, symmetric))
            q = np.clip(np.round(part / s) + z, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
            nearest[:, start:start + span] = (q - z) * s
        label = (f"{reference}, {name}, int{bits}{'' if symmetric else ' asymmetric'}, "
                 + (f"groups of {group}" if group else "channels") + (", ordered" if ordered else "")
                 + (f", blocks of {block}" if group and not ordered and block else "") + (", mse" if mse else ""))
        if compares == "codes":
            place = perm if ordered else np.arange(weight.shape[1])
            for row, count in enumerate(first):
                same = codes[row, place[:count]] == ours[0][row, place[:count]]
                assert same.all(), f"{label}: row {row}: {np.argmin(same)} of {count}"
                # A group's grid depends on the columns before it.
                for group_index in range(scales.shape[1]):
                    if ordered or group_index * span <= count:
                        place_of = (row, group_index)
                        assert abs(scales[place_of] / ours[1][place_of] - 1) < 2e-5, label
                        assert zeros.shape != ours[2].shape or symmetric or zeros[place_of] == ours[2][place_of], label
        print(f"{label}: {compares}, margin {margin:.2e}, rows with ties {sum(c < weight.shape[1] for c in first)}, "
              f"same {np.mean(codes == ours[0]):.4f}", file=sys.stderr)
        cases.append(dict(
            name=label, reference=reference, input=name, bits=bits, symmetric=symmetric, group=group, ordered=ordered,
            searched=mse, damping=DAMPING, compares=compares, codes=b64(codes, np.int8) if compares == "codes" else "",
            scales=b64(scales, "<f4"), zeros="" if symmetric else b64(zeros, np.int8), loss=energy(decode(codes, scales, zeros, group) - w, h),
            nearest_loss=energy(nearest - w, h), margin=margin, ties=first))
    return dict(order=order.tolist(), wide_order=wide_order.tolist(), cases=cases)


# ---------------------------------------------------------------------------------------------------------- histograms


def histogram():
    from torch.ao.quantization import HistogramObserver

    random = np.random.default_rng(7)
    count = 3000
    tail = random.standard_normal(count)
    tail[::997] *= 40
    kinds = {
        "normal": random.standard_normal(count),
        "normal with outliers": tail,
        "SiLU of normal": (lambda v: v / (1 + np.exp(-v)))(3 * random.standard_normal(count)),
        "Student, 3 degrees": random.standard_t(3, count),
        "two lumps": np.concatenate([random.normal(-6, 0.2, count // 3), random.normal(2, 0.5, count - count // 3)]),
    }
    cases = []
    for name, values in kinds.items():
        values = values.astype(np.float16)
        observer = HistogramObserver(dtype=torch.quint8, qscheme=torch.per_tensor_affine)
        x = torch.tensor(values.astype(f32))
        observer(x)
        low, high = observer._non_linear_param_search()
        width = (observer.max_val.item() - observer.min_val.item()) / 2048
        first = round((low.item() - observer.min_val.item()) / width)
        last = round((high.item() - observer.min_val.item()) / width) - 1
        scale, zero = observer.calculate_qparams()
        cases.append(dict(
            name=name, values=b64(values, "<f2"), low=float(low), high=float(high), scale=float(scale), zero=int(zero),
            least_loss=observer._compute_quantization_error(first, last)))
    return cases


# ----------------------------------------------------------------------------------------------- Qronos, GPTAQ, alignment


def gptaq(folder):
    """GPTQModel's GPTAQ, whose package wants its CUDA kernels. Its base class is replaced by what process_batch and quantize
    call: the factor of the damped Hessian and a copy of the weight, as in the authors' code."""
    for name in ["gptqmodel_alone", "gptqmodel_alone.quantization", "gptqmodel_alone.looper", "gptqmodel_alone.utils"]:
        package(name)
    sys.modules["gptqmodel_alone.looper.named_module"] = SimpleNamespace(NamedModule=object)
    sys.modules["gptqmodel_alone.utils.torch"] = SimpleNamespace(torch_sync=lambda: None)
    sys.modules["gptqmodel_alone.quantization"].QuantizeConfig = object

    def neutralize(h, w, *others):
        dead = torch.diag(h) == 0
        assert not dead.any()

    class Base:
        def clone_module(self, device):
            return self.module.weight.data.clone()

        def hessian_inverse(self, h):
            h = h + DAMPING * h.diag().mean() * torch.eye(h.shape[0])
            inverse = torch.cholesky_inverse(torch.linalg.cholesky(h))
            return torch.linalg.cholesky(inverse, upper=True), DAMPING

        def _sanitize_scale_and_log(self, scale, zero):
            return scale, zero

    sys.modules["gptqmodel_alone.quantization.gptq"] = SimpleNamespace(GPTQ=Base)
    sys.modules["gptqmodel_alone.quantization.quantizer"] = SimpleNamespace(_neutralize_dead_columns=neutralize)
    path = pathlib.Path(folder) / "gptqmodel/quantization/gptaq.py"
    return load("gptqmodel_alone.quantization", "gptaq", path).GPTAQ


class FixedGrid:
    """A quantizer of the references' interface with given scales and zeros [n, 1], codes of 4 bits."""

    def __init__(self, scale, zero):
        self.scale, self.zero = (torch.tensor(np.asarray(part, f32).reshape(-1, 1)) for part in (scale, zero))

    def find_params(self, *_, **__):
        pass

    def codes(self, x):
        return torch.clamp(torch.round(x / self.scale) + self.zero, -8, 7)

    def quantize(self, x):
        return self.scale * (self.codes(x) - self.zero)


def by_gptaq(GPTAQ, weight, x, quantized, alpha, fixed):
    """x and quantized: [t, k]."""
    n, k = weight.shape
    self = GPTAQ.__new__(GPTAQ)
    self.module = torch.nn.Linear(k, n, bias=False)
    self.module.weight.data = torch.tensor(weight.astype(f32))
    self.columns, self.H, self.dXXT, self.nsamples, self.module_copy = k, None, None, 0, None
    self._gptaq_batch_request_count, self.quantizer, self.name = 0, fixed, "linear"
    self.native_inps = [torch.tensor(x.astype(f32))]
    self.qcfg = SimpleNamespace(static_groups=False, desc_act=False, group_size=-1, gptaq=SimpleNamespace(alpha=alpha))
    self.process_batch(torch.tensor(quantized.astype(f32)))
    return fixed.codes(self.quantize()[0]).numpy()


def by_qronos(weight, x, quantized, alpha, ordered, fixed, damping=None):
    """brevitas' Qronos, fed as its context manager feeds it: quantized inputs, then float ones. get_quant_weights is replaced
    by the fixed grid; with `damping`, power_iteration gives what alpha turns into that damping."""
    import brevitas.graph.qronos as module

    n, k = weight.shape

    class Fixed(module.Qronos):
        def get_quant_weights(self, i, i1, permutation_list, with_quant_history=False):
            q = fixed.quantize(self.layer.weight.data)
            index = permutation_list[0]
            return q[:, index[:i1 + i]][None] if with_quant_history else q[:, index[i1 + i]][None]

    layer = torch.nn.Linear(k, n, bias=False)
    layer.weight.data = torch.tensor(weight.astype(f32))
    qronos = Fixed(layer, "linear", ordered, 2, True, alpha=alpha)
    state = SimpleNamespace(layer_names=set(), forward_count=0)
    for enabled, inputs in [(True, quantized), (False, x)]:
        layer.weight_quant = SimpleNamespace(is_quant_enabled=enabled, requires_quant_input=False)
        try:
            qronos.update_batch(layer, (torch.tensor(inputs.astype(f32)),), state)
        except Exception as error:
            assert type(error).__name__ == "StopFwdException", error
    power = module.power_iteration
    if damping is not None:
        module.power_iteration = lambda h, count: torch.tensor(damping / alpha / len(x))
    torch.manual_seed(0)
    qronos.single_layer_update()
    module.power_iteration = power
    return fixed.codes(layer.weight.data).numpy()


def example(GPTAQ):
    weight = np.array([[-.05, -.78, .45, -.14], [-.74, -.01, -.24, .69], [1.18, .04, .73, .32]])
    x = np.array([[.4, .5, 1, .7, .6, -2.4], [2.7, -.4, -3, -.1, -1.4, -2.9], [-1.4, .4, 2.4, 1, 1.3, 1.7],
                  [-.4, -.2, 0, -.1, -.1, 1.4]])
    quantized = np.array([[.3, .6, .9, .6, .9, -2.5], [2.2, -.3, -2.8, 0, -.9, -3.1], [-.7, .3, 3.2, 1, 1.6, 1.5],
                          [-.2, .3, 0, 0, -.2, 1.0]])
    fixed = FixedGrid([.25] * 3, [0] * 3)
    h, g = quantized @ quantized.T, x @ quantized.T
    damping = DAMPING * np.diag(h).mean()
    wanted = (weight @ g + damping * weight) @ np.linalg.inv(h + damping * np.eye(4))
    given = (np.full((3, 1), .25), np.zeros((3, 1)))

    def numpy(w, order=None):
        return gptq64(w, h, 4, True, 0, order, DAMPING, given)[0]

    methods = {
        "nearest": (np.clip(np.round(weight / .25), -8, 7), "numpy"),
        "gptq": (numpy(weight), "numpy"),
        "gptaq 0": (by_gptaq(GPTAQ, weight, x.T, quantized.T, 0.0, fixed), "GPTQModel"),
        "gptaq 0.25": (by_gptaq(GPTAQ, weight, x.T, quantized.T, 0.25, fixed), "GPTQModel"),
        "gptaq 1": (by_gptaq(GPTAQ, weight, x.T, quantized.T, 1.0, fixed), "GPTQModel"),
        "qronos 1e-3": (by_qronos(weight, x.T, quantized.T, 1e-3, False, fixed), "brevitas"),
        "qronos 1e-6": (by_qronos(weight, x.T, quantized.T, 1e-6, False, fixed), "brevitas"),
        "qronos 1e-6 ordered": (by_qronos(weight, x.T, quantized.T, 1e-6, True, fixed), "brevitas"),
        "qronos damped as gptq": (by_qronos(weight, x.T, quantized.T, 1e-3, False, fixed, damping), "brevitas"),
        "align then gptq": (numpy(wanted), "numpy"),
    }
    out = {}
    for name, (codes, reference) in methods.items():
        error = weight @ x - .25 * codes @ quantized
        # One scale a row, exactly (no ridge).
        scales = (codes * (weight @ g)).sum(1) / np.einsum("nk,kl,nl->n", codes, h, codes)
        refit = weight @ x - scales[:, None] * codes @ quantized
        out[name] = dict(codes=codes.astype(int).tolist(), reference=reference, loss=float((error**2).sum()),
                         refit=floats(scales), refit_loss=float((refit**2).sum()))
        print(f"{name}: {out[name]['codes']} {out[name]['loss']:.6f}, refit {out[name]['refit_loss']:.6f}", file=sys.stderr)
    return dict(weight=weight.tolist(), inputs=x.tolist(), quantized_inputs=quantized.tolist(), step=.25, damping=damping,
                wanted=wanted.tolist(), methods=out)


def refit(codes, scales, zeros, h, c, group):
    """argmin over scales of the row's quadratic loss, with a ridge of 1e-3 mean diag A toward the scales, in float64."""
    n, k = codes.shape
    q = codes - np.repeat(np.asarray(zeros, f64).reshape(n, -1), group, axis=1)
    out = np.zeros((n, k // group))
    for row in range(n):
        parts = np.zeros((k // group, k))
        for j in range(k // group):
            parts[j, j * group:(j + 1) * group] = q[row, j * group:(j + 1) * group]
        a, b = parts @ h @ parts.T, parts @ c[row]
        ridge = 1e-3 * np.diag(a).mean()
        out[row] = np.linalg.solve(a + ridge * np.eye(len(a)), b + ridge * np.asarray(scales, f64)[row])
    return out


def two_streams(data, GPTAQ):
    w, x, quantized = (data[name].astype(f64) for name in ["weight", "inputs", "quantized_inputs"])
    h, g = quantized.T @ quantized, x.T @ quantized
    order = np.argsort(-np.diag(h), kind="stable")

    def loss(values):
        return float(((x @ w.T - quantized @ values.T) ** 2).sum())

    def entry(target, damping, symmetric, ordered):
        codes, scales, zeros, distance = gptq64(target, h, 4, symmetric, GROUP, order if ordered else None, damping)
        first, margin = ties(distance)
        better = refit(codes, scales, zeros, h, w @ g, GROUP)
        return dict(
            symmetric=symmetric, ordered=ordered, codes=b64(codes, np.int8), scales=b64(scales, "<f4"),
            zeros="" if symmetric else b64(zeros, np.int8), margin=margin, ties=first, refit=b64(better, "<f8"),
            loss=loss(decode(codes, scales, zeros, GROUP)), refit_loss=loss(decode(codes, better, zeros, GROUP)))

    by_damping = []
    for damping in [0.01, 0.2]:
        lift = damping * np.diag(h).mean()
        wanted = np.linalg.solve(h + lift * np.eye(K), (w @ g + lift * w).T).T
        cases = [entry(wanted, damping, symmetric, ordered)
                 for symmetric, ordered in [(False, False), (False, True), (True, True)]]
        by_damping.append(dict(
            damping=damping, wanted=b64(wanted, "<f4"), unrounded_loss=loss(wanted), cases=cases,
            plain=entry(w, damping, False, False)))
        print(f"two streams, damping {damping}: plain {by_damping[-1]['plain']['loss']:.4f}, aligned "
              f"{cases[0]['loss']:.4f}, refit {cases[0]['refit_loss']:.4f}, unrounded {loss(wanted):.4f}", file=sys.stderr)
    scale, zero = grid(w, 4, False)
    fixed = FixedGrid(scale, zero)
    references = []
    for name, reference, codes in [
        ("gptaq 0", "GPTQModel", by_gptaq(GPTAQ, w, x, quantized, 0.0, fixed)),
        ("gptaq 0.25", "GPTQModel", by_gptaq(GPTAQ, w, x, quantized, 0.25, fixed)),
        ("gptaq 1", "GPTQModel", by_gptaq(GPTAQ, w, x, quantized, 1.0, fixed)),
        ("qronos 1e-6", "brevitas", by_qronos(w, x, quantized, 1e-6, False, fixed)),
        ("qronos 1e-3", "brevitas", by_qronos(w, x, quantized, 1e-3, False, fixed)),
        ("qronos 1e-3 ordered", "brevitas", by_qronos(w, x, quantized, 1e-3, True, fixed)),
    ]:
        references.append(dict(name=name, reference=reference, codes=b64(codes, np.int8),
                               loss=loss(decode(codes, scale, zero, 0))))
        print(f"two streams, {name}: {references[-1]['loss']:.4f}", file=sys.stderr)
    return dict(order=order.tolist(), by_damping=by_damping, references=references,
                grid=dict(scales=b64(scale, "<f4"), zeros=b64(zero, np.int8)))


# -------------------------------------------------------------------------------------------------------------- writing


def main(gptqmodel, folder):
    from importlib.metadata import version

    def made_by(*names):
        return "Tests/Golden/methods.py with " + ", ".join(f"{name} {version(name)}" for name in (*names, "torch", "numpy"))

    folder = pathlib.Path(folder)

    def write(name, **content):
        text = json.dumps(content, separators=(",", ":"), allow_nan=False)
        # One case a line.
        text = text.replace('},{"', '},\n{"').replace('[{"', '[\n{"').replace(',"cases"', ',\n"cases"')
        (folder / f"{name}.json").write_text(text + "\n")

    data = make_inputs()
    write("inputs", made_by=made_by(), **{name: b64(values, "<f2") for name, values in data.items()})
    write("smooth", made_by=made_by("llmcompressor", "nvidia-modelopt"), cases=smooth(data))
    write("awq", made_by=made_by("autoawq", "llmcompressor", "compressed-tensors"), clip=auto_awq_clip(data),
          cases=awq(data))
    write("gptq", made_by=made_by("auto-gptq", "llmcompressor", "compressed-tensors"), **gptq(data))
    write("histogram", made_by=made_by(), cases=histogram())
    GPTAQ = gptaq(gptqmodel)
    write("align", made_by=made_by("brevitas") + ", gptqmodel 7.7.0", example=example(GPTAQ),
          two_streams=two_streams(data, GPTAQ))


main(*sys.argv[1:])
