import Foundation
import NibbleTensor
import Testing

@Suite struct FeedbackTests {
  /// A scheme, and whether columns come by falling diag(H).
  struct Setting: CustomStringConvertible {
    var scheme: WeightScheme
    var isOrdered = false

    init(
      _ format: WeightScheme.Format, _ granularity: WeightScheme.Granularity, ordered: Bool = false
    ) {
      scheme = WeightScheme(format: format, granularity: granularity)
      isOrdered = ordered
    }

    var description: String { "\(scheme)\(isOrdered ? ", ordered" : "")" }
    var isChannel: Bool { scheme.granularity == .channel }
    var rounding: WeightRounding {
      WeightRounding(scheme: scheme, scaleFormat: .f32, search: .extremes)
    }
  }

  static let settings: [Setting] = [
    Setting(.int(bits: 4, symmetric: true), .channel),
    Setting(.int(bits: 4, symmetric: false), .channel, ordered: true),
    Setting(.int(bits: 4, symmetric: true), .group(32)),
    Setting(.int(bits: 4, symmetric: false), .group(48)),
    Setting(.int(bits: 4, symmetric: false), .group(32), ordered: true),
    Setting(.int(bits: 8, symmetric: true), .channel),
    Setting(.int(bits: 8, symmetric: false), .group(2)),
    Setting(.e4m3, .channel), Setting(.e4m3, .channel, ordered: true),
    Setting(.e4m3, .group(48), ordered: true), Setting(.e4m3, .group(32)),
    Setting(.minifloat(.e2m1), .group(48), ordered: true), Setting(.minifloat(.e3m4), .channel),
    Setting(.mxfp4, .group(32), ordered: true), Setting(.nvfp4, .group(16)),
  ]

  private static func order(_ moments: DoubleMatrix) -> [Int] {
    (0..<moments.rows).sorted { (moments[$0, $0], $1) > (moments[$1, $1], $0) }
  }

  private static func round(
    _ weight: [Float], _ moments: DoubleMatrix, _ setting: Setting,
    on compute: Compute = oneThread
  ) throws -> QuantizedMatrix {
    let k = moments.rows
    let order = setting.isOrdered ? order(moments) : nil
    let factor = try #require(
      UpperFactor(
        of: (order.map { moments.ordered($0) } ?? moments).floats, size: k, on: compute))
    return QuantizedMatrix(
      feedback: FloatRows(weight, columns: k), to: setting.rounding, factor: factor, order: order,
      on: compute)
  }

  private static func loss(
    _ weight: [Float], _ rounded: [Double], _ moments: DoubleMatrix
  ) -> Double {
    moments.energy(of: zip(weight, rounded).map { Double($0) - $1 })
  }

  @Test(arguments: settings)
  func independentInputsOfEqualSizeAreRoundedToNearest(_ setting: Setting) throws {
    let (n, k) = (19, 192)
    let weight = gaussian(n * k, seed: 1)
    let nearest = try QuantizedMatrix(
      rounding: FloatMatrix(weight, n, k), to: setting.scheme, scaleFormat: .f32, on: oneThread)
    for size in [1, 0.37, 250] {
      var moments = DoubleMatrix(rows: k, columns: k)
      for j in 0..<k { moments[j, j] = size }
      let rounded = try Self.round(weight, moments, setting)
      #expect(rounded.scales == nearest.scales && rounded.zeroPoints == nearest.zeroPoints)
      #expect(rounded.codes.array == nearest.codes.array, "\(size)")
    }
  }

  @Test(arguments: settings)
  func itIsTheAlgorithmOfThePaper(_ setting: Setting) throws {
    let (n, k) = (96, 192)
    let weight = gaussian(n * k, seed: 2)
    let moments = secondMoments(correlated(tokens: 400, channels: k, seed: 3), channels: k)
    let ours = try Self.round(weight, moments, setting).decoded()
    let reference = PaperGPTQ(
      moments: moments, order: setting.isOrdered ? Self.order(moments) : nil, setting.scheme
    ).round(weight)
    let half = reference.steps.map { $0 / 2 }
    let same = ours.indices.count { abs(Double(ours[$0]) - reference.values[$0]) < half[$0] }
    // A target on the edge between two codes may fall either way, and its row goes on from there. The
    // largest value of a symmetric group that is found on the way always lies on one: half a step
    // beyond the last code.
    let ties = setting.scheme.format == .int(bits: 4, symmetric: true) && !setting.isChannel
    #expect(Double(same) >= (ties ? 0.98 : 0.995) * Double(n * k), "\(same) of \(n * k)")
    let (a, b) = (
      Self.loss(weight, ours.map(Double.init), moments),
      Self.loss(weight, reference.values, moments)
    )
    #expect(abs(a - b) <= (ties ? 1e-2 : 1e-3) * b, "\(a), \(b)")
  }

  @Test(arguments: settings)
  func correlatedInputsLoseLessThanToNearest(_ setting: Setting) throws {
    let (n, k) = (16, 96)
    for seed in 0..<10 as Range<UInt64> {
      let weight = gaussian(n * k, seed: 100 + seed)
      let moments = secondMoments(
        correlated(tokens: 150, channels: k, seed: 200 + seed), channels: k)
      let nearest = try QuantizedMatrix(
        rounding: FloatMatrix(weight, n, k), to: setting.scheme, scaleFormat: .f32, on: oneThread)
      let ours = try Self.round(weight, moments, setting)
      let losses = [ours, nearest].map {
        Self.loss(weight, $0.decoded().map(Double.init), moments)
      }
      #expect(losses[0] < losses[1], "\(seed)")
      #expect(ours.scales.allSatisfy { $0 > 0 && $0.isFinite })
    }
  }

  @Test(arguments: settings)
  func threadsDoNotChangeABit(_ setting: Setting) throws {
    let (n, k) = (70, 96)
    let weight = gaussian(n * k, seed: 4)
    let moments = secondMoments(correlated(tokens: 150, channels: k, seed: 5), channels: k)
    let one = try Self.round(weight, moments, setting)
    let three = try Self.round(weight, moments, setting, on: Compute(threads: 3, precision: .f32))
    #expect(one.codes.array == three.codes.array)
    #expect(one.scales == three.scales && one.zeroPoints == three.zeroPoints)
  }

  @Test func anOrderIsThatOfPermutedColumns() throws {
    let (n, k) = (7, 130)
    let weight = gaussian(n * k, seed: 6)
    let moments = secondMoments(correlated(tokens: 200, channels: k, seed: 7), channels: k)
    let order = Self.order(moments)
    for format in [.int(bits: 8, symmetric: false), .e4m3] as [WeightScheme.Format] {
      let ordered = try Self.round(weight, moments, Setting(format, .channel, ordered: true))
      let permuted = (0..<n).flatMap { row in order.map { weight[row * k + $0] } }
      let plain = try Self.round(permuted, moments.ordered(order), Setting(format, .channel))
      #expect(ordered.scales == plain.scales)
      for row in 0..<n {
        for j in 0..<k {
          #expect(ordered.codes.array[row * k + order[j]] == plain.codes.array[row * k + j])
        }
      }
    }
  }

  @Test(arguments: settings)
  func aChannelThatNeverSpeaksIsRoundedByItself(_ setting: Setting) throws {
    let (n, k, dead) = (9, 96, [0, 31, 50, 95])
    var weight = gaussian(n * k, seed: 8)
    for j in 0..<k { weight[4 * k + j] = 0 }
    var x = correlated(tokens: 150, channels: k, seed: 9)
    for token in 0..<150 { for channel in dead { x[token * k + channel] = 0 } }
    let rounded = try Self.round(weight, secondMoments(x, channels: k), setting)
    let values = rounded.decoded()
    let scales = rounded.scales
    let span = k / rounded.grid.perRow
    for row in 0..<n {
      for channel in dead {
        let index = row * k + channel
        let group = row * rounded.grid.perRow + channel / span
        let (w, scale) = (weight[index], scales[group])
        if case .minifloat(let format) = setting.scheme.format.numbers {
          #expect(values[index] == format.nearest(w / scale) * scale)
        } else {
          let zero = rounded.zeroPoints.isEmpty ? 0 : Float(rounded.zeroPoints[group])
          let least = -Float(1 << (setting.scheme.bits - 1)) - zero
          let code = (w / scale).rounded(.toNearestOrEven)
          #expect(values[index] == min(max(code, least), -1 - least - 2 * zero) * scale)
        }
      }
    }
    for j in 0..<k { #expect(values[4 * k + j] == 0) }
    for group in 0..<rounded.grid.perRow {
      #expect(scales[4 * rounded.grid.perRow + group] == 1 / rounded.scaleDivisor)
    }
    #expect(values.allSatisfy { $0.isFinite })
  }

  @Test func twoColumnsFollowTheFormula() throws {
    // H = [[1, 0.9], [0.9, 1]]: rounding the first column by e moves the second by 0.9 e.
    let moments = DoubleMatrix(rows: 2, columns: 2, [1, 0.9, 0.9, 1])
    let weight: [Float] = [0.3, 7.5, 0.3, -7.5]
    let rounded = try Self.round(
      weight, moments, Setting(.int(bits: 4, symmetric: true), .channel)
    ).decoded()
    // Scale 1: 0.3 becomes 0, and the others aim at 7.77 (cut to 7) and -7.23.
    #expect(rounded == [0, 7, 0, -7])
  }
}

/// GPTQ, arXiv 2210.17323, algorithm 1, column by column in double: `U = chol(H⁻¹)ᵀ`, and each error
/// over `U_jj` goes into the columns that follow.
private struct PaperGPTQ {
  let upper: DoubleMatrix
  let order: [Int]
  let isOrdered: Bool
  let scheme: WeightScheme

  init(moments: DoubleMatrix, order: [Int]?, _ scheme: WeightScheme) {
    self.order = order ?? Array(0..<moments.rows)
    isOrdered = order != nil
    upper = moments.ordered(self.order).inverse.lowerFactor.transposed
    self.scheme = scheme
  }

  /// The rounded values, and the steps of their grids.
  func round(_ weight: [Float]) -> (values: [Double], steps: [Double]) {
    let k = order.count
    var span = k
    if case .group(let size) = scheme.granularity { span = size }
    let divisor = 2688 / (weight.map(abs).max() ?? 1)
    var values = weight.map(Double.init)
    var steps = values
    for row in 0..<weight.count / k {
      let original = Array(weight[row * k..<(row + 1) * k])
      var w = order.map { Double(original[$0]) }
      var grids = stride(from: 0, to: k, by: span).map { grid(original[$0..<$0 + span], divisor) }
      for j in 0..<k {
        // A group's grid is found on the updated weights when its first column is reached; with an
        // order, on the weight.
        if !isOrdered, span < k, j.isMultiple(of: span) {
          grids[j / span] = grid(w[j..<j + span].map { Float($0) }[...], divisor)
        }
        let (scale, zero) = grids[order[j] / span]
        let rounded = nearest(w[j], scale, zero)
        let error = (w[j] - rounded) / upper[j, j]
        for l in j..<k { w[l] -= error * upper[j, l] }
        values[row * k + order[j]] = rounded
        steps[row * k + order[j]] =
          if case .minifloat(let format) = scheme.format.numbers {
            max(
              abs(rounded) / Double(2 << format.mantissaBits),
              Double(sign: .plus, exponent: 1 - format.bias - format.mantissaBits, significand: 1)
                * Double(scale))
          } else { Double(scale) }
      }
    }
    return (values, steps)
  }

  private func grid(
    _ values: ArraySlice<Float>, _ divisor: Float
  ) -> (scale: Float, zero: Float) {
    let (low, high) = (min(values.min() ?? 0, 0), max(values.max() ?? 0, 0))
    let peak = max(-low, high)
    switch scheme.format.scales {
    case .float: break
    case .powerOfTwo: return (exp2(floor(log2(peak)) - 2), 0)
    case .e4m3: return (Float(E4M3.nearest(min(divisor * peak / 6, 448)).value) / divisor, 0)
    }
    guard scheme.hasZeroPoints else { return (peak / scheme.largestCode, 0) }
    let scale = (high - low) / Float((1 << scheme.bits) - 1)
    let least = -Float(1 << (scheme.bits - 1))
    return (scale, (least - low / scale).rounded(.toNearestOrEven))
  }

  private func nearest(_ w: Double, _ scale: Float, _ zero: Float) -> Double {
    if case .minifloat(let format) = scheme.format.numbers {
      let target = w / Double(scale)
      let numbers = format.values.filter(\.isFinite).map(Double.init)
      return numbers.min { abs($0 - target) < abs($1 - target) }! * Double(scale)
    }
    let least = -Double(1 << (scheme.bits - 1))
    let code = (w / Double(scale)).rounded(.toNearestOrEven) + Double(zero)
    return (min(max(code, least), -least - 1) - Double(zero)) * Double(scale)
  }
}
