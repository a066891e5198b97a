"""Makes fixtures of tokenizers without a tokenizer.json: python make.py

Needs transformers, tokenizers, sentencepiece, protobuf and tiktoken; "made" names the versions.
Each NAME.json holds "made", "model_type", "files" (name to base64) and "cases": input bytes in hex, whether
special tokens are added, the ids, and the text that they decode to, with and without special tokens. The oracle
has nothing but those files. It is transformers, but where its conversion drops what the file says: the
SentencePiece library itself for InternLM 1 and for unigram models with SentencePiece's own settings, and tiktoken
for Qwen 1. The library decodes without special tokens only, so "text" is null there.
Training of byte-level pairs breaks ties at random, so another run gives other vocabularies.
"""

import base64
import io
import json
import pathlib
import sys
import tempfile
import unicodedata

import sentencepiece
import tiktoken
import transformers

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tokenizer"))
import make as plain  # noqa: E402
from tokenizers import pre_tokenizers as pre  # noqa: E402

MADE = (
    f"make.py, transformers {transformers.__version__}, tokenizers {plain.tokenizers.__version__}, "
    f"sentencepiece {sentencepiece.__version__}, tiktoken {tiktoken.__version__}"
)
TEXTS = [
    "", " ", "  ", "a", " a", "a ", "Hello, world!", "  two  spaces  ", "the  model", " the quantization of the model",
    "I'M WE'LL they'Re don't", "1 22 333 4444 ½ ² ٣٤ 123abc456", "tab\tand\r\nlines\n\n\n  \n x\n", "a\u00a0b\u3000c\u0085e\u2028f",
    "été e\u0301te\u0301 Å A\u030a ﬁ ｆｕｌｌ ① ℌ", "привет мир γειά ΣΑΣ", "שלום مرحبا नमस्ते ไทย 한국어 日本語", "👩‍👩‍👧‍👦 👍🏽 😀😀",
    "\x01\x7f", "don’t “quote” – —…", "▁▁lead ▁ a▁b", "<0x41><0xFF>", "Ġhello Ċ ĠĠ", "a" * 70, "the" * 30, " " * 40, "zqxj" * 10,
    "é" * 20, "(((a)))  --- ==", "ALLCAPS CamelCase snake_case", "𝒜𝟙 𐍈 𠀀", "http://a.b/c?d=e", "x <pad> y",
]
SPECIAL = ["<s> </s><unk> a<s> b", "<|im_start|>user\nthe model<|im_end|>\n", "<|endoftext|>the", "</s>the <pad> a", "<tool> a <tool>b"]
BROKEN = [b"a\xffb\xfe", b"\xed\xa0\x80", b"ok \xc3 \xc3\xa9", b"\xf0\x9f\x98"]


def folder(files):
    path = tempfile.mkdtemp()
    for name, data in files.items():
        pathlib.Path(path, name).write_bytes(data)
    return path


def dump(value):
    return json.dumps(value, ensure_ascii=False).encode()


def record(name, model_type, files, encode, decode, texts):
    cases = []
    for index, raw in enumerate([t.encode() for t in texts] + BROKEN):
        special = index % 3 == 0
        ids = encode(raw.decode("utf-8", errors="replace"), special)
        text, bare = decode(ids)
        cases.append({"hex": raw.hex(), "special": special, "ids": ids, "text": text, "plain": bare})
    fixture = {
        "made": MADE, "model_type": model_type,
        "files": {n: base64.b64encode(d).decode() for n, d in files.items()}, "cases": cases,
    }
    text = json.dumps(fixture, ensure_ascii=True, separators=(",", ":"))
    (HERE / f"{name}.json").write_text(text + "\n")
    print(name, len(text))


def by_transformers(name, cls, model_type, files, texts=TEXTS + SPECIAL, backend=None):
    backend = backend or getattr(transformers, cls).from_pretrained(folder(files)).backend_tokenizer

    def decode(ids):
        return backend.decode(ids, skip_special_tokens=False), backend.decode(ids, skip_special_tokens=True)

    record(name, model_type, files, lambda t, s: backend.encode(t, add_special_tokens=s).ids, decode, texts)


def by_sentencepiece(name, model_type, files, begins):
    library = sentencepiece.SentencePieceProcessor(model_proto=files["tokenizer.model"])

    def encode(text, special):
        return ([library.bos_id()] if special and begins else []) + library.encode(text)

    def decode(ids):
        # The library writes its own text for what is unknown.
        return None, None if library.unk_id() in ids else library.decode([i for i in ids if i != library.bos_id()])

    record(name, model_type, files, encode, decode,
           [t for t in TEXTS if "<pad>" not in t and "\r" not in t and not t.startswith("▁")])


def by_tiktoken(name, model_type, files, ranks, pattern, special):
    encoding = tiktoken.Encoding("fixture", pat_str=pattern, mergeable_ranks=ranks, special_tokens=special)
    names = {i for i in special.values()}

    def encode(text, _):
        return encoding.encode(unicodedata.normalize("NFC", text), allowed_special="all")

    record(name, model_type, files, encode, lambda ids: (encoding.decode(ids), encoding.decode([i for i in ids if i not in names])),
           TEXTS + SPECIAL)


def byte_pairs(pre_tokenizer, special, size=400):
    """vocab.json and merges.txt as the classes save them, special tokens first where they stand in the vocabulary."""
    tokenizer = plain.byte_level(pre_tokenizer, size=size, added=False)
    model = json.loads(tokenizer.to_str())["model"]
    words = special + [t for t in model["vocab"] if t not in ("<|end|>", "<pad>")]
    merges = "#version: 0.2\n" + "".join(" ".join(m) + "\n" for m in model["merges"])
    return {"vocab.json": dump({t: i for i, t in enumerate(words)}), "merges.txt": merges.encode()}


def added(content, special=True, **flags):
    return {"content": content, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": special, **flags}


def sentences(rows=1200):
    return [s for _, s in zip(range(rows), plain.corpus())]


def sentence_piece(**options):
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences()), model_writer=out, minloglevel=2, character_coverage=0.98, **options)
    return out.getvalue()


def llama_like(**options):
    options = {
        "model_type": "bpe", "vocab_size": 560, "byte_fallback": True, "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False, "split_digits": True, "allow_whitespace_only_pieces": True, **options}
    return sentence_piece(**options)


RULES = {"ﬁ": "fi", "①": "1", "é": "e", "e\u0301": "e", "\t": " ", "\n": " ", "\u3000": " ", "…": "...", "日本": "Japan", "\u0085": "", "Å": "A"}


def rules():
    path = tempfile.mktemp(suffix=".tsv")
    lines = ["{}\t{}".format(*(" ".join(f"{ord(c):X}" for c in t) for t in rule)) for rule in RULES.items()]
    pathlib.Path(path).write_text("\n".join(lines) + "\n")
    return path


def ranks_of(files):
    """A vocabulary in tiktoken's format: single bytes, then what the merges make."""
    decode = {c: b for b, c in plain_bytes().items()}
    vocab = json.loads(files["vocab.json"])
    tokens = sorted(vocab, key=vocab.get)
    return {bytes(decode[c] for c in t): i for i, t in enumerate(tokens)}


def plain_bytes():
    from transformers.convert_slow_tokenizer import bytes_to_unicode
    return bytes_to_unicode()


def tiktoken_file(ranks):
    return b"".join(base64.b64encode(t) + b" %d\n" % r for t, r in ranks.items())


if __name__ == "__main__":
    gpt2 = pre.ByteLevel(add_prefix_space=False)
    by_transformers("gpt2", "GPT2Tokenizer", "gpt2", {
        **byte_pairs(gpt2, ["<|endoftext|>"]), "tokenizer_config.json": dump({"tokenizer_class": "GPT2Tokenizer", "model_max_length": 1024}),
    })
    token = {"__type": "AddedToken", "content": "</s>", "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    by_transformers("opt", "GPT2Tokenizer", "opt", {
        **byte_pairs(gpt2, ["<s>", "<pad>", "</s>", "<unk>"]),
        "tokenizer_config.json": dump({
            "errors": "replace", "unk_token": token, "bos_token": token, "eos_token": token, "pad_token": {**token, "content": "<pad>"},
            "add_prefix_space": False, "add_bos_token": True, "special_tokens_map_file": None, "tokenizer_class": "GPT2Tokenizer"}),
    })
    by_transformers("legacy", "GPT2Tokenizer", "gpt2", {
        **byte_pairs(gpt2, ["<|endoftext|>"]), "tokenizer_config.json": dump({"tokenizer_class": "GPT2TokenizerFast", "add_prefix_space": True}),
        "special_tokens_map.json": dump({"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>", "pad_token": {**added("<pad>", lstrip=True)}}),
        "added_tokens.json": dump({"<|im_start|>": 399, "<|im_end|>": 400, "<tool>": 401}),
    })
    qwen2 = byte_pairs(plain.split(plain.GPT4 % r"\p{N}"), [])
    size = len(json.loads(qwen2["vocab.json"]))
    names = {str(size + i): added(t, special=t != "<tool>") for i, t in enumerate(["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool>"])}
    config = {"tokenizer_class": "Qwen2Tokenizer", "bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
              "unk_token": None, "add_prefix_space": False, "added_tokens_decoder": names, "additional_special_tokens": ["<|im_start|>"]}
    by_transformers("qwen2", "Qwen2Tokenizer", "qwen2", {**qwen2, "tokenizer_config.json": dump(config)})
    # from_pretrained of this class does not look for vocab.json.
    paths = folder(qwen2)
    qwen35 = transformers.Qwen3_5Tokenizer(vocab=f"{paths}/vocab.json", merges=f"{paths}/merges.txt", eos_token="<|endoftext|>")
    qwen35.add_tokens([plain.AddedToken(**t) for t in names.values()])
    by_transformers("qwen3_5", "", "qwen3_5_text", {
        **qwen2, "tokenizer_config.json": dump({**config, "tokenizer_class": "Qwen3_5Tokenizer"})}, backend=qwen35.backend_tokenizer)
    by_transformers("neox", "GPTNeoXTokenizer", "gpt_neox", {
        **byte_pairs(gpt2, ["<|endoftext|>", "<|padding|>"]), "tokenizer_config.json": dump({"tokenizer_class": "GPTNeoXTokenizer"})})
    by_transformers("cohere", "CohereTokenizer", "cohere", {
        **byte_pairs(pre.Sequence([pre.Digits(individual_digits=True), gpt2]), ["<PAD>", "<UNK>", "<CLS>", "<SEP>", "<MASK_TOKEN>", "<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>"]),
        "tokenizer_config.json": dump({"tokenizer_class": "CohereTokenizerFast", "add_bos_token": True, "add_eos_token": False})})

    llama = llama_like(user_defined_symbols=["<tool>"])
    base = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False}
    by_transformers("llama", "LlamaTokenizer", "llama", {"tokenizer.model": llama, "tokenizer_config.json": dump(base)})
    by_transformers("llama_legacy", "LlamaTokenizer", "llama", {
        "tokenizer.model": llama,
        "tokenizer_config.json": dump({
            **base, "legacy": True, "add_eos_token": True,
            "added_tokens_decoder": {"0": added("<unk>"), "1": added("<s>"), "2": added("</s>"), "560": added("<|im_start|>", rstrip=True), "561": added("<|im_end|>")}})})
    by_transformers("gemma", "GemmaTokenizer", "gemma3_text", {
        "tokenizer.model": llama_like(
            pad_id=0, eos_id=1, bos_id=2, unk_id=3, bos_piece="<bos>", eos_piece="<eos>", add_dummy_prefix=False,
            user_defined_symbols=["<mask>", "<tool>", "\n", "\n\n"]),
        "tokenizer_config.json": dump({"tokenizer_class": "GemmaTokenizer", "add_bos_token": True})})
    # The class of internlm2's folder is remote code; transformers builds from the file.
    by_transformers("internlm2", "TokenizersBackend", "internlm2", {
        "tokenizer.model": llama_like(add_dummy_prefix=False, user_defined_symbols=["[UNUSED_TOKEN_145]", "[UNUSED_TOKEN_146]"]),
        "tokenizer_config.json": dump({
            "tokenizer_class": "InternLM2Tokenizer", "add_bos_token": True, "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "</s>",
            "added_tokens_decoder": {"3": added("<|im_end|>"), "4": added("<|im_start|>")}})},
        TEXTS + [t for t in SPECIAL if "tool" not in t])
    by_sentencepiece("internlm", "internlm", {
        "tokenizer.model": llama_like(vocab_size=500), "tokenizer_config.json": dump({"tokenizer_class": "InternLMTokenizer"})}, True)
    by_transformers("unigram_rules", "TokenizersBackend", "internlm2", {
        "tokenizer.model": sentence_piece(
            model_type="unigram", vocab_size=460, byte_fallback=True, normalization_rule_tsv=rules(), add_dummy_prefix=False, remove_extra_whitespaces=False),
        "tokenizer_config.json": dump({"tokenizer_class": "InternLM2Tokenizer", "add_bos_token": True})})
    by_sentencepiece("unigram", "unheard_of", {
        "tokenizer.model": sentence_piece(model_type="unigram", vocab_size=300, normalization_rule_name="identity"),
        "tokenizer_config.json": dump({"tokenizer_class": "PreTrainedTokenizerFast"})}, False)

    ranks = ranks_of(qwen2)
    special = {t: len(ranks) + i for i, t in enumerate(["<|endoftext|>", "<|im_start|>", "<|im_end|>"] + [f"<|extra_{i}|>" for i in range(205)])}
    by_tiktoken("qwen", "qwen", {
        "qwen.tiktoken": tiktoken_file(ranks), "tokenizer_config.json": dump({"tokenizer_class": "QWenTokenizer", "model_max_length": 8192}),
    }, ranks, plain.GPT4 % r"\p{N}", special)
    by_transformers("llama3", "TokenizersBackend", "llama", {
        "tokenizer.model": tiktoken_file(ranks),
        "tokenizer_config.json": dump({
            "tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": True, "bos_token": "<|endoftext|>", "eos_token": "<|im_end|>",
            "added_tokens_decoder": {i: t for i, t in names.items() if t["special"]}})})
