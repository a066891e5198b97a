"""Scores of multiple-choice tasks as lm-eval computes them, for Tests/NibbleQuantizeTests/ChoiceOracleTests.swift.

Run with lm-eval 0.4.13, transformers 5.23.0 and torch 2.13.0 (CPU):
    python choices.py > ../NibbleQuantizeTests/Fixtures/choices.json
The tasks are lm-eval's own definitions, on items written for this file. The weights are those of Tests/TinyModel; the
tokenizers are byte pairs trained here on the items, whose merges cross spaces and line ends.
"""

import contextlib
import io
import json
import os
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"

import lm_eval
import lm_eval.tasks
import tokenizers
import torch
import transformers
from lm_eval.models.huggingface import HFLM

with contextlib.redirect_stdout(io.StringIO()):
    from golden import PLAIN, tensors

CONTEXT = 96
HELLASWAG = [
    {"activity_label": "Baking bread", "ctx_a": "A woman kneads dough on a floured board.", "ctx_b": "she LIFTS it",
     "endings": ["and lays it in a bowl to rise.", "into the sea. [step] Then she swims.",
                 "and  the oven sings a song.", "out of the window."], "label": "0"},
    {"activity_label": "Fixing a bike", "ctx_a": "How to fix a chain [title] Turn the bike over. [header] Look.",
     "ctx_b": "", "endings": ["Oil the links.", "Paint the sky.", "Boil it.", "Élan [x] vital."], "label": 2},
    {"activity_label": "Rowing", "ctx_a": "Four men row a long boat over a quiet lake at dawn. The mist is thick, "
     "the oars dip and rise, and a heron stands in the reeds and watches them pass. " * 2,
     "ctx_b": "élan drives them", "endings": ["to the far shore.", "mad.", "to the moon.", "back."], "label": "3"},
]
ARC = [
    {"id": "a1", "question": "Which of these is a liquid at room temperature?",
     "choices": {"text": ["iron", "water", "oxygen", "salt"], "label": ["A", "B", "C", "D"]}, "answerKey": "B"},
    {"id": "a2", "question": "What do plants take from the air?",
     "choices": {"text": ["carbon dioxide", "gold", "sand"], "label": ["1", "2", "3"]}, "answerKey": "1"},
    {"id": "a3", "question": "Why is the sky dark at night?",
     "choices": {"text": ["the sun is on the other side of the earth", "clouds", "it rests", "no reason", "水"],
                 "label": ["A", "B", "C", "D", "E"]}, "answerKey": "A"},
]
PIQA = [
    {"goal": "To cool soup quickly,", "sol1": "put the bowl in cold water.", "sol2": "put the bowl in the oven.",
     "label": 0},
    {"goal": "How do you open a jar?", "sol1": "Ask it.", "sol2": "Turn the lid to the left", "label": 1},
]
WINOGRANDE = [
    {"sentence": "The cup did not fit in the box because the _ was too large.", "option1": "cup", "option2": "box",
     "answer": "1"},
    {"sentence": "Ana thanked Mia since _ had helped her move.", "option1": "Ana", "option2": "Mia", "answer": "2"},
]
MMLU = [
    {"question": " What is two plus two? ", "subject": "sums", "choices": ["3", "4", "5", "22"], "answer": 1},
    {"question": "Which is a bird?", "subject": "life", "choices": ["a wren", "a cod", "a newt", "an ant"],
     "answer": 0},
]
BOOLQ = [
    {"passage": "The lake freezes each winter, and people skate on it.", "question": "does the lake freeze",
     "label": 1},
    {"passage": "No train runs on Sundays.", "question": "can you take a train on sunday", "label": 0},
]
OWN = [
    {"context": "The answer is ", "choices": ["yes", "no", "perhaps not"], "gold": 0},
    {"context": "", "choices": ["The lake", "a wren", "<s>the box"], "gold": 1},
    {"context": "One, two,\n\t ", "choices": ["three", "drei", "三"], "gold": 2},
    {"context": "x" * 300, "choices": [" y", "x", "xxxxxxxx"], "gold": 1},
    {"context": "<s>begins as told", "choices": ["and ends", "or not"], "gold": 0},
]
# The second target is what the model without a beginning-of-text token says.
GREEDY = [
    {"context": "The box is too", "target": "large"},
    {"context": "water oven", "target": "th"},
    {"context": "Question: What do plants take from the air?\nAnswer:", "target": "sand"},
]

DEFINITIONS = {
    "hellaswag": ("hellaswag/hellaswag.yaml", HELLASWAG),
    "arc_easy": ("arc/arc_easy.yaml", ARC),
    "piqa": ("piqa/piqa.yaml", PIQA),
    "winogrande": ("winogrande/default.yaml", WINOGRANDE),
    "mmlu": ("mmlu/default/_default_template_yaml", MMLU),
    "boolq": ("super_glue/boolq/default.yaml", BOOLQ),
}
METRICS = [{"metric": m, "aggregation": "mean", "higher_is_better": True} for m in ("acc", "acc_norm", "acc_bytes")]


def lines(items):
    return "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items)


def write_tasks(folder):
    """A definition per task: lm-eval's own, with another source of its items."""
    import yaml

    root = os.path.join(os.path.dirname(lm_eval.__file__), "tasks")
    tasks = {name: items for name, (_, items) in DEFINITIONS.items()} | {"own": OWN, "greedy": GREEDY}
    for name, items in tasks.items():
        path = os.path.join(folder, name + ".jsonl")
        with open(path, "w") as file:
            file.write(lines(items))
        config = {
            "task": "nibble_" + name, "dataset_path": "json", "dataset_name": None,
            "dataset_kwargs": {"data_files": {"test": path}}, "test_split": "test", "validation_split": None,
            "training_split": None, "fewshot_split": None, "metric_list": METRICS,
        }
        if name in DEFINITIONS:
            config["include"] = os.path.join(root, DEFINITIONS[name][0])
        elif name == "own":
            config |= {"output_type": "multiple_choice", "doc_to_text": "context", "doc_to_choice": "choices",
                       "doc_to_target": "gold"}
        else:
            config |= {"output_type": "loglikelihood", "doc_to_text": "context", "doc_to_target": " {{target}}",
                       "metric_list": [
                           {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
                           {"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False}]}
        with open(os.path.join(folder, name + ".yaml"), "w") as file:
            yaml.safe_dump(config, file)
    return tasks


def tokenizer(adds_beginning):
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<s>", "</s>"], show_progress=False,
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()))
    made.train_from_iterator(
        [lines(items) for _, items in DEFINITIONS.values()] + ["t: iron\nr: a", "n: sand\nr: water"] * 2, trainer)
    if adds_beginning:
        made.post_processor = tokenizers.processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return made


def folder_of(name, adds_beginning, parent):
    """A checkpoint of the tiny model."""
    folder = os.path.join(parent, name)
    os.makedirs(folder)
    made = tokenizer(adds_beginning)
    m = dict(PLAIN, blocks=3, hidden=64, intermediate=96, heads=4, keyHeads=2, headSize=16, vocabulary=400)
    config = transformers.LlamaConfig(
        hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        head_dim=16, vocab_size=400, rms_norm_eps=1e-05, rope_theta=10000.0, max_position_embeddings=CONTEXT,
        tie_word_embeddings=False, hidden_act="silu", bos_token_id=None, eos_token_id=None, pad_token_id=None)
    model = transformers.LlamaForCausalLM(config).float().eval()
    model.load_state_dict(tensors(m), strict=True)
    model.save_pretrained(folder)
    special = {"eos_token": "</s>"} | ({"bos_token": "<s>"} if adds_beginning else {})
    transformers.PreTrainedTokenizerFast(tokenizer_object=made, **special).save_pretrained(folder)
    return folder, json.loads(made.to_str()), special


def main():
    result = {
        "versions": {"lm_eval": lm_eval.__version__, "transformers": transformers.__version__,
                     "torch": torch.__version__.split("+")[0]},
        "context": CONTEXT, "files": {}, "models": {},
    }
    with tempfile.TemporaryDirectory() as parent:
        tasks = write_tasks(parent)
        result["files"] = {name: lines(items) for name, items in tasks.items()}
        manager = lm_eval.tasks.TaskManager(include_path=parent, include_defaults=False)
        for name, adds_beginning in (("plain", False), ("beginning", True)):
            folder, made, special = folder_of(name, adds_beginning, parent)
            model = HFLM(pretrained=folder, dtype="float32", device="cpu", batch_size=1)
            with contextlib.redirect_stdout(sys.stderr):
                found = lm_eval.simple_evaluate(
                    model=model, tasks=["nibble_" + task for task in tasks], task_manager=manager, log_samples=True,
                    bootstrap_iters=2)
            scores = {}
            for task in tasks:
                samples = sorted(found["samples"]["nibble_" + task], key=lambda sample: sample["doc_id"])
                metrics = found["results"]["nibble_" + task]
                scores[task] = {
                    "requests": [[list(args) for args in sample["arguments"]] for sample in samples],
                    "scores": [[float(r[0][0]) for r in sample["resps"]] for sample in samples],
                    "greedy": [[bool(r[0][1]) for r in sample["resps"]] for sample in samples],
                    "items": {m: [sample[m] for sample in samples]
                              for m in ("acc", "acc_norm", "acc_bytes") if m in samples[0]},
                    "results": {key.split(",")[0]: value for key, value in metrics.items()
                                if isinstance(value, float) and not key.startswith("perplexity_stderr")},
                }
            result["models"][name] = {"tokenizer": made, "special": special, "tasks": scores}
    json.dump(result, sys.stdout, ensure_ascii=False, indent=1)
    print()


main()
