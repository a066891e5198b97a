import NibbleTensor
import Testing

@Suite struct ScaleSearchTests {
  static let schemes: [WeightScheme] =
    ([
      .int(bits: 4, symmetric: true), .int(bits: 4, symmetric: false),
      .int(bits: 8, symmetric: true), .int(bits: 8, symmetric: false), .e4m3,
    ] as [WeightScheme.Format]).flatMap { format in
      ([.channel, .group(32)] as [WeightScheme.Granularity]).map {
        WeightScheme(format: format, granularity: $0)
      }
    }

  private func nearest(
    _ weight: [Float], _ columns: Int, _ scheme: WeightScheme, _ search: ScaleSearch,
    _ moments: GramMatrix?, scaleFormat: FloatFormat = .f32, on compute: Compute = oneThread
  ) -> QuantizedMatrix {
    QuantizedMatrix(
      nearest: FloatRows(weight, columns: columns),
      to: WeightRounding(scheme: scheme, scaleFormat: scaleFormat, search: search),
      importance: moments.map { gram in
        (0..<columns).map { gram.values[$0 * columns + $0] }
      }, moments: moments, on: compute)
  }

  private func moments(_ x: [Float], _ channels: Int) -> GramMatrix {
    var gram = GramMatrix(channels: channels)
    gram.add(x, on: oneThread)
    gram.finish(on: oneThread)
    return gram
  }

  /// The error of each group of each row under the block of `moments` that belongs to it, or under its
  /// diagonal.
  private func errors(
    _ weight: [Float], _ rounded: QuantizedMatrix, _ moments: GramMatrix, diagonal: Bool
  ) -> [Double] {
    let k = rounded.columns
    let span = k / rounded.grid.perRow
    let values = rounded.decoded()
    return stride(from: 0, to: weight.count, by: span).map { start in
      let d = (start..<start + span).map { Double(values[$0]) - Double(weight[$0]) }
      let first = start % k
      var error = 0.0
      for i in 0..<span {
        for j in diagonal ? i..<i + 1 : 0..<span {
          error += d[i] * d[j] * Double(moments.values[(first + i) * k + first + j])
        }
      }
      return error
    }
  }

  /// Expects that `search` beats the extremes in its own error in every group, and somewhere for real.
  private func expectBetter(
    _ weight: [Float], _ k: Int, _ scheme: WeightScheme, _ search: ScaleSearch, diagonal: Bool
  ) {
    let gram = moments(correlated(tokens: 90, channels: k, seed: 2), k)
    let ours = errors(
      weight, nearest(weight, k, scheme, search, gram), gram, diagonal: diagonal)
    let widest = errors(
      weight, nearest(weight, k, scheme, .extremes, gram), gram, diagonal: diagonal)
    for (a, b) in zip(ours, widest) {
      // The search sums in float.
      #expect(a <= b * (1 + 1e-4), "\(a), \(b)")
    }
    #expect(ours.reduce(0, +) < 0.99 * widest.reduce(0, +))
  }

  @Test(arguments: schemes)
  func shrinkingNeverLosesToTheExtremes(_ scheme: WeightScheme) {
    // Heavy tails: there is something to cut.
    let (n, k) = (21, 96)
    let weight = gaussian(n * k, seed: 1).map { $0 * $0 * $0 }
    for steps in [2, 20, 45] where steps > 2 || scheme.bits == 4 {
      let gram = moments(correlated(tokens: 90, channels: k, seed: 2), k)
      let ours = errors(
        weight, nearest(weight, k, scheme, .shrink(steps: steps), gram), gram, diagonal: true)
      let widest = errors(weight, nearest(weight, k, scheme, .extremes, gram), gram, diagonal: true)
      for (a, b) in zip(ours, widest) { #expect(a <= b * (1 + 1e-4), "\(a), \(b)") }
      #expect(ours.reduce(0, +) < widest.reduce(0, +))
    }
  }

  @Test(arguments: schemes.filter { $0.format != .e4m3 && $0.bits == 4 })
  func clippingNeverLosesToTheExtremes(_ scheme: WeightScheme) {
    let (n, k) = (21, 96)
    expectBetter(
      gaussian(n * k, seed: 3).map { $0 * abs($0) }, k, scheme, .clip, diagonal: false)
  }

  @Test func clippingTakesRowsOfAnyWidth() {
    let (n, k) = (3, 1100)
    expectBetter(
      gaussian(n * k, seed: 4).map { $0 * $0 * $0 }, k,
      WeightScheme(format: .int(bits: 4, symmetric: false), granularity: .channel), .clip,
      diagonal: false)
  }

  @Test(arguments: schemes, [.extremes, .shrink(steps: 20), .clip] as [ScaleSearch])
  func groupsWithoutASpreadKeepTheirValues(_ scheme: WeightScheme, _ search: ScaleSearch) {
    let k = 32
    let rows: [[Float]] = [
      [Float](repeating: 3.5, count: k), [Float](repeating: -0.01, count: k),
      [Float](repeating: 0, count: k), uniform(k, seed: 5).map { 1 + abs($0) },
      uniform(k, seed: 6).map { -1 - abs($0) }, [Float](repeating: 0, count: k - 1) + [1e-30],
      (0..<k).map { $0 == 7 ? 2 : 0 },
    ]
    let gram = moments(correlated(tokens: 60, channels: k, seed: 7), k)
    let weight = rows.flatMap(\.self)
    let rounded = nearest(weight, k, scheme, search, gram)
    let widest = nearest(weight, k, scheme, .extremes, gram)
    let (values, extremes) = (rounded.decoded(), widest.decoded())
    for row in rows.indices {
      let (scale, zero) = (
        rounded.scales[row], rounded.zeroPoints.isEmpty ? 0 : rounded.zeroPoints[row]
      )
      #expect(scale.isNormal && scale > 0)
      let peak = rows[row].map(abs).max() ?? 0
      for i in 0..<k {
        let (w, step) = (rows[row][i], widest.scales[row])
        // One-signed ranges start at zero, which is on the grid; symmetric ones end half a step
        // beyond their last code.
        let bound =
          scheme.format == .e4m3 ? max(abs(w) / 16, step * 0x1p-10) : step * 0.5
        #expect(abs(extremes[row * k + i] - w) <= bound * 1.001, "row \(row)")
        // A searched range is no narrower than a fifth.
        #expect(abs(values[row * k + i] - w) <= peak, "row \(row)")
        if w == 0 { #expect(values[row * k + i] == 0) }
      }
      if peak == 0 { #expect(scale == 1 && (scheme.hasZeroPoints || zero == 0)) }
    }
    let ours = errors(weight, rounded, gram, diagonal: search != .clip)
    let theirs = errors(weight, widest, gram, diagonal: search != .clip)
    for (a, b) in zip(ours, theirs) { #expect(a <= b * (1 + 1e-4) + 1e-30) }
  }

  @Test(arguments: schemes, FloatFormat.allCases)
  func withoutASearchItIsRoundingToNearest(_ scheme: WeightScheme, _ format: FloatFormat) throws {
    let (n, k) = (33, 96)
    let weight = gaussian(n * k, seed: 8)
    let ours = nearest(weight, k, scheme, .extremes, nil, scaleFormat: format)
    let golden = try QuantizedMatrix(
      rounding: FloatMatrix(weight, n, k), to: scheme, scaleFormat: format, on: oneThread)
    #expect(ours.codes.array == golden.codes.array)
    #expect(ours.scales == golden.scales && ours.zeroPoints == golden.zeroPoints)
  }

  @Test(arguments: [
    WeightScheme(format: .int(bits: 8, symmetric: true), granularity: .tensor),
    WeightScheme(format: .e4m3, granularity: .tensor),
    WeightScheme(format: .e4m3, granularity: .block(rows: 16, columns: 64)),
    WeightScheme(format: .int(bits: 4, symmetric: true), granularity: .rowGroups(11)),
  ])
  func scalesThatRowsShareAreThoseOfTheExtremes(_ scheme: WeightScheme) throws {
    let (n, k) = (33, 96)
    let weight = gaussian(n * k, seed: 9)
    let ours = nearest(weight, k, scheme, .extremes, nil)
    let golden = try QuantizedMatrix(
      rounding: FloatMatrix(weight, n, k), to: scheme, scaleFormat: .f32, on: oneThread)
    #expect(ours.codes.array == golden.codes.array && ours.scales == golden.scales)
  }

  @Test(arguments: schemes, [.shrink(steps: 20), .clip] as [ScaleSearch])
  func threadsDoNotChangeABit(_ scheme: WeightScheme, _ search: ScaleSearch) {
    let (n, k) = (50, 96)
    let weight = gaussian(n * k, seed: 10)
    let gram = moments(correlated(tokens: 60, channels: k, seed: 11), k)
    let one = nearest(weight, k, scheme, search, gram)
    let three = nearest(
      weight, k, scheme, search, gram, on: Compute(threads: 3, precision: .f32))
    #expect(one.codes.array == three.codes.array)
    #expect(one.scales == three.scales && one.zeroPoints == three.zeroPoints)
  }
}
