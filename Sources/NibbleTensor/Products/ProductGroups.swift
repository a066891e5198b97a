/// Groups of neighbouring inputs in which the scales of both factors of a product are constant:
/// `y[t, n] = Σ_g x_scale[t, g] · w_scale[n, g] · Σ_{k in g} x[t, k] · w[n, k]`.
///
/// The inner sum of a group is exact in integers. The outer sum is in float, in the order of the
/// groups.
struct ProductGroups: Hashable, Sendable {
  /// Inputs per group; the last may have fewer.
  let width: Int
  let count: Int
  /// Groups per scale of the inputs.
  let perInputScale: Int
  /// Groups per scale of the weight.
  let perWeightScale: Int

  /// - Parameters:
  ///   - inputSpan: inputs per scale of the activation, at most `columns`.
  ///   - weightSpan: inputs per scale of the weight, at most `columns`.
  init(columns: Int, inputSpan: Int, weightSpan: Int) {
    // A scale that covers the whole row does not split it.
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
    // Nested loops instead of one division per group, which would cost more than the group's sum.
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
