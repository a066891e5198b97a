/// Adam with decoupled weight decay, of one parameter:
///
///     θ ← θ (1 - lr · wd),  m ← β₁ m + (1 - β₁) g,  v ← β₂ v + (1 - β₂) g²
///     θ ← θ - lr · m̂ / (√v̂ + ε),  m̂ = m / (1 - β₁ᵗ),  v̂ = v / (1 - β₂ᵗ)
///
/// Each of the first steps moves a value by about lr, whatever its gradient. Source: arXiv
/// 1711.05101; order and defaults as torch.optim.AdamW.
package struct AdamW: Sendable {
  package var rate: Float
  package var decay: Float
  private var mean: [Float]
  private var square: [Float]
  /// Steps that were taken.
  package var step = 0

  private static let betas: (Float, Float) = (0.9, 0.999)
  private static let epsilon: Float = 1e-8

  package init(count: Int, rate: Float, decay: Float) {
    self.rate = rate
    self.decay = decay
    mean = [Float](repeating: 0, count: count)
    square = mean
  }

  /// The running means of the gradient and of its square.
  package var moments: [[Float]] {
    get { [mean, square] }
    set { (mean, square) = (newValue[0], newValue[1]) }
  }

  package mutating func move(
    _ values: inout [Float], against gradient: [Float], on compute: Compute
  ) {
    precondition(values.count == mean.count && gradient.count == mean.count, "\(mean.count)")
    step += 1
    func power(_ base: Float) -> Float {
      var result = 1.0
      for _ in 0..<step { result *= Double(base) }
      return Float(1 - result)
    }
    let ((b1, b2), epsilon, rate, kept) = (Self.betas, Self.epsilon, rate, 1 - rate * decay)
    let (ofMean, ofSquare) = (power(b1), power(b2).squareRoot())
    unsafe values.withUnsafeMutableBufferPointer { values in
      unsafe mean.withUnsafeMutableBufferPointer { mean in
        unsafe square.withUnsafeMutableBufferPointer { square in
          unsafe gradient.withUnsafeBufferPointer { gradient in
            compute.ranges(of: gradient.count, grain: 16384) { part, _ in
              for i in part {
                let g = unsafe gradient[i]
                unsafe mean[i] = b1 * mean[i] + (1 - b1) * g
                unsafe square[i] = b2 * square[i] + (1 - b2) * g * g
                let size = unsafe square[i].squareRoot() / ofSquare + epsilon
                unsafe values[i] = values[i] * kept - rate * (mean[i] / ofMean / size)
              }
            }
          }
        }
      }
    }
  }
}
