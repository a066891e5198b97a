public import NibbleTensor

/// An attention branch: which linears read its input, what happens to queries and keys, and the linear
/// that ends it.
public struct AttentionShape: Hashable, Sendable {
  /// How a norm of queries or keys divides the channels.
  public struct HeadNorm: Hashable, Sendable {
    public enum Span: Hashable, Sendable {
      /// Over each head; one weight `[d]` for all.
      case head
      /// Over all heads at once; weight `[heads · d]`.
      case all
      /// Over each head; a weight of its own, `[heads, d]`.
      case ownHead
      /// Over each head; a module of its own for each, `PATH.j`, weight `[d]`.
      case ownModule
    }

    /// Its width is that of what it divides by: a head, or all of them.
    public var norm: NormShape
    public var span: Span

    public init(_ norm: NormShape, _ span: Span) {
      self.norm = norm
      self.span = span
    }
  }

  /// Module path below the block, such as `self_attn`.
  public var path: String
  public var core: Attention
  /// Query, key and value, or what holds them.
  public var inputs: [LinearShape]
  public var output: LinearShape
  /// Nil where positions do not rotate.
  public var rotary: RotaryShape?
  public var queryNorm: HeadNorm?
  public var keyNorm: HeadNorm?
  /// The tensor of the heads' sinks, below the block; nil for none.
  public var sinks: String?

  public init(
    _ path: String, _ core: Attention, inputs: [LinearShape], output: LinearShape,
    rotary: RotaryShape?
  ) {
    self.path = path
    self.core = core
    self.inputs = inputs
    self.output = output
    self.rotary = rotary
  }
}
