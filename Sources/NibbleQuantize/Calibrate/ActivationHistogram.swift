/// Histogram of an activation's values in 2048 bins of equal width.
struct ActivationHistogram {
  private static let bins = 2048
  private static let codes = 256.0

  private let low: Float
  private let high: Float
  private var counts = [Double](repeating: 0, count: bins)

  init(low: Float, high: Float) {
    self.low = low
    self.high = max(high, low)
  }

  private var width: Double { (Double(high) - Double(low)) / Double(Self.bins) }

  mutating func add(_ values: [Float], weight: Double) {
    guard width > 0, width.isFinite else { return }
    for value in values {
      let bin = ((Double(value) - Double(low)) / width).rounded(.down)
      counts[Int(min(max(bin, 0), Double(Self.bins - 1)))] += weight
    }
  }

  /// The range of bins whose quantization to 256 codes has the least squared error, with values
  /// uniform within their bins.
  ///
  /// Both ends move inwards by quantiles of 1e-5 until the error grows; each time the end that
  /// skips more bins moves. Source: PyTorch 2.13, `HistogramObserver._non_linear_param_search`.
  func leastLoss() -> (low: Float, high: Float) {
    let total = counts.reduce(0, +)
    guard total > 0 else { return (low, high) }
    var sums = counts
    for bin in 1..<Self.bins { sums[bin] += sums[bin - 1] }
    let step = 1e-5
    var (alpha, beta) = (0.0, 1.0)
    var (first, last) = (0, Self.bins - 1)
    var least = Double.infinity
    while alpha < beta {
      let (nextAlpha, nextBeta) = (alpha + step, beta - step)
      var (left, right) = (first, last)
      while left < last, sums[left] < nextAlpha * total { left += 1 }
      while right > first, sums[right] > nextBeta * total { right -= 1 }
      var (nextFirst, nextLast) = (first, last)
      if left - first > last - right {
        nextFirst = left
        alpha = nextAlpha
      } else {
        nextLast = right
        beta = nextBeta
      }
      if nextFirst == first, nextLast == last { continue }
      let loss = loss(nextFirst, nextLast)
      guard loss <= least else { break }
      (least, first, last) = (loss, nextFirst, nextLast)
    }
    return (
      Float(Double(low) + width * Double(first)), Float(Double(low) + width * Double(last + 1))
    )
  }

  private func loss(_ first: Int, _ last: Int) -> Double {
    let code = width * Double(last - first + 1) / Self.codes
    guard code > 0 else { return 0 }
    /// `∫ x² dx` over the distances `from...to` from a code's value.
    func energy(_ from: Double, _ to: Double) -> Double { (to * to * to - from * from * from) / 3 }
    let whole = energy(-code / 2, code / 2)
    var loss = 0.0
    for (bin, count) in counts.enumerated() where count > 0 {
      let begin = Double(bin - first) * width
      let end = begin + width
      let beginCode = min(max((begin / code).rounded(.down), 0), Self.codes - 1)
      let endCode = min(max((end / code).rounded(.down), 0), Self.codes - 1)
      let sum =
        energy(begin - (beginCode + 0.5) * code, code / 2) + (endCode - beginCode - 1) * whole
        + energy(-code / 2, end - (endCode + 0.5) * code)
      loss += sum * count / width
    }
    return loss
  }
}
