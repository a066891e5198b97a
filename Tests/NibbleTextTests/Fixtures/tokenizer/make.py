"""Makes the tokenizer fixtures with Hugging Face tokenizers: python make.py

Each NAME.json holds "made" (script and versions), "tokenizer" (a tokenizer.json), "config" (null or
a tokenizer_config.json) and "cases": input bytes in hex, whether special tokens are added, the ids,
and the text that they decode to, with and without special tokens.
Training breaks ties at random, so another run gives other vocabularies, and ids that go with them.
forms.json holds hashes of normalized text.
unicode.json holds, for classes of characters, the code points at which membership changes.
"""

import base64
import json
import pathlib
import random
import struct
import tempfile

import tokenizers
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers as pre
from tokenizers import processors, trainers

HERE = pathlib.Path(__file__).parent
MADE = f"make.py, tokenizers {tokenizers.__version__}, transformers {transformers.__version__}"

GPT4 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CAPITALS = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

WORDS = (
    "the of and to in a is that for it was on are as with his they at be this from have or by one had not but "
    "what all were when we there can an your which their said if do will each about how up out them then she "
    "many some so these would other into has more her two like him see time could no make than first been its "
    "who now people my made over did down only way find use may water long little very after words called just "
    "where most know quantize quantization weights activations model tokenizer language channel channels"
).split()
FOREIGN = [
    "été", "naïve", "Straße", "größer", "привет", "мир", "γειά", "שלום", "مرحبا", "नमस्ते", "日本語", "中文字",
    "한국어", "ไทย", "😀", "👍🏽", "e\u0301", "œuvre", "don't", "we'll", "I've", "2024", "3.14", "100,000",
    "foo_bar()", "x=y+1;", "{}", "[0]", "http://a.b/c?d=e", "\n", "\n\n", "\t", "    ", "--", "...", "!?",
]


def corpus():
    rng = random.Random(7)
    for _ in range(3000):
        words = [rng.choice(FOREIGN if rng.random() < 0.25 else WORDS) for _ in range(rng.randint(3, 14))]
        if rng.random() < 0.5:
            words[0] = words[0].capitalize()
        yield " ".join(words) + rng.choice([".", "!", "?", "\n", ""])


PLAIN = [
    "", " ", "  ", "a", " a", "a ", "Hello, world!", "  two  spaces  ", "What's deep learning", "I'M WE'LL they'Re",
    "it'ſ 'S 's's don't''t 'll've", "1 22 333 4444 55555 ½ ² Ⅷ ٣٤ 123abc456", "tab\tand\r\nlines\n\n\n  \n x\n",
    "   \n\n   \n   x", " \t \r\n \t y", "a\u00a0b\u2003c\u3000d\u0085e\u2028f\u200bg\u180eh", "foo_bar(x=y+1); // done\n",
    "été e\u0301te\u0301 Å Å A\u030a ﬁ ｆｕｌｌ ① ℌ", "привет мир γειά σου ΣΑΣ", "שלום עולם مرحبا بالعالم",
    "नमस्ते दुनिया ไทยภาษา 한국어 漢字かなカナ", "👩‍👩‍👧‍👦 👍🏽 🇩🇪🇫🇷 😀😀😀 ❤️ 🏴󠁧󠁢󠁥󠁮󠁧󠁿", "a\u0301\u0302\u0303\u0304 Z̸̢͎a̷l̴g̶o̵",
    "\0", "a\0b\0\0c", "\x01\x02\x7f\x1b[0m", "\ufeffbom \ufffd \uffff \U0010ffff", "İstanbul ıi ẞß ǅ ŉ",
    "don’t “quote” – — …", "▁▁lead ▁ a▁b", "<s> </s><unk> <|end|>x<|end|> <tool> a<tool>b <word> <word>s sword <word>",
    "x <pad>   y   <left>z  <both>  q<right>   r", "<0x41><0xFF>", "Ġhello Ċ ĠĠ", "!" * 40, "a" * 70, "ab" * 60, " " * 70,
    "\n" * 33, "7" * 50, "the" * 30, "zqxj" * 20, "é" * 50, "日本語" * 30, "\t\t\t\tx\t\t", "(((((a)))))  --- ==",
    "http://example.com/a?b=c&d=%20#frag user@example.org", "ALLCAPS CamelCaseWord snake_case kebab-case",
    " \u0301 leading mark", "ʰʲ ƻ ǀ ـ ゙ ๆ", "x\u200d\u200cy", "１２３ 四五六 ൪൫", "𝒜𝓑𝟙𝟚 𐍈 𒀀 𠀀", "e\u0323\u0307 \u1e69 \u212b \uac00 \u1100\u1161\u11a8",
]
BROKEN = [
    b"\xff", b"a\xffb\xfe", b"\xed\xa0\x80", b"\xed\xa0\xbd\xed\xb8\x80", b"\xf0\x9f\x98", b"\xe2\x82", b"ok \xc3 \xc3\xa9",
    b"\xc0\x80\xc1\xbf", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80", b"\x80\x80\x80", b"\xe0\x80\x80 \xf0\x80\x80\x80 x",
]


def random_texts(count):
    rng = random.Random(11)
    pools = [(0, 0x7F), (0, 0x7F), (0x80, 0x24F), (0x2000, 0x206F), (0x300, 0x36F), (0x400, 0x4FF), (0x1F300, 0x1F64F), (0x3040, 0x30FF)]
    for _ in range(count):
        yield "".join(chr(rng.randint(*rng.choice(pools))) for _ in range(rng.randint(1, 24)))


def loaded(tokenizer, config):
    """The tokenizer as transformers makes it from both files."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(f"{folder}/tokenizer.json")
        pathlib.Path(folder, "tokenizer_config.json").write_text(json.dumps(config))
        return transformers.AutoTokenizer.from_pretrained(folder).backend_tokenizer


def record(name, tokenizer, config=None, extra=()):
    saved = json.loads(tokenizer.to_str())
    if config is not None:
        tokenizer = loaded(tokenizer, config)
    cases = []
    texts = [t.encode() for t in [*PLAIN, *extra, *random_texts(40)]] + BROKEN
    for index, raw in enumerate(texts):
        text = raw.decode("utf-8", errors="replace")
        special = index % 3 == 0
        ids = tokenizer.encode(text, add_special_tokens=special).ids
        cases.append({
            "hex": raw.hex(), "special": special, "ids": ids,
            "text": tokenizer.decode(ids, skip_special_tokens=False),
            "plain": tokenizer.decode(ids, skip_special_tokens=True),
        })
    fixture = {"made": MADE, "tokenizer": saved, "config": config, "cases": cases}
    text = json.dumps(fixture, ensure_ascii=True, separators=(",", ":"))
    (HERE / f"{name}.json").write_text(text + "\n")
    print(name, len(text), tokenizer.get_vocab_size())


ADDED = [
    AddedToken("<tool>", special=False, normalized=False),
    AddedToken("<word>", special=False, normalized=False, single_word=True),
    AddedToken("<left>", special=False, lstrip=True, normalized=False),
    AddedToken("<right>", special=False, rstrip=True, normalized=True),
    AddedToken("<both>", special=True, lstrip=True, rstrip=True),
]


def byte_level(pre_tokenizer, size=420, added=True, **options):
    tokenizer = Tokenizer(models.BPE(**options))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=["<|end|>", "<pad>"], initial_alphabet=pre.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(corpus(), trainer)
    if added:
        tokenizer.add_tokens(ADDED)
    return tokenizer


def split(pattern):
    return pre.Sequence([pre.Split(Regex(pattern), "isolated"), pre.ByteLevel(add_prefix_space=False, use_regex=False)])


def template(tokenizer, bos, eos=None):
    single = f"{bos} $A" + (f" {eos}" if eos else "")
    names = [n for n in (bos, eos) if n]
    return processors.TemplateProcessing(single=single, special_tokens=[(n, tokenizer.token_to_id(n)) for n in names])


def generated_merges(vocab):
    """All ways to build each token from two others, as transformers makes for SentencePiece models."""
    merges = []
    for token, rank in vocab.items():
        local = [(token[:i], token[i:], rank) for i in range(1, len(token)) if token[:i] in vocab and token[i:] in vocab]
        merges += sorted(local, key=lambda m: (vocab[m[0]], vocab[m[1]]))
    merges.sort(key=lambda m: (-m[2], len(m[0]), len(m[1])), reverse=True)
    return [(a, b) for a, b, _ in merges]


def llama2():
    start = Tokenizer(models.BPE())
    start.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    start.pre_tokenizer = pre.Split("▁", "merged_with_next")
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    start.train_from_iterator(
        corpus(), trainers.BpeTrainer(vocab_size=640, special_tokens=special, limit_alphabet=90, show_progress=False))
    trained = json.loads(start.to_str())["model"]
    vocab, merged = {t: i for i, t in enumerate(special)}, []
    for a, b in trained["merges"]:
        merged.append(a + b)
    letters = [t for t in trained["vocab"] if t not in vocab and t not in set(merged)]
    for token in merged + letters:
        vocab.setdefault(token, len(vocab))
    text = {t: i for t, i in vocab.items() if i >= len(special)}
    tokenizer = Tokenizer(models.BPE(
        vocab=vocab, merges=generated_merges(text), unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = start.normalizer
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special[:3]])
    tokenizer.post_processor = template(tokenizer, "<s>")
    return tokenizer


def metaspace():
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Strip(), normalizers.Replace(Regex(r"[\n\t ]{2,}"), " ")])
    tokenizer.pre_tokenizer = pre.Sequence([pre.Metaspace(prepend_scheme="first"), pre.Punctuation("contiguous"), pre.Digits()])
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator(
        corpus(), trainers.BpeTrainer(vocab_size=500, special_tokens=["<unk>", "<s>", "</s>"], limit_alphabet=80, show_progress=False))
    tokenizer.add_tokens(ADDED)
    tokenizer.post_processor = template(tokenizer, "<s>", "</s>")
    return tokenizer


def suffix():
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>", continuing_subword_prefix="##"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase(), normalizers.StripAccents()])
    tokenizer.pre_tokenizer = pre.Whitespace()
    tokenizer.decoder = decoders.BPEDecoder()
    tokenizer.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=500, special_tokens=["<unk>"], limit_alphabet=60, end_of_word_suffix="</w>",
        continuing_subword_prefix="##", show_progress=False))
    return tokenizer


def unigram(**options):
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre.Metaspace(prepend_scheme="always")
    tokenizer.train_from_iterator(corpus(), trainers.UnigramTrainer(
        vocab_size=500, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False))
    model = json.loads(tokenizer.to_str())["model"]
    vocab = [tuple(v) for v in model["vocab"]]
    if options.get("byte_fallback"):
        vocab += [(f"<0x{b:02X}>", -20.0) for b in range(256)]
    tokenizer.model = models.Unigram(vocab, model["unk_id"], options.get("byte_fallback", False))
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()]) if options else decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", tokenizer.token_to_id("</s>"))])
    return tokenizer


def charsmap(rules):
    """A double-array trie and its texts, in SentencePiece's layout, for a few rules."""
    texts, trie = b"", {}
    for key, value in rules.items():
        node = trie
        for byte in key.encode():
            node = node.setdefault(byte, {})
        node[None] = len(texts)
        texts += value.encode() + b"\0"
    units, used = [0] * 65536, {0}

    def place(at, node):
        labels = [0 if b is None else b for b in node]
        base = next(b for b in range(1, 60000) if all((at ^ b ^ l) not in used for l in labels) and (at ^ b) not in used)
        used.add(at ^ base)
        used.update(at ^ base ^ l for l in labels)
        units[at] |= base << 10 | (256 if None in node else 0)
        for byte, child in node.items():
            if byte is None:
                units[at ^ base] = 1 << 31 | child
            else:
                units[at ^ base ^ byte] |= byte
                place(at ^ base ^ byte, child)

    place(0, trie)
    size = (max(used) | 0xFF) + 1
    return struct.pack("<I", 4 * size) + struct.pack(f"<{size}I", *units[:size]) + texts


def precompiled():
    tokenizer = unigram()
    rules = {"ﬁ": "fi", "①": "1", "é": "e", "e\u0301": "e", "\t": " ", "\n": " ", "Å": "A", "…": "...", "日本": "Japan", "\u0085": ""}
    tokenizer.normalizer = normalizers.Sequence([normalizers.Precompiled(charsmap(rules)), normalizers.Strip(False, True)])
    return tokenizer


def white_words():
    names = ["<unk>"] + WORDS + ["été", "2024", "."]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(names)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre.Sequence([pre.WhitespaceSplit(), pre.Split(Regex(r"[.,!?]|\b'"), "merged_with_previous"),
                                            pre.Split("-", "removed"), pre.Split(Regex(r"\d+"), "isolated", invert=True)])
    return tokenizer


def classes():
    tests = {
        "letter": pre.Split(Regex(r"\p{L}"), "removed"), "number": pre.Split(Regex(r"\p{N}"), "removed"),
        "space": pre.Split(Regex(r"\s"), "removed"), "word": pre.Split(Regex(r"\w"), "removed"),
        "mark": pre.Split(Regex(r"\p{M}"), "removed"), "punctuation": pre.Punctuation("removed"), "upper": pre.Split(Regex(r"\p{Lu}"), "removed"),
    }
    changes = {}
    for name, step in tests.items():
        at, inside = [], False
        for value in range(0x110000):
            if 0xD800 <= value < 0xE000:
                continue
            now = not step.pre_tokenize_str(chr(value))
            if now != inside:
                at.append(value)
                inside = now
        changes[name] = at
    (HERE / "unicode.json").write_text(json.dumps({"made": MADE, **changes}, separators=(",", ":")) + "\n")


# Where scalars with decompositions are, and the first block of the ideographs.
BLOCKS = [0x1000 * b for b in (0, 1, 2, 3, 4, 0xA, 0xF, 0x10, 0x11, 0x1D, 0x1E, 0x1F, 0x2F)]


def forms():
    """FNV-1a hashes of what normalizers make of 4096 code points at a time, each between an a and two marks."""
    steps = {
        "NFC": normalizers.NFC(), "NFD": normalizers.NFD(), "NFKC": normalizers.NFKC(), "NFKD": normalizers.NFKD(),
        "Lowercase": normalizers.Lowercase(), "StripAccents": normalizers.StripAccents(),
    }
    hashes = {name: [] for name in steps}
    for start in BLOCKS:
        points = [c for c in range(start, start + 4096) if not 0xD800 <= c < 0xE000]
        text = "".join("a" + chr(c) + "\u0323\u0301 " for c in points)
        for name, step in steps.items():
            value = 0xCBF29CE484222325
            for byte in step.normalize_str(text).encode():
                value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
            hashes[name].append(f"{value:016x}")
    (HERE / "forms.json").write_text(json.dumps({"made": MADE, "blocks": BLOCKS, **hashes}, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    gpt2 = byte_level(pre.ByteLevel(add_prefix_space=False))
    gpt2.post_processor = processors.ByteLevel(trim_offsets=False)
    record("gpt2", gpt2, extra=[" <left>", "<tool> <left>x", "a <both> <both> b", "<right> <left> <right>"])
    smollm = byte_level(pre.Sequence([pre.Digits(individual_digits=True), pre.ByteLevel(add_prefix_space=True)]))
    record("digits", smollm)
    llama3 = byte_level(split(GPT4 % r"\p{N}{1,3}"), ignore_merges=True)
    llama3.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template(llama3, "<|end|>")])
    record("llama3", llama3)
    qwen2 = byte_level(split(GPT4 % r"\p{N}"))
    qwen2.normalizer = normalizers.NFC()
    record("qwen2", qwen2)
    record("capitals", byte_level(split(CAPITALS), size=380))
    record("llama2", llama2())
    record("metaspace", metaspace())
    record("suffix", suffix())
    record("unigram", unigram())
    record("unigram_bytes", unigram(byte_fallback=True))
    record("precompiled", precompiled())
    record("words", white_words())
    # Without tokens that a GGUF file cannot describe.
    record("smollm", byte_level(
        pre.Sequence([pre.Digits(individual_digits=True), pre.ByteLevel(add_prefix_space=False)]), added=False))
    bpe = byte_level(split(GPT4 % r"\p{N}{1,3}"), added=False, ignore_merges=True)
    bpe.post_processor = template(bpe, "<|end|>")
    record("llama_bpe", bpe)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": {"__type": "AddedToken", "content": "<word>"},
        "eos_token": "<|end|>", "pad_token": "<new>", "add_bos_token": True, "add_eos_token": True,
        "extra_special_tokens": ["the", "<tool>"],
        "added_tokens_decoder": {
            "0": {"content": "<|end|>", "lstrip": True, "normalized": False, "rstrip": False, "single_word": False, "special": True},
            "420": {"content": "<tool>", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True},
        },
    }
    record("config", byte_level(pre.ByteLevel(add_prefix_space=False)), config, extra=["a <new> b", "the other", " the"])
    classes()
    forms()
