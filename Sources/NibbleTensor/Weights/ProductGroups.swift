/// The inputs of a product cut into neighbouring groups in which the scales of both factors are
/// constant: `y[t, n] = Σ_g x_scale[t, g] · w_scale[n, g] · Σ_{k in g} x[t, k] · w[n, k]`.
///
/// A scale that depends on the input cannot leave the inner sum of its group, which is exact in
/// integers; the outer sum is in float and in the order of the groups.
struct ProductGroups: Hashable, Sendable {
  /// Inputs of a group; the last may have fewer.
  let width: Int
  let count: Int
  /// Groups that share a scale of the inputs.
  let perInputScale: Int
  /// Groups that share a scale of the weight.
  let perWeightScale: Int

  /// - Parameters:
  ///   - inputSpan: inputs that share a scale, at most `columns`; so for the weight.
  init(columns: Int, inputSpan: Int, weightSpan: Int) {
    // A span of the whole row cuts nothing.
    let cuts = [inputSpan, weightSpan].filter { $0 < columns }
    let width = cuts.isEmpty ? columns : cuts.reduce(0, Self.greatestCommonDivisor)
    let count = (columns + width - 1) / width
    self.width = width
    self.count = count
    perInputScale = inputSpan < columns ? inputSpan / width : count
    perWeightScale = weightSpan < columns ? weightSpan / width : count
  }

  /// The inputs of one group.
  func inputs(of group: Int, columns: Int) -> Range<Int> {
    group * width..<min(columns, (group + 1) * width)
  }

  /// Calls `body` with each group and the index of its scale in a row of the weight.
  @inline(__always)
  func visit(_ body: (_ group: Int, _ weightScale: Int) -> Void) {
    var group = 0
    // Without a division a group, which would cost more than its sum.
    for scale in 0..<(count + perWeightScale - 1) / perWeightScale {
      for _ in 0..<min(perWeightScale, count - group) {
        body(group, scale)
        group += 1
      }
    }
  }

  private static func greatestCommonDivisor(_ a: Int, _ b: Int) -> Int {
    b == 0 ? a : greatestCommonDivisor(b, a % b)
  }
}
