/// The tokenizer of a GGUF file: the values of its `tokenizer.ggml.*` keys.
public struct GGUFTokenizer: Sendable, Hashable {
  /// `llama` is SentencePiece byte pairs with scores, `gpt2` byte-level byte pairs with merges.
  public var model: String
  /// The way of splitting text into words, for `gpt2`.
  public var pre: String?
  /// By id. Any bytes, although the format says UTF-8.
  public var tokens: [[UInt8]]
  /// By id, or empty.
  public var scores: [Float]
  /// By id, or empty: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte.
  public var types: [Int]
  /// `a b`, best first.
  public var merges: [[UInt8]]
  public var bos: Int?
  public var eos: Int?
  public var unknown: Int?
  public var padding: Int?
  public var addBOS: Bool?
  public var addEOS: Bool?
  public var addSpacePrefix: Bool?
  public var chatTemplate: String?

  public init(
    model: String, pre: String? = nil, tokens: [[UInt8]], scores: [Float] = [], types: [Int] = [],
    merges: [[UInt8]] = [], bos: Int? = nil, eos: Int? = nil, unknown: Int? = nil,
    padding: Int? = nil, addBOS: Bool? = nil, addEOS: Bool? = nil, addSpacePrefix: Bool? = nil,
    chatTemplate: String? = nil
  ) {
    self.model = model
    self.pre = pre
    self.tokens = tokens
    self.scores = scores
    self.types = types
    self.merges = merges
    self.bos = bos
    self.eos = eos
    self.unknown = unknown
    self.padding = padding
    self.addBOS = addBOS
    self.addEOS = addEOS
    self.addSpacePrefix = addSpacePrefix
    self.chatTemplate = chatTemplate
  }
}
