import NibbleTensor

extension Compute {
  /// Normalizes each row of `x` into `y`, and adds the norm's bias.
  func norm(_ x: [Float], by norm: Norm, into y: inout [Float]) {
    var out = y.mutableSpan
    switch norm.shape.kind {
    case .rms:
      rmsNorm(x.span, weight: norm.weight.span, epsilon: norm.shape.epsilon, into: &out)
    case .layer:
      layerNorm(x.span, weight: norm.weight.span, epsilon: norm.shape.epsilon, into: &out)
    }
    if let bias = norm.bias { addBias(bias.span, to: &out) }
  }
}
