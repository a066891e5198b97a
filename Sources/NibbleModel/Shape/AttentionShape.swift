public import NibbleTensor

/// An attention branch: the linears that read its input, the norms and rotation of queries and
/// keys, and the output projection.
public struct AttentionShape: Hashable, Sendable {
  /// Which channels of queries or keys a norm covers.
  public struct HeadNorm: Hashable, Sendable {
    public enum Span: Hashable, Sendable {
      /// Normalizes each head; one weight `[d]` for all heads.
      case head
      /// Normalizes all heads at once; weight `[heads · d]`.
      case all
      /// Normalizes each head; one row of the weight `[heads, d]` per head.
      case ownHead
      /// Normalizes each head; one module `PATH.j` per head, weight `[d]`.
      case ownModule
    }

    /// Its width is `d`, or `heads · d` for ``Span/all``.
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
  /// The query, key and value projections, or the one linear that fuses them. A part with the role
  /// ``Role/outputGate`` makes the result `attention · sigmoid(gate)`.
  public var inputs: [LinearShape]
  public var output: LinearShape
  /// Nil without rotary embedding.
  public var rotary: RotaryShape?
  public var queryNorm: HeadNorm?
  public var keyNorm: HeadNorm?
  public var valueNorm: HeadNorm?
  /// Whether values are the keys before their norm and rotation, so that no linear computes them.
  public var valuesAreKeys = false
  /// Index of the earlier block whose keys and values this one reads instead of its own; nil for
  /// none. ``inputs`` then has only the query projection.
  public var sharesCacheOf: Int?
  /// The columns of this block's keys, then values, among the carried values. Set if later blocks
  /// share them, and in those blocks.
  public var carried: Range<Int>?
  /// Name of the tensor of attention sinks, `[heads]`, below the block; nil for none.
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

  /// Whether a gate multiplies the result before the output projection.
  var isGated: Bool { inputs.contains { $0.part(.outputGate) != nil } }
}
