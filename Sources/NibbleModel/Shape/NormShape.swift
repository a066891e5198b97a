/// Where a norm is stored and what it computes.
public struct NormShape: Hashable, Sendable {
  public enum Kind: Hashable, Sendable {
    /// `x / sqrt(mean(x²) + ε) · w`
    case rms
    /// `(x - mean(x)) / sqrt(var(x) + ε) · w + b`
    case layer
  }

  /// Module path: below the block, or the full path for norms outside the blocks.
  public var path: String
  public var width: Int
  public var kind: Kind
  public var epsilon: Float
  /// Added to the stored weight before it is used: 1 in Gemma.
  public var offset: Float = 0
  public var hasWeight = true
  public var hasBias = false

  public init(
    _ path: String, width: Int, kind: Kind = .rms, epsilon: Float, offset: Float = 0,
    hasWeight: Bool = true, hasBias: Bool = false
  ) {
    self.path = path
    self.width = width
    self.kind = kind
    self.epsilon = epsilon
    self.offset = offset
    self.hasWeight = hasWeight
    self.hasBias = hasBias
  }
}

/// A norm with its parameters.
public struct Norm: Sendable, Hashable {
  public var shape: NormShape
  /// `[width]`: factors of the normalized values, with the shape's offset added.
  public var weight: [Float]
  /// `[width]`; nil for none. Steps that shift activations add one.
  public var bias: [Float]?

  /// - Parameter weight: `[width]`, with the shape's offset added.
  public init(_ shape: NormShape, weight: [Float], bias: [Float]? = nil) {
    self.shape = shape
    self.weight = weight
    self.bias = bias
  }

  /// `[width]`: the weight as stored on disk, without the shape's offset.
  public var storedWeight: [Float] {
    shape.offset == 0 ? weight : weight.map { $0 - shape.offset }
  }
}
