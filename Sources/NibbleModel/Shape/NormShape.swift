/// A norm's place and arithmetic.
public struct NormShape: Hashable, Sendable {
  public enum Kind: Hashable, Sendable {
    /// `x / sqrt(mean(x²) + ε) · w`
    case rms
    /// `(x - mean(x)) / sqrt(var(x) + ε) · w + b`
    case layer
  }

  /// Module path: below the block, or whole outside the blocks.
  public var path: String
  public var width: Int
  public var kind: Kind
  public var epsilon: Float
  /// What is added to the stored weight before it multiplies: 1 in Gemma.
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
  /// `[width]`: what multiplies, the shape's offset added.
  public var weight: [Float]
  /// `[width]`; also where a quantizer shifted what the norm feeds.
  public var bias: [Float]?

  /// - Parameter weight: what multiplies, the shape's offset added.
  public init(_ shape: NormShape, weight: [Float], bias: [Float]? = nil) {
    self.shape = shape
    self.weight = weight
    self.bias = bias
  }

  /// The weight as it is stored.
  public var storedWeight: [Float] {
    shape.offset == 0 ? weight : weight.map { $0 - shape.offset }
  }
}
