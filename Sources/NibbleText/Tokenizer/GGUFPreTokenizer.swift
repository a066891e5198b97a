internal import NibbleFormats

/// How a value of `tokenizer.ggml.pre` splits text, as steps of a `tokenizer.json`.
///
/// The values are llama.cpp's. Only those whose original tokenizers split in exactly this way are
/// listed.
struct GGUFPreTokenizer {
  var steps: [JSON]
  var ignoresMerges = false
  /// Default where the file does not set it.
  var addsBOS = false

  init(_ name: String?) throws(TokenizerError) {
    switch name ?? "default" {
    // Files without a name, or with "default", come from converters older than the key; GPT-2's
    // pattern is also what Hugging Face transformers gives them.
    case "default", "gpt-2", "phi-2", "mpt", "olmo", "jais", "modern-bert":
      steps = [Self.byteLevel(splits: true)]
    case "smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b":
      steps = [["type": "Digits", "individual_digits": true], Self.byteLevel(splits: true)]
    case "llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral", "lfm2":
      steps = Self.split(WordScanner.gpt4Pattern(#"\p{N}{1,3}"#))
      ignoresMerges = true
      addsBOS = true
    case "glm4":
      steps = Self.split(WordScanner.gpt4Pattern(#"\p{N}{1,3}"#))
      ignoresMerges = true
    case "dbrx", "smaug-bpe", "chatglm-bpe":
      steps = Self.split(WordScanner.gpt4Pattern(#"\p{N}{1,3}"#))
    case "qwen2", "deepseek-r1-qwen", "stablelm2", "megrez", "hunyuan":
      steps = Self.split(WordScanner.gpt4Pattern(#"\p{N}"#))
    case "tekken":
      steps = Self.split(Self.casePattern(contraction: "", number: #"\p{N}"#))
      ignoresMerges = true
      addsBOS = true
    case "gpt-4o", "llama4":
      steps = Self.split(
        Self.casePattern(contraction: "(?i:'s|'t|'re|'ve|'m|'ll|'d)?", number: #"\p{N}{1,3}"#))
    case let other: throw .badGGUF("Nibble does not know the pre-tokenizer \(other)")
    }
  }

  private static func byteLevel(splits: Bool) -> JSON {
    [
      "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
      "use_regex": .bool(splits),
    ]
  }

  private static func split(_ pattern: String) -> [JSON] {
    [
      [
        "type": "Split", "pattern": ["Regex": .string(pattern)], "behavior": "Isolated",
        "invert": false,
      ],
      byteLevel(splits: false),
    ]
  }

  /// Words of capitals and of small letters are separate.
  private static func casePattern(contraction: String, number: String) -> String {
    let capitals = #"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"#
    let small = #"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"#
    let before = #"[^\r\n\p{L}\p{N}]?"#
    return before + capitals + "*" + small + "+" + contraction
      + "|" + before + capitals + "+" + small + "*" + contraction
      + "|" + number + #"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
  }

  var json: JSON {
    steps.count == 1 ? steps[0] : ["type": "Sequence", "pretokenizers": .array(steps)]
  }
}
