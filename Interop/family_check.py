"""Small checkpoints of several families in an engine, against `nibble logits` on the same token ids.

    family_check.py transformers|vllm MODEL [MODEL ...]

The models need no tokenizer. transformers answers with the log-probabilities of the whole vocabulary,
vLLM with those of the tokens that follow. Both compute in float32; int4 in vLLM with half floats.
"""

import argparse
import json
import os
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
# The engine runs in this process, which then loads vLLM once for all models.
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
# vLLM warns at length that there is no tokenizer.
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")

import torch
from safetensors.torch import load_file, save_file

import nibble_command
from nibble_command import Verdict

# Of a log-probability. Float sums in another order move it by up to 2e-5.
LIMIT = 1e-4
# Root mean square in half floats, the only ones that vLLM's int4 kernels take. Unquantized models give
# 0.004 there.
HALF_LIMIT = 0.02
# Root mean square over a long sequence with int8 activations. Flipped codes give up to 0.04, a sliding
# window that is one token too long 0.13.
FLIPPED_LIMIT = 0.1


def sequences(vocabulary):
    """[t] ids each: one of 96 tokens, longer than the windows, and 16 of 6."""
    generator = torch.Generator().manual_seed(1)
    lengths = [96] + 16 * [6]
    return [torch.randint(3, vocabulary, (length,), generator=generator) for length in lengths]


class Transformers:
    halves = False

    def __init__(self):
        from transformers import AutoModelForCausalLM

        self.loader = AutoModelForCausalLM
        self.round_activations_as_vllm()
        self.decompress_fp4_to_float()

    @staticmethod
    def decompress_fp4_to_float():
        """MXFP4 and NVFP4 weights as floats; compressed-tensors 0.20 makes bfloat16 of them, whatever the model's type."""
        from compressed_tensors.compressors.nvfp4 import base

        unpack = base.unpack_fp4_from_uint8
        base.unpack_fp4_from_uint8 = lambda packed, m, n: unpack(packed, m, n, dtype=torch.float32)

    @staticmethod
    def round_activations_as_vllm():
        """int8 activations: each token's scale is its absmax / 127, as vLLM's kernels and nibble round.

        compressed-tensors 0.20 divides by 127.5, which rounds every activation elsewhere, and takes one
        scale for all tokens where a layer's inputs have two dimensions, as in OPT's feed-forward.
        """
        from compressed_tensors.quantization.lifecycle import forward

        made = forward.compute_dynamic_scales_and_zp

        def scales(value, args, **others):
            if value.dim() == 2:
                found, zero = (part[0] for part in made(value=value[None], args=args, **others))
            else:
                found, zero = made(value=value, args=args, **others)
            return (found * (127.5 / 127) if args.num_bits == 8 and args.type == "int" else found), zero

        forward.compute_dynamic_scales_and_zp = scales

    def load(self, folder):
        self.model = self.loader.from_pretrained(folder, dtype=torch.float32).eval()

    def log_probabilities(self, ids):
        """[t - 1, vocabulary]: of the token behind each of `ids` but the last."""
        with torch.no_grad():
            return self.model(ids[None]).logits[0, :-1].float().log_softmax(-1)


class VLLM:
    def __init__(self, models):
        import vllm_cpu

        vllm_cpu.skip_without_kernel(models)
        vllm_cpu.make_int8_products_exact()
        import transformers
        import vllm

        class InternLM2(transformers.PretrainedConfig):
            """Its published config class comes as code, which these checkpoints do not carry."""

            model_type = "internlm2"

        transformers.AutoConfig.register("internlm2", InternLM2)
        self.vllm, self.engine = vllm, None
        self.halves = any(map(vllm_cpu.is_int4, models))

    def load(self, folder):
        if self.engine:
            from vllm.distributed import cleanup_dist_env_and_memory

            self.engine = None
            cleanup_dist_env_and_memory()
        self.engine = self.vllm.LLM(
            folder, max_model_len=256, dtype="float16" if self.halves else "float32",
            enforce_eager=True, skip_tokenizer_init=True,
        )

    def log_probabilities(self, ids):
        """[t - 1, 1]: of each of `ids` but the first."""
        ids = ids.tolist()
        sampling = self.vllm.SamplingParams(
            temperature=0, max_tokens=1, prompt_logprobs=0, detokenize=False
        )
        output = self.engine.generate([{"prompt_token_ids": ids}], sampling, use_tqdm=False)[0]
        scores = output.prompt_logprobs
        return torch.tensor([[scores[t][ids[t]].logprob] for t in range(1, len(ids))])


def nibble_log_probabilities(nibble, folder, ids):
    """[t - 1, vocabulary], as `Transformers.log_probabilities`."""
    with tempfile.TemporaryDirectory() as scratch:
        given, made = f"{scratch}/ids.safetensors", f"{scratch}/logits.safetensors"
        save_file({"ids": ids}, given)
        nibble_command.run(nibble, "logits", folder, "--ids", given, "-o", made, "--precision", "f32")
        return load_file(made)["logits"][:-1].log_softmax(-1)


def rounds_activations(config):
    groups = config.get("quantization_config", {}).get("config_groups", {}).values()
    return any(group["input_activations"] for group in groups)


def differences(engine, nibble, folder, ids):
    """[t - 1, c]: log-probabilities, the engine's less ours, of the c tokens that the engine scores."""
    theirs = engine.log_probabilities(ids)
    ours = nibble_log_probabilities(nibble, folder, ids)
    if theirs.shape[1] == 1:
        ours = ours.gather(1, ids[1:, None])
    if theirs.shape != ours.shape:
        raise SystemExit(f"FAIL {folder}: {list(theirs.shape)} of the engine, {list(ours.shape)} of nibble")
    return theirs - ours


def compare(engine, nibble, folder, verdict):
    with open(os.path.join(folder, "config.json")) as file:
        config = json.load(file)
    name = os.path.basename(folder)
    engine.load(folder)
    long, *short = (differences(engine, nibble, folder, ids) for ids in sequences(config["vocab_size"]))
    spread = long.square().mean().sqrt().item()
    if engine.halves:
        what = f"{name}: log-probabilities differ by {spread:.1e} (limit {HALF_LIMIT:g})"
        verdict.check(spread <= HALF_LIMIT, what)
    elif not rounds_activations(config):
        largest = max(part.abs().max().item() for part in [long, *short])
        what = f"{name}: log-probabilities differ by up to {largest:.1e} (limit {LIMIT:g})"
        verdict.check(largest <= LIMIT, what)
    else:
        # A float difference flips a code where an activation lies between two, and the flip spreads to
        # the tokens behind it. Most tokens of short sequences come before any flip.
        apart = torch.cat([part.abs().amax(-1) for part in short])
        share = (apart <= LIMIT).double().mean().item()
        what = f"{name}: {100 * share:.0f} % of the tokens of short sequences agree to {LIMIT:g} (limit 75 %)"
        verdict.check(share >= 0.75, what)
        what = f"{name}: log-probabilities of a long sequence differ by {spread:.1e} (limit {FLIPPED_LIMIT:g})"
        verdict.check(spread <= FLIPPED_LIMIT, what)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("engine", choices=["transformers", "vllm"])
    parser.add_argument("models", nargs="+")
    nibble_command.add_options(parser)
    options = parser.parse_args()

    verdict = Verdict()
    engine = Transformers() if options.engine == "transformers" else VLLM(options.models)
    for folder in options.models:
        compare(engine, options.nibble, folder, verdict)
    verdict.finish()


if __name__ == "__main__":
    main()
