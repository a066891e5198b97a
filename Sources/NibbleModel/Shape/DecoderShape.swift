import NibbleFormats

/// What a decoder computes and what its parts are called on disk: a value that loading, running,
/// planning and quantizing read. A ``Family`` makes it from a config.
public struct DecoderShape: Hashable, Sendable {
  /// The family's name.
  public var family: String
  public var hidden: Int
  public var vocabulary: Int
  /// Positions the model was made for.
  public var context: Int
  public var embedding: EmbeddingShape
  /// Path of block `i`: this and the number.
  public var blockPrefix: String
  public var blocks: [BlockShape]
  public var finalNorm: NormShape?
  public var head: HeadShape
  /// Ids that end an answer.
  public var endOfText: [Int]
  /// What the names of other modalities' tensors start with.
  public var towers: [String] = []

  /// Where a tensor belongs: the number of its block and its name below it; the whole name outside the
  /// blocks.
  package func place(of name: String) -> (block: Int?, name: String) {
    guard name.hasPrefix(blockPrefix) else { return (nil, name) }
    let rest = name.dropFirst(blockPrefix.count)
    let digits = rest.prefix { $0 != "." }
    guard let block = Int(digits), block < 1 << 30, String(block) == digits else {
      return (nil, name)
    }
    return (block, String(rest.dropFirst(digits.count + 1)))
  }

  /// The linear of a block at a full module path; nil where there is another module, or none.
  package func linear(at path: String) -> LinearShape? {
    let place = place(of: path)
    guard let block = place.block, block < blocks.count else { return nil }
    return blocks[block].linear(LinearID(rawValue: place.name))
  }

  /// Whether a module norms queries or keys: such a norm may have a matrix of weights.
  package func isHeadNorm(_ path: String) -> Bool {
    let place = place(of: path)
    guard let block = place.block, block < blocks.count else { return false }
    return blocks[block].headNorms.contains { $0.norm.path == place.name }
  }

  /// Heads, keys and values of each block.
  public var attentions: [AttentionShape] { blocks.compactMap(\.attention) }
  /// Widest activation between the linears of a feed-forward unit.
  public var intermediate: Int {
    blocks.flatMap { [$0.feedForward?.width, $0.experts?.width, $0.experts?.shared?.unit.width] }
      .compactMap(\.self).max() ?? 0
  }
}

/// How token ids become states.
public struct EmbeddingShape: Hashable, Sendable {
  /// Positions whose rows are added to those of tokens.
  public struct Positions: Hashable, Sendable {
    public var path: String
    /// The row of position 0.
    public var offset: Int
    public var rows: Int

    public init(_ path: String, offset: Int, rows: Int) {
      self.path = path
      self.offset = offset
      self.rows = rows
    }
  }

  /// Module path of `[vocabulary, width]`.
  public var path: String
  public var width: Int
  /// What rows are multiplied by.
  public var scale: Float = 1
  public var positions: Positions?
  public var norm: NormShape?
  /// A linear `[hidden, width]` without a bias; nil where both are equal.
  public var projection: String?

  public init(_ path: String, width: Int) {
    self.path = path
    self.width = width
  }
}

/// How states become logits.
public struct HeadShape: Hashable, Sendable {
  /// Module path of `[vocabulary, width]`, where it is not the embedding.
  public var path: String
  public var isTied: Bool
  /// What logits are multiplied by.
  public var scale: Float = 1
  /// Logits become `c · tanh(logit / c)`; nil leaves them.
  public var softCap: Float?
  /// A linear `[width, hidden]` without a bias before the head.
  public var projection: String?

  public init(_ path: String, isTied: Bool) {
    self.path = path
    self.isTied = isTied
  }
}
