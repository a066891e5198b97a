/// A root-mean-square norm, `x / sqrt(mean(x²) + ε) · weight + bias`.
public struct Norm: Sendable, Hashable {
  /// `[hidden]`
  public var weight: [Float]
  /// `[hidden]`; nil but where a quantizer shifted what the norm feeds.
  public var bias: [Float]?

  public init(weight: [Float], bias: [Float]? = nil) {
    self.weight = weight
    self.bias = bias
  }
}
