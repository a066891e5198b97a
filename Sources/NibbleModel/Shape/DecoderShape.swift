import NibbleFormats

/// What a decoder computes and the names of its tensors on disk. Loading, running, planning and
/// quantizing read this value. A ``Family`` makes it from a config.
public struct DecoderShape: Hashable, Sendable {
  /// Name of the family.
  public var family: String
  public var hidden: Int
  public var vocabulary: Int
  /// Context length that the model was trained for, in tokens.
  public var context: Int
  public var embedding: EmbeddingShape
  /// Path of block `i` is this prefix followed by `i`.
  public var blockPrefix: String
  public var blocks: [BlockShape]
  public var finalNorm: NormShape?
  public var head: HeadShape
  /// Values per token that travel beside the hidden states: inputs of single blocks, and keys and
  /// values that later blocks share.
  public var carriedWidth = 0
  /// Token ids that end generation.
  public var endOfText: [Int]
  /// Prefixes of the tensor names of other modalities, and of blocks that draft tokens.
  public var towers: [String] = []

  /// Values per token between two blocks. Those of `t` tokens are the hidden states `[t, hidden]`
  /// and, behind them, the carried values: `[t, columns]` for each range of columns.
  public var stateWidth: Int { hidden + carriedWidth }

  /// Splits a tensor name into its block's number and its name below the block. Outside the blocks
  /// the number is nil and the name is whole.
  package func place(of name: String) -> (block: Int?, name: String) {
    guard name.hasPrefix(blockPrefix) else { return (nil, name) }
    let rest = name.dropFirst(blockPrefix.count)
    let digits = rest.prefix { $0 != "." }
    guard let block = Int(digits), block < 1 << 30, String(block) == digits else {
      return (nil, name)
    }
    return (block, String(rest.dropFirst(digits.count + 1)))
  }

  /// The linear at a full module path; nil if the path is not that of a linear in a block.
  package func linear(at path: String) -> LinearShape? {
    let place = place(of: path)
    guard let block = place.block, block < blocks.count else { return nil }
    return blocks[block].linear(LinearID(rawValue: place.name))
  }

  /// Whether a module normalizes queries or keys. The weight of such a norm may be a matrix.
  package func isHeadNorm(_ path: String) -> Bool {
    let place = place(of: path)
    guard let block = place.block, block < blocks.count else { return false }
    return blocks[block].headNorms.contains { $0.norm.path == place.name }
  }

  /// Whether a block keeps a state that cannot go back to an earlier token.
  public var isRecurrent: Bool { blocks.contains { $0.mixer != nil } }

  /// The attention of each block that has one.
  public var attentions: [AttentionShape] { blocks.compactMap(\.attention) }
  /// Largest width between the linears of any feed-forward unit or expert.
  public var intermediate: Int {
    blocks.flatMap { [$0.feedForward?.width, $0.experts?.width, $0.experts?.shared?.unit.width] }
      .compactMap(\.self).max() ?? 0
  }
}

/// How token ids become hidden states.
public struct EmbeddingShape: Hashable, Sendable {
  /// Learned position embeddings, added to the token embeddings.
  public struct Positions: Hashable, Sendable {
    public var path: String
    /// Row of position 0.
    public var offset: Int
    public var rows: Int

    public init(_ path: String, offset: Int, rows: Int) {
      self.path = path
      self.offset = offset
      self.rows = rows
    }
  }

  /// Inputs that single blocks read besides the states: `(norm(scale · P x) + √width · row) / √2`
  /// for each block, with the states x before the first block and the row of the token. Source:
  /// transformers `modeling_gemma4.py`.
  public struct BlockInputs: Hashable, Sendable {
    /// Module path of the table `[rows, blocks · width]`.
    public var path: String
    public var rows: Int
    /// Module path of P, `[blocks · width, hidden]`.
    public var projection: String
    /// Of one block's input.
    public var norm: NormShape
    public var blocks: Int

    public init(_ path: String, rows: Int, projection: String, norm: NormShape, blocks: Int) {
      self.path = path
      self.rows = rows
      self.projection = projection
      self.norm = norm
      self.blocks = blocks
    }

    /// Channels of one block's input.
    public var width: Int { norm.width }
  }

  /// Module path of the weight `[vocabulary, width]`.
  public var path: String
  public var width: Int
  public var blockInputs: BlockInputs?
  /// Factor of the token embeddings.
  public var scale: Float = 1
  public var positions: Positions?
  public var norm: NormShape?
  /// Module path of a linear `[hidden, width]` without bias; nil if `width` is `hidden`.
  public var projection: String?

  public init(_ path: String, width: Int) {
    self.path = path
    self.width = width
  }
}

/// How hidden states become logits.
public struct HeadShape: Hashable, Sendable {
  /// Module path of the weight `[vocabulary, width]`, if it is not tied to the embedding.
  public var path: String
  public var isTied: Bool
  /// Factor of the logits.
  public var scale: Float = 1
  /// Caps logits as `c · tanh(logit / c)`; nil for no cap.
  public var softCap: Float?
  /// Module path of a linear `[width, hidden]` without bias, applied before the head; nil for none.
  public var projection: String?

  public init(_ path: String, isTied: Bool) {
    self.path = path
    self.isTied = isTied
  }
}
