import Foundation
import NibbleTensor
import Testing

@testable import NibbleTensor

@Suite struct RoundToNearestTests {
  static let int8 = WeightScheme.Format.int(bits: 8, symmetric: true)
  static let int4 = WeightScheme.Format.int(bits: 4, symmetric: true)
  static let int4Asymmetric = WeightScheme.Format.int(bits: 4, symmetric: false)
  static let int8Asymmetric = WeightScheme.Format.int(bits: 8, symmetric: false)

  static let schemes = [
    WeightScheme(format: int8, granularity: .channel),
    WeightScheme(format: int8, granularity: .tensor),
    WeightScheme(format: int8, granularity: .group(32)),
    WeightScheme(format: int4, granularity: .group(32)),
    WeightScheme(format: int4, granularity: .channel),
    WeightScheme(format: int4Asymmetric, granularity: .group(32)),
    WeightScheme(format: int8Asymmetric, granularity: .channel),
    WeightScheme(format: .e4m3, granularity: .channel),
    WeightScheme(format: .e4m3, granularity: .tensor),
    WeightScheme(format: .e4m3, granularity: .block(rows: 3, columns: 40)),
    WeightScheme(format: int4, granularity: .block(rows: 4, columns: 64)),
  ]

  /// Which scale a value has, by the definitions of the granularities.
  private func scaleIndex(
    _ at: Int, _ n: Int, _ k: Int, _ granularity: WeightScheme.Granularity
  ) -> Int {
    let (row, column) = (at / k, at % k)
    return switch granularity {
    case .tensor: 0
    case .channel: row
    case .group(let size): row * (k / size) + column / size
    case .block(let rows, let columns):
      row / rows * ((k + columns - 1) / columns) + column / columns
    case .rowGroups(let count): row / (n / count)
    }
  }

  /// Rows that try the ends: random, zeros, one spike, constants of both signs, denormals, the
  /// largest float16 in both signs, one-sided values, huge and tiny floats.
  private func awkward(_ k: Int) -> [[Float]] {
    var random = SplitMix(state: 7)
    var spike = [Float](repeating: 0, count: k)
    spike[k - 1] = -3.25
    return [
      (0..<k).map { _ in random.uniform() },
      [Float](repeating: 0, count: k),
      spike,
      [Float](repeating: 0.75, count: k),
      [Float](repeating: -1e-3, count: k),
      (0..<k).map { Float($0) * .leastNonzeroMagnitude },
      (0..<k).map { $0.isMultiple(of: 2) ? 65504 : -65504 },
      (0..<k).map { 100 + Float($0) },
      (0..<k).map { $0 == 3 ? 3e38 : -1e38 * Float($0 % 3) },
      (0..<k).map { _ in 1e-30 * random.uniform() },
    ]
  }

  @Test(arguments: schemes, FloatFormat.allCases)
  func codesAndScalesAreTheFormulas(_ scheme: WeightScheme, _ format: FloatFormat) throws {
    let k = 96
    let rows = awkward(k)
    let weight = FloatMatrix(rows.flatMap { $0 }, rows.count, k)
    let matrix = try QuantizedMatrix(
      rounding: weight, to: scheme, scaleFormat: format, on: oneThread)
    let decoded = matrix.decoded()
    #expect(matrix.scales.allSatisfy { $0.isNormal && $0 > 0 })
    #expect(matrix.scales.map { format.round($0) } == matrix.scales)
    let values = rows.flatMap { $0 }
    let sharing = Dictionary(grouping: values.indices) {
      scaleIndex($0, rows.count, k, scheme.granularity)
    }
    #expect(sharing.count == matrix.scales.count)
    for (index, places) in sharing {
      let x = places.map { values[$0] }
      let scale = matrix.scales[index]
      let zero = matrix.zeroPoints.isEmpty ? 0 : Int(matrix.zeroPoints[index])
      // Denormals over the largest code may round to no scale at all, which counts as zeros.
      let expected = expectedScale(x, scheme, format)
      let isNothing = scale == 1 && x.allSatisfy { abs($0) < 0x1p-140 }
      #expect(abs(scale - expected) <= expected.ulp || isNothing, "scale \(index)")
      if x.allSatisfy({ $0 == 0 }) {
        #expect(places.allSatisfy { decoded[$0] == 0 })
        #expect(scale == 1)
      }
      for (value, place) in zip(x, places) {
        try check(value, decoded[place], scale, zero, scheme.format)
      }
    }
  }

  private func expectedScale(
    _ x: [Float], _ scheme: WeightScheme, _ format: FloatFormat
  ) -> Float {
    let (low, high) = (min(0, x.min()!), max(0, x.max()!))
    let peak = max(-low, high)
    guard peak > 0 else { return 1 }
    // compressed-tensors 0.20 calculate_qparams, in double so that the widest range is finite.
    let exact: Double =
      switch scheme.format.numbers {
      case .minifloat: Double(peak) / 448
      case .integer(let bits):
        scheme.hasZeroPoints
          ? (Double(high) - Double(low)) / Double(1 << bits - 1)
          : Double(peak) / (Double(1 << bits - 1) / 2)
      }
    switch format {
    case .f32: return max(Float(exact), .leastNormalMagnitude)
    case .f16: return Float(Float16(Float(min(max(exact, 0x1p-14), 65504))))
    case .bf16: return roundedToBFloat(max(Float(exact), .leastNormalMagnitude))
    }
  }

  private func check(
    _ x: Float, _ restored: Float, _ scale: Float, _ zero: Int, _ format: WeightScheme.Format
  ) throws {
    let (x, restored, scale) = (Double(x), Double(restored), Double(scale))
    let error = abs(x - restored)
    switch format.numbers {
    case .minifloat:
      // Beyond 448 scales the code saturates, as a scale rounded down lets happen.
      guard abs(x) <= 448 * scale else {
        #expect(abs(restored) == Double(448 * Float(scale)))
        return
      }
      // Half a step: 3 bits of mantissa, or 2^-9 scales below 2^-6 scales; 1e-6 for the division.
      #expect(error <= max(abs(x) / 16, scale * 0x1p-10) * (1 + 1e-6), "\(x) became \(restored)")
    case .integer(let bits):
      let code = (restored / scale).rounded() + Double(zero)
      let (least, most) = (-Double(1 << (bits - 1)), Double(1 << (bits - 1) - 1))
      #expect(code >= least && code <= most)
      // The division and the product round once each: 2^-22 of the largest code.
      let slack = scale * 256 * 0x1p-22
      if x / scale < least - Double(zero) {
        #expect(code == least)
      } else if x / scale > most - Double(zero) {
        #expect(code == most)
      } else {
        #expect(error <= scale / 2 + slack, "\(x) became \(restored), scale \(scale)")
      }
    // methods.md 1.1: half a scale symmetric, a whole one with a rounded zero point. A scale that
    // lost bits to its format, or was held at the format's limit, may cut off more.
    }
  }

  @Test(arguments: [int8, int4, .e4m3], FloatFormat.allCases)
  func theLargestFloatsStayFinite(_ format: WeightScheme.Format, _ scales: FloatFormat) throws {
    let largest = Float.greatestFiniteMagnitude
    let matrix = try QuantizedMatrix(
      rounding: FloatMatrix([largest, -largest, 0, largest / 2], 1, 4),
      to: WeightScheme(format: format, granularity: .channel), scaleFormat: scales, on: oneThread)
    // 448 scales of bfloat16 may lie above the largest float, where only the code -448 or 448 falls.
    let decoded = matrix.decoded()
    #expect(matrix.scales[0].isFinite && decoded[2] == 0 && decoded[3].isFinite)
    if scales == .f16 { #expect(matrix.scales == [65504]) }
  }

  @Test(arguments: schemes)
  func errorStaysWithinTheSchemesBound(_ scheme: WeightScheme) throws {
    let (n, k) = (33, 96)
    let values = gaussian(n * k, seed: 3)
    let matrix = try QuantizedMatrix(
      rounding: FloatMatrix(values, n, k), to: scheme, scaleFormat: .f32, on: oneThread)
    let decoded = matrix.decoded()
    for (index, (x, restored)) in zip(values, decoded).enumerated() {
      let scale = matrix.scales[scaleIndex(index, n, k, scheme.granularity)]
      let bound: Float =
        switch scheme.format.numbers {
        case .minifloat: max(abs(x) / 16, scale * 0x1p-10)
        case .integer: scheme.hasZeroPoints ? scale : scale / 2
        }
      // The division and the product round once each: 2^-22 of the largest code.
      #expect(abs(x - restored) <= bound + scale * 448 * 0x1p-22)
    }
  }

  @Test(arguments: schemes)
  func anyThreadCountGivesTheSameBytes(_ scheme: WeightScheme) throws {
    let weight = FloatMatrix(gaussian(127 * 64, seed: 11), 127, 64, as: .f16)
    func round(_ threads: Int) throws -> QuantizedMatrix {
      try QuantizedMatrix(
        rounding: weight, to: scheme, scaleFormat: .f16,
        on: Compute(threads: threads, precision: .f32))
    }
    let one = try round(1)
    for threads in [2, 5] {
      let other = try round(threads)
      #expect(other.codes.array == one.codes.array)
      #expect(other.scales.bits == one.scales.bits)
      #expect(other.zeroPoints == one.zeroPoints)
    }
  }

  @Test(arguments: schemes, [Float.nan, .infinity, -.infinity])
  func theFirstValueThatIsNoNumberIsNamed(_ scheme: WeightScheme, _ bad: Float) throws {
    let (n, k) = (97, 64)
    for threads in [1, 3] {
      for index in [0, 63, 64, 2047, 2048 + 33, n * k - 1] {
        var values = uniform(n * k, seed: 5)
        values[index] = bad
        // A later one must not be named instead, on whichever thread it is met.
        values[n * k - 1] = bad
        if index + 40 < n * k { values[index + 40] = .nan }
        #expect(throws: NonFinite(index: index)) {
          try QuantizedMatrix(
            rounding: FloatMatrix(values, n, k), to: scheme, scaleFormat: .f32,
            on: Compute(threads: threads, precision: .f32))
        }
      }
    }
  }

  @Test(arguments: [(0, 32), (1, 32), (31, 32), (33, 8), (1, 2)])
  func smallAndEmptyMatricesRound(_ n: Int, _ k: Int) throws {
    for format in [Self.int8, Self.int4, Self.int4Asymmetric, .e4m3] {
      let values = uniform(n * k, seed: 2)
      let matrix = try QuantizedMatrix(
        rounding: FloatMatrix(values, n, k),
        to: WeightScheme(format: format, granularity: .channel),
        scaleFormat: .f32, on: oneThread)
      #expect(matrix.scales.count == n)
      #expect(matrix.decoded().count == n * k)
    }
  }

  @Test(arguments: [1, 31, 33, 127])
  func oddRowsOfBytesRound(_ k: Int) throws {
    let values = uniform(3 * k, seed: 4)
    for format in [Self.int8, Self.int8Asymmetric, .e4m3] {
      let matrix = try QuantizedMatrix(
        rounding: FloatMatrix(values, 3, k),
        to: WeightScheme(format: format, granularity: .channel),
        scaleFormat: .f32, on: oneThread)
      for (index, (x, restored)) in zip(values, matrix.decoded()).enumerated() {
        // e4m3 has the coarsest step: a sixteenth of the value, 2^-10 scales near zero.
        let bound = format == .e4m3 ? abs(x) / 15 : matrix.scales[index / k]
        #expect(abs(x - restored) <= bound + matrix.scales[index / k] * 0x1p-9)
      }
    }
  }

  /// ZeroQuant's groups are of whole outputs, and DeepSpeed's quantizer divides by 2^(bits-1): the
  /// largest value is cut by up to one code. Source: spec/methods.md 1.1 and 3.1.
  @Test(arguments: [(8, 1), (8, 3), (4, 6), (4, 12)], [1, 3])
  func groupsOfRowsAreRoundedAsDeepSpeedDoes(_ scheme: (bits: Int, groups: Int), _ threads: Int)
    throws
  {
    let (n, k) = (12, 66)
    var values = gaussian(n * k, seed: 12).enumerated().map {
      $0.element * Float($0.offset / k + 1)
    }
    // A group of zeros where it has one row, which DeepSpeed divides by zero.
    for i in 0..<k { values[i] = 0 }
    let matrix = try QuantizedMatrix(
      rounding: FloatMatrix(values, n, k),
      to: WeightScheme(
        format: .int(bits: scheme.bits, symmetric: true), granularity: .rowGroups(scheme.groups)),
      scaleFormat: .f32, on: Compute(threads: threads, precision: .f32))
    let half = Float(1 << (scheme.bits - 1))
    let size = n / scheme.groups * k
    #expect(matrix.scales.count == scheme.groups)
    let decoded = matrix.decoded()
    for group in 0..<scheme.groups {
      let x = values[group * size..<(group + 1) * size]
      let peak = x.map(abs).max()!
      let scale = peak == 0 ? 1 : peak / half
      #expect(matrix.scales[group] == scale)
      for (index, value) in zip(x.indices, x) {
        let code = min(max((value / scale).rounded(.toNearestOrEven), -half), half - 1)
        #expect(decoded[index] == code * scale)
      }
    }
  }

  @Test func whatDoesNotFitIsNotStored() {
    func fits(
      _ granularity: WeightScheme.Granularity, _ n: Int, _ k: Int,
      _ format: WeightScheme.Format = Self.int8
    ) -> Bool {
      WeightScheme(format: format, granularity: granularity).fits(outputs: n, inputs: k)
    }
    #expect(fits(.rowGroups(48), 576, 33) && !fits(.rowGroups(64), 100, 64))
    #expect(!fits(.rowGroups(0), 4, 4) && !fits(.rowGroups(-1), 4, 4))
    #expect(fits(.block(rows: 128, columns: 128), 1, 1, .e4m3))
    #expect(!fits(.block(rows: 0, columns: 8), 8, 8) && !fits(.block(rows: 8, columns: 0), 8, 8))
    #expect(fits(.block(rows: 2, columns: 6), 3, 8, Self.int4))
    #expect(!fits(.block(rows: 2, columns: 5), 3, 8, Self.int4))
    #expect(!fits(.channel, 3, 7, Self.int4) && !fits(.group(3), 3, 6, Self.int4))
    for granularity in [
      WeightScheme.Granularity.tensor, .rowGroups(2), .block(rows: 2, columns: 2),
    ] {
      #expect(!fits(granularity, 4, 4, Self.int8Asymmetric))
    }
  }

  /// Codes lie where the format says: two's complement bytes, or the first code in the low nibble.
  @Test func codesLieInTheDocumentedOrder() throws {
    let values: [Float] = [-7.5, 7, 0, 1, -1, 2, 3, -4]
    let four = try QuantizedMatrix(
      rounding: FloatMatrix(values, 1, 8),
      to: WeightScheme(format: Self.int4, granularity: .channel), scaleFormat: .f32, on: oneThread)
    #expect(four.scales == [1])
    // -7.5 rounds half to even to -8; stored as code + 8.
    #expect(four.codes.array == [0xF0, 0x98, 0xA7, 0x4B])
    let eight = try QuantizedMatrix(
      rounding: FloatMatrix([-127.5, 127.5, 0.5, 1.5, -2.5], 1, 5),
      to: WeightScheme(format: Self.int8, granularity: .tensor), scaleFormat: .f32, on: oneThread)
    #expect(eight.codes.array.map { Int8(bitPattern: $0) } == [-128, 127, 0, 2, -2])
  }

  /// spec/methods.md 1.1 measured these on 2^21 samples or more. 64 rows of 4096 spread by 0.1 dB,
  /// most of it the rows' largest values, which set the scales.
  @Test(arguments: [
    (int8, WeightScheme.Granularity.channel, 41.2), (int4, .group(128), 19.1),
    (int4Asymmetric, .group(128), 19.95), (int4Asymmetric, .group(32), 21.9),
    (.e4m3, .channel, 31.5), (.e4m3, .tensor, 31.5),
  ])
  func noiseOfGaussianWeightsIsAsPublished(
    _ format: WeightScheme.Format, _ granularity: WeightScheme.Granularity, _ expected: Double
  ) throws {
    let weight = Self.gaussianWeight
    let matrix = try QuantizedMatrix(
      rounding: weight, to: WeightScheme(format: format, granularity: granularity),
      scaleFormat: .f32, on: oneThread)
    let noise = matrix.signalToNoise(against: weight, on: oneThread)
    #expect(abs(noise - expected) < 0.3, "\(noise) dB")
  }

  private static let gaussianWeight = FloatMatrix(gaussian(64 * 4096, seed: 1), 64, 4096)

  @Test(arguments: [FloatFormat.f32, .f16], [1, 3])
  func signalToNoiseIsTheFormula(_ format: FloatFormat, _ threads: Int) throws {
    let weight = FloatMatrix(gaussian(67 * 33, seed: 8), 67, 33, as: format)
    let matrix = try QuantizedMatrix(
      rounding: weight, to: Self.schemes[0], scaleFormat: .f32, on: oneThread)
    var (signal, error) = (0.0, 0.0)
    for (x, restored) in zip(weight.values(of: 0..<67), matrix.decoded()) {
      signal += Double(x) * Double(x)
      error += (Double(x) - Double(restored)) * (Double(x) - Double(restored))
    }
    let noise = matrix.signalToNoise(
      against: weight, on: Compute(threads: threads, precision: .f32))
    // Both sum 2211 squares in double, in different orders.
    #expect(abs(noise - 10 * log10(signal / error)) < 1e-9)
  }

  @Test func nothingLostIsInfinitelyQuiet() throws {
    let weight = FloatMatrix([1, 0, -1, 0.5].map { $0 * 127.5 / 127.5 }, 1, 4)
    let exact = QuantizedMatrix(
      scheme: Self.schemes[0], rows: 1, columns: 4, codes: Bytes([2, 0, 254, 1]), scales: [0.5])
    #expect(exact.signalToNoise(against: weight, on: oneThread) == .infinity)
  }
}
