internal import NibbleFormats

/// How a tokenizer class, of transformers or of a published folder's own code, uses its vocabulary
/// files.
///
/// Source: transformers 5.23.0, `models/*/tokenization_*.py`; the remote code of InternLM and Qwen.
package enum TokenizerKind: Hashable, Sendable {
  /// Byte-level, GPT-2's pattern: GPT-2, OPT, CodeGen.
  case gpt2
  /// The same after NFC: GPT-NeoX, Pythia.
  case neoX
  /// The same after NFC, each digit a word of its own: Command-R, Aya.
  case cohere
  /// Byte-level after NFC, GPT-4's pattern with single digits: Qwen2, Qwen2.5, Qwen3.
  case qwen2
  /// The same with marks among the letters: Qwen3.5.
  case qwen35
  /// As Qwen2, with a vocabulary in tiktoken's format and 208 special tokens after it.
  case qwen1
  /// SentencePiece as transformers' `LlamaTokenizer` runs it.
  case llama
  /// SentencePiece as transformers' `GemmaTokenizer` runs it.
  case gemma
  /// SentencePiece as its own library runs it, with special tokens split off first: InternLM 1, 2
  /// and 3.
  case sentencePiece

  /// The kind of a `tokenizer_class`; nil for an unknown class.
  init?(className: String) {
    var name = className[...]
    if name.hasSuffix("Fast") { name = name.dropLast(4) }
    switch name {
    case "GPT2Tokenizer", "CodeGenTokenizer": self = .gpt2
    case "GPTNeoXTokenizer": self = .neoX
    case "CohereTokenizer": self = .cohere
    case "Qwen2Tokenizer": self = .qwen2
    case "Qwen3_5Tokenizer": self = .qwen35
    case "QWenTokenizer": self = .qwen1
    case "LlamaTokenizer": self = .llama
    case "GemmaTokenizer": self = .gemma
    case "InternLMTokenizer", "InternLM2Tokenizer", "InternLM3Tokenizer": self = .sentencePiece
    default: return nil
    }
  }

  /// The kind of a `model_type`, for a folder that names no class.
  init?(modelType: String) {
    switch modelType {
    case "gpt2", "opt": self = .gpt2
    case "gpt_neox": self = .neoX
    case "cohere", "cohere2": self = .cohere
    case "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "qwen3_next": self = .qwen2
    case "qwen3_5_text", "qwen3_5_moe_text", "qwen3_5", "qwen3_5_moe": self = .qwen35
    case "qwen": self = .qwen1
    case "llama", "mistral", "mixtral": self = .llama
    case "gemma", "gemma2", "gemma3", "gemma3_text", "gemma4", "gemma4_text": self = .gemma
    case "internlm", "internlm2", "internlm3": self = .sentencePiece
    default: return nil
    }
  }

  /// Classes that do not determine the files.
  static func isGeneral(_ className: String) -> Bool {
    ["PreTrainedTokenizer", "PreTrainedTokenizerFast", "TokenizersBackend"].contains(className)
  }

  /// Whether a text begins with the beginning-of-text token when `tokenizer_config.json` has no
  /// `add_bos_token`.
  ///
  /// As in transformers 4, the documentation of transformers 5 and the remote code of InternLM, and
  /// as the models were trained; the code of transformers 5 adds none.
  var addsBeginning: Bool {
    switch self {
    case .llama, .gemma, .sentencePiece: true
    case .gpt2, .neoX, .cohere, .qwen1, .qwen2, .qwen35: false
    }
  }

  /// The named special tokens of a folder whose config does not list them.
  ///
  /// Those of `sentencePiece` stand in the file itself.
  var namedTokens: [(key: String, token: String)] {
    let end = "<|endoftext|>"
    return switch self {
    case .gpt2: [("bos_token", end), ("eos_token", end), ("unk_token", end)]
    case .neoX:
      [
        ("bos_token", end), ("eos_token", end), ("unk_token", end), ("pad_token", "<|padding|>"),
      ]
    case .cohere:
      [
        ("bos_token", "<BOS_TOKEN>"), ("eos_token", "<|END_OF_TURN_TOKEN|>"),
        ("unk_token", "<UNK>"), ("sep_token", "<SEP>"), ("pad_token", "<PAD>"),
        ("cls_token", "<CLS>"), ("mask_token", "<MASK_TOKEN>"),
      ]
    case .qwen2, .qwen35: [("eos_token", end), ("unk_token", end), ("pad_token", end)]
    case .qwen1: [("eos_token", end)]
    case .llama: [("bos_token", "<s>"), ("eos_token", "</s>"), ("unk_token", "<unk>")]
    case .gemma:
      [
        ("bos_token", "<bos>"), ("eos_token", "<eos>"), ("unk_token", "<unk>"),
        ("pad_token", "<pad>"), ("mask_token", "<mask>"),
      ]
    case .sentencePiece: []
    }
  }

  /// The steps that split text into words for a byte-level model; nil for SentencePiece.
  func preTokenizer(prefixesSpace: Bool) -> JSON? {
    func byteLevel(splits: Bool) -> JSON {
      [
        "type": "ByteLevel", "add_prefix_space": .bool(prefixesSpace), "trim_offsets": true,
        "use_regex": .bool(splits),
      ]
    }
    func split(_ pattern: String) -> JSON {
      [
        "type": "Sequence",
        "pretokenizers": [
          [
            "type": "Split", "pattern": ["Regex": .string(pattern)], "behavior": "Isolated",
            "invert": false,
          ],
          byteLevel(splits: false),
        ],
      ]
    }
    return switch self {
    case .gpt2, .neoX: byteLevel(splits: true)
    case .cohere:
      [
        "type": "Sequence",
        "pretokenizers": [
          ["type": "Digits", "individual_digits": true], byteLevel(splits: true),
        ],
      ]
    case .qwen1, .qwen2: split(WordScanner.gpt4Pattern(#"\p{N}"#))
    case .qwen35: split(Self.markedPattern)
    case .llama, .gemma, .sentencePiece: nil
    }
  }

  /// The normalizer of a byte-level model.
  var normalizer: JSON { self == .gpt2 ? .null : ["type": "NFC"] }

  private static let markedPattern =
    #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"#
    + #"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
}
