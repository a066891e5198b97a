import NibbleTensor
import Testing

@testable import NibbleTensor

/// Products of every scheme against sums in double of what the schemes' formulas say the factors are.
@Suite struct SchemeProductTests {
  struct Kind: Sendable, CustomTestStringConvertible {
    var weights: WeightScheme
    var inputs: InputRounding?
    var testDescription: String { "\(weights); \(inputs.map { "\($0.scheme)" } ?? "float")" }

    /// Whether codes multiply codes in integers.
    var isInteger: Bool {
      weights.format.isInteger && !weights.hasZeroPoints && inputs?.scheme.format == .int8
    }
    /// Whether all but the last roundings of such a product are exact.
    var isExact: Bool { isInteger && !weights.format.hasOffsets }
  }

  private static let int8 = WeightScheme.Format.int(bits: 8, symmetric: true)
  private static let int4 = WeightScheme.Format.int(bits: 4, symmetric: true)
  private static let int8Asymmetric = WeightScheme.Format.int(bits: 8, symmetric: false)
  private static let perToken = InputRounding(.dynamicPerToken(.int8))
  private static let perTensor = InputRounding(.dynamicPerTensor(.int8))
  private static let fixed = InputRounding(.staticPerTensor(.int8), range: InputRange(scale: 0.02))
  private static let asymmetric = InputRounding(
    .staticAsymmetric, range: InputRange(scale: 0.015, zero: -37))
  private static let fp8Groups = InputRounding(.dynamicPerGroup(.e4m3, 128))
  private static let fp8Fixed = InputRounding(
    .staticPerTensor(.e4m3), range: InputRange(scale: 0.005))

  private static func kind(
    _ format: WeightScheme.Format, _ granularity: WeightScheme.Granularity, _ inputs: InputRounding?
  ) -> Kind {
    Kind(weights: WeightScheme(format: format, granularity: granularity), inputs: inputs)
  }

  static let kinds = [
    kind(int8, .channel, perTensor), kind(int8, .channel, fixed), kind(int8, .channel, asymmetric),
    kind(int8, .tensor, asymmetric), kind(int8, .rowGroups(12), perToken),
    kind(int8, .rowGroups(12), nil), kind(int8, .group(32), perToken),
    kind(int8, .group(64), perTensor), kind(int8, .group(96), fixed),
    kind(int8, .group(96), asymmetric), kind(int8, .block(rows: 7, columns: 80), perToken),
    kind(int4, .channel, perToken), kind(int4, .channel, asymmetric),
    kind(int4, .rowGroups(6), perToken), kind(int4, .group(32), perToken),
    kind(int4, .group(64), fixed), kind(int4, .group(96), asymmetric),
    kind(int8, .group(6), perToken), kind(int8Asymmetric, .group(32), perToken),
    kind(int8Asymmetric, .channel, asymmetric), kind(int8, .group(64), fp8Groups),
    kind(.e4m3, .block(rows: 128, columns: 128), fp8Groups),
    kind(.e4m3, .block(rows: 128, columns: 128), InputRounding(.dynamicPerToken(.e4m3))),
    kind(.e4m3, .block(rows: 128, columns: 128), nil), kind(.e4m3, .channel, fp8Groups),
    kind(.e4m3, .group(48), fp8Groups), kind(.e4m3, .tensor, fp8Fixed),
    kind(.e4m3, .channel, InputRounding(.dynamicPerTensor(.e4m3))), kind(.mxfp4, .group(32), nil),
    kind(.nvfp4, .group(16), nil), kind(.mxfp4, .group(32), perToken),
    kind(.nvfp4, .group(16), fp8Groups), kind(.minifloat(.e2m1), .group(64), nil),
    kind(.minifloat(.e2m5), .channel, nil), kind(.minifloat(.e3m4), .channel, fp8Fixed),
    kind(.minifloat(.e5m2), .block(rows: 128, columns: 128), fp8Groups),
    kind(.minifloat(.e3m2), .group(48), InputRounding(.dynamicPerToken(.e4m3))),
    kind(.int(bits: 2, symmetric: true), .group(32), nil),
    kind(.int(bits: 3, symmetric: false), .group(64), nil),
    kind(.int(bits: 3, symmetric: true), .group(32), perToken),
    kind(.int(bits: 5, symmetric: true), .group(16), perToken),
    kind(.int(bits: 6, symmetric: false), .channel, nil),
    kind(.int(bits: 7, symmetric: true), .channel, fixed),
    kind(.intWithOffsets(bits: 4), .group(32), nil),
    kind(.intWithOffsets(bits: 4), .group(64), perToken),
    kind(.intWithOffsets(bits: 6), .group(16), nil),
    kind(.intWithOffsets(bits: 8), .group(32), asymmetric),
    kind(.intWithOffsets(bits: 3), .channel, perToken),
  ]
  static let integerKinds = kinds.filter { $0.isInteger }

  static func matrix(_ scheme: WeightScheme, _ n: Int, _ k: Int) throws -> QuantizedMatrix {
    // Outputs of different sizes, so that another row's scale shows.
    let values = gaussian(n * k, seed: 31).enumerated().map {
      $0.element * Float(1 + $0.offset / k % 5)
    }
    if scheme.format.hasOffsets {
      let symmetric = WeightScheme(
        format: .int(bits: scheme.format.numbers.bits, symmetric: true),
        granularity: scheme.granularity)
      let codes = try QuantizedMatrix(
        rounding: FloatMatrix(values, n, k), to: symmetric, scaleFormat: .f32, on: oneThread)
      return QuantizedMatrix(
        scheme: scheme, rows: n, columns: k, codes: codes.codes, scales: codes.scales,
        offsets: gaussian(codes.scales.count, seed: 37))
    }
    return try QuantizedMatrix(
      rounding: FloatMatrix(values, n, k), to: scheme, scaleFormat: .f32, on: oneThread)
  }

  /// A factor of the product: `value = code * scale`, where the code has its zero point taken off.
  struct Factor {
    var code: Double
    var scale: Double
    var scaleIndex: Int
    /// Added to the value.
    var offset = 0.0
  }

  /// The weight's factors, from its bytes.
  static func factors(_ matrix: QuantizedMatrix) -> [Factor] {
    let (n, k, bytes) = (matrix.rows, matrix.columns, matrix.codes.array)
    precondition(matrix.inputOrder.isEmpty)
    return (0..<n * k).map { at in
      let (row, column) = (at / k, at % k)
      let index =
        switch matrix.scheme.granularity {
        case .tensor: 0
        case .channel: row
        case .group(let size): row * (k / size) + column / size
        case .block(let rows, let columns):
          row / rows * ((k + columns - 1) / columns) + column / columns
        case .rowGroups(let count): row / (n / count)
        }
      var code =
        switch matrix.scheme.format.numbers {
        case .minifloat(let format):
          minifloat(
            format, Int(matrix.scheme.bits == 4 ? bytes[at / 2] >> (at % 2 * 4) & 15 : bytes[at]))
        case .integer where matrix.scheme.bits == 4:
          Double(Int(bytes[at / 2] >> (at % 2 * 4) & 15) - 8)
        case .integer: Double(Int8(bitPattern: bytes[at]))
        }
      if !matrix.zeroPoints.isEmpty { code -= Double(matrix.zeroPoints[index]) }
      return Factor(
        code: code, scale: Double(matrix.scales[index]), scaleIndex: index,
        offset: matrix.offsets.isEmpty ? 0 : Double(matrix.offsets[index]))
    }
  }

  /// The number of a code, by the definition of its fields.
  private static func minifloat(_ format: Minifloat, _ code: Int) -> Double {
    let m = format.mantissaBits
    let (exponent, mantissa) = (code >> m & (1 << format.exponentBits - 1), code & (1 << m - 1))
    let fraction = Double(mantissa) / Double(1 << m)
    let magnitude =
      exponent == 0
      ? Double(sign: .plus, exponent: 1 - format.bias, significand: fraction)
      : Double(sign: .plus, exponent: exponent - format.bias, significand: 1 + fraction)
    return code >> (m + format.exponentBits) & 1 == 0 ? magnitude : -magnitude
  }

  private static func e4m3(of code: UInt8) -> Double { minifloat(.e4m3, Int(code)) }

  /// The inputs' factors, by the formulas of ``ActivationScheme`` and ``InputRange``.
  static func factors(_ x: [Float], _ k: Int, _ rounding: InputRounding?) -> [Factor] {
    guard let rounding else { return x.map { Factor(code: Double($0), scale: 1, scaleIndex: 0) } }
    let isInt8 = rounding.scheme.format == .int8
    let span =
      switch rounding.scheme {
      case .dynamicPerToken: k
      case .dynamicPerGroup(_, let size): size
      case .dynamicPerTensor, .staticPerTensor, .staticAsymmetric: x.count
      }
    let perRow = span >= k ? 1 : (k + span - 1) / span
    func index(_ at: Int) -> Int {
      span > k ? 0 : at / k * perRow + at % k / span
    }
    var peaks: [Int: Float] = [:]
    for (at, value) in x.enumerated() { peaks[index(at)] = max(peaks[index(at)] ?? 0, abs(value)) }
    return x.enumerated().map { at, value in
      let peak = peaks[index(at)]!
      let scale = rounding.range?.scale ?? (peak == 0 ? 1 : peak / (isInt8 ? 127 : 448))
      let ratio = value / scale
      var code: Float
      if isInt8 {
        let zero = Float(rounding.range?.zero ?? 0)
        code = ratio.rounded(.toNearestOrEven) + zero
        code = min(max(code, rounding.range == nil ? -127 : -128), 127) - zero
      } else {
        let magnitude = min(abs(ratio), 448)
        let step = Float(
          sign: .plus, exponent: max(magnitude == 0 ? -6 : Int(magnitude.exponent), -6) - 3,
          significand: 1)
        code = (magnitude / step).rounded(.toNearestOrEven) * step * (ratio < 0 ? -1 : 1)
      }
      return Factor(code: Double(code), scale: Double(scale), scaleIndex: index(at))
    }
  }

  /// Holds at most 1200 products against the sums of their groups.
  ///
  /// In integers a group's sum is exact; turning it to float and two scales round three times by
  /// 2^-24, and each of the `groups` additions once. In float the inner sum rounds as well: by k ·
  /// 2^-24 of the magnitudes, and scaled factors by 2^-24 each.
  static func expect(_ y: [Float], _ x: [Factor], _ w: [Factor], n: Int, k: Int, _ kind: Kind) {
    for index in stride(from: 0, to: y.count, by: max(1, y.count / 1200) | 1) {
      let (token, output) = (index / n, index % n)
      var (sum, groupMagnitude, magnitude, groups) = (0.0, 0.0, 0.0, 0.0)
      var group = 0.0
      for i in 0..<k {
        let (a, b) = (x[token * k + i], w[output * k + i])
        group += a.code * b.code
        sum += a.code * a.scale * b.offset
        magnitude += abs(a.code) * a.scale * (abs(b.code) * b.scale + abs(b.offset))
        let isLast =
          i + 1 == k || x[token * k + i + 1].scaleIndex != a.scaleIndex
          || w[output * k + i + 1].scaleIndex != b.scaleIndex
        guard isLast else { continue }
        sum += group * a.scale * b.scale
        groupMagnitude += abs(group) * a.scale * b.scale
        groups += 1
        group = 0
      }
      // Groups whose scales happen to be one are cut where another's are, hence 2 · groups.
      let bound =
        kind.isExact
        ? (2 * groups + 4) * 0x1p-24 * max(groupMagnitude, magnitude * 0x1p-8)
        : (Double(k) + 8) * 0x1p-24 * magnitude
      guard abs(Double(y[index]) - sum) <= bound + 1e-30 else {
        Issue.record("[\(token), \(output)]: \(y[index]), not \(sum), bound \(bound)")
        return
      }
    }
  }

  @Test(arguments: kinds, Precision.allCases)
  func everySchemeIsTheSumOfItsGroups(_ kind: Kind, _ precision: Precision) throws {
    // Without activation codes bfloat16 rounds the inputs: MultiplyTests holds those products.
    guard kind.inputs != nil || precision == .f32 else { return }
    for (t, n, k) in [(1, 24, 576), (4, 300, 576), (5, 24, 576), (33, 300, 576), (300, 24, 576)] {
      let matrix = try Self.matrix(kind.weights, n, k)
      var x = gaussian(t * k, seed: 32)
      // A token of zeros.
      if t > 2 { for i in 0..<k { x[k + i] = 0 } }
      let y = MultiplyTests.multiply(.quantized(matrix, inputs: kind.inputs), x, precision)
      Self.expect(
        y, Self.factors(x, k, kind.inputs), Self.factors(matrix), n: n, k: k, kind)
      if t > 2, kind.inputs?.range?.zero ?? 0 == 0 {
        #expect(y[n..<2 * n].allSatisfy { $0 == 0 })
      }
    }
  }

  @Test(arguments: kinds, Precision.allCases)
  func anyThreadCountGivesTheSameBits(_ kind: Kind, _ precision: Precision) throws {
    for (t, n) in [(1, 300), (4, 72), (33, 300), (257, 24)] {
      let weight = Weight.quantized(try Self.matrix(kind.weights, n, 576), inputs: kind.inputs)
      let x = gaussian(t * 576, seed: 33)
      #expect(
        MultiplyTests.multiply(weight, x, precision, threads: 3).bits
          == MultiplyTests.multiply(weight, x, precision).bits)
    }
  }

  /// Integer sums are exact and groups are added in one order: a token's products do not depend on
  /// its company.
  @Test(arguments: integerKinds)
  func fewAndManyTokensAgreeInIntegers(_ kind: Kind) throws {
    let (n, k) = (36, 576)
    let weight = Weight.quantized(try Self.matrix(kind.weights, n, k), inputs: kind.inputs)
    var x = gaussian(33 * k, seed: 34)
    // The largest value is in the first token, where a scale for all tokens finds it too.
    x[5] = 6
    let many = MultiplyTests.multiply(weight, x, .f32)
    let few = MultiplyTests.multiply(weight, Array(x[..<(4 * k)]), .f32)
    #expect(few == Array(many[..<(4 * n)]))
  }

  /// Panels, packed or for one product, and codes where they lie: the same integers, added in one
  /// order.
  @Test(arguments: integerKinds)
  func packingChangesNothing(_ kind: Kind) throws {
    let compute = Compute(threads: 2, precision: .bf16)
    for (t, n, k) in [(1, 12, 576), (4, 36, 96 * 5), (9, 300, 576), (300, 36, 96 * 5)] {
      guard kind.weights.fits(outputs: n, inputs: k) else { continue }
      let weight = Weight.quantized(try Self.matrix(kind.weights, n, k), inputs: kind.inputs)
      let x = gaussian(t * k, seed: 35)
      func run(_ weight: PreparedWeight) -> [Float] {
        var y = [Float](repeating: .nan, count: t * n)
        var span = y.mutableSpan
        weight.multiply(x.span, into: &span, on: compute)
        return y
      }
      var packed = PreparedWeight(weight)
      packed.pack(on: compute)
      var forSteps = PreparedWeight(weight)
      forSteps.packForSteps(on: compute)
      let plain = run(PreparedWeight(weight))
      #expect(run(packed).bits == plain.bits)
      #expect(run(forSteps).bits == plain.bits)
    }
  }

  /// Products of the values that compressed-tensors and torch rounded.
  @Test(
    arguments: [
      ("blocks of 4x16", kind(.e4m3, .block(rows: 4, columns: 16), nil)),
      ("3 groups of rows, int8", kind(int8, .rowGroups(3), nil)),
      ("2 groups of rows, int4", kind(int4, .rowGroups(2), nil)),
      ("int8, groups of 8", kind(int8, .group(8), nil)),
      ("int4, groups of 20", kind(int4, .group(20), nil)),
    ],
    [
      ("int8 static", InputRounding(.staticPerTensor(.int8), range: InputRange(scale: 0.02))),
      (
        "int8 static asymmetric",
        InputRounding(.staticAsymmetric, range: InputRange(scale: 0.015, zero: -37))
      ),
      ("e4m3 static", InputRounding(.staticPerTensor(.e4m3), range: InputRange(scale: 0.005))),
      ("e4m3 per tensor", InputRounding(.dynamicPerTensor(.e4m3))),
      ("e4m3 per token", InputRounding(.dynamicPerToken(.e4m3))),
      ("e4m3 in groups of 8", InputRounding(.dynamicPerGroup(.e4m3, 8))),
    ])
  func productsAreThoseOfTheReferencesValues(
    _ weights: (String, Kind), _ inputs: (String, InputRounding)
  ) throws {
    let (n, k, t) = (6, 40, 3)
    var values = uniform(n * k, seed: 1)
    for (row, factor) in [Float(1), 0.25, 4, 0.5, 2, 0.125].enumerated() {
      for i in 0..<k { values[row * k + i] *= factor }
    }
    let matrix = try QuantizedMatrix(
      rounding: FloatMatrix(values, n, k), to: weights.1.weights, scaleFormat: .f32, on: oneThread)
    let w = try #require(GoldenSchemes.weights[weights.0])
    for (value, golden) in zip(matrix.decoded(), w) {
      // A scale is one division; the reference's clamp comes before its rounding, to the same end.
      #expect(abs(value - golden) <= abs(golden) * 0x1p-22)
    }
    let x = try #require(GoldenSchemes.inputs[inputs.0])
    let weight = Weight.quantized(matrix, inputs: inputs.1)
    let source = uniform(t * k, seed: 2, times: 3)
    let few = MultiplyTests.multiply(weight, source, .f32)
    // The same tokens twice more, for the products of many; per-tensor scales stay as they are.
    let many = MultiplyTests.multiply(weight, source + source + source, .bf16)
    for index in 0..<t * n {
      let (token, output) = (index / n, index % n)
      var (sum, magnitude) = (0.0, 0.0)
      for i in 0..<k {
        let product = Double(x[token * k + i]) * Double(w[output * k + i])
        sum += product
        magnitude += abs(product)
      }
      // Both sides' factors are within 2^-22.
      #expect(abs(Double(few[index]) - sum) <= magnitude * (Double(k) * 0x1p-24 + 0x1p-20))
      #expect(abs(Double(many[index]) - sum) <= magnitude * (Double(k) * 0x1p-24 + 0x1p-20))
    }
  }

  /// Columns in another order are other inputs: the same products, in each path that computes them.
  @Test(arguments: [nil, perToken, asymmetric] as [InputRounding?], Precision.allCases)
  func anOrderOfTheInputsIsFollowed(_ rounding: InputRounding?, _ precision: Precision) throws {
    let (n, k) = (72, 192)
    var random = SplitMix(state: 38)
    let order = (0..<Int32(k)).shuffled(using: &random)
    let plain = try Self.matrix(WeightScheme(format: Self.int4, granularity: .group(32)), n, k)
    let ordered = QuantizedMatrix(
      scheme: plain.scheme, rows: n, columns: k, codes: plain.codes, scales: plain.scales,
      inputOrder: order)
    for t in [1, 4, 33] {
      let x = gaussian(t * k, seed: 39)
      var gathered = x
      for token in 0..<t {
        for (column, input) in order.enumerated() {
          gathered[token * k + column] = x[token * k + Int(input)]
        }
      }
      let expected = MultiplyTests.multiply(
        .quantized(plain, inputs: rounding), gathered, precision)
      let y = MultiplyTests.multiply(.quantized(ordered, inputs: rounding), x, precision)
      #expect(y.bits == expected.bits)
    }
    let values = ordered.decoded()
    let inOrder = plain.decoded()
    for row in 0..<n {
      for (column, input) in order.enumerated() {
        #expect(values[row * k + Int(input)] == inOrder[row * k + column])
      }
    }
    let weight = Weight.quantized(ordered, inputs: nil)
    #expect(weight.values(of: 3..<9) == Array(values[(3 * k)..<(9 * k)]))
    #expect(FloatRows(weight, on: oneThread).values == values)
  }

  /// Codes of 4 bits are codes of 8 bits, and groups of rows are channels that repeat a scale.
  @Test(arguments: [1, 9], [fixed, asymmetric, perToken])
  func schemesThatSayTheSameMultiplyTheSame(_ t: Int, _ rounding: InputRounding) throws {
    let (n, k) = (24, 192)
    let x = gaussian(t * k, seed: 36)
    let four = try Self.matrix(WeightScheme(format: Self.int4, granularity: .group(32)), n, k)
    let codes = four.codes.array.flatMap { [($0 & 15) &- 8, ($0 >> 4) &- 8] }
    let eight = QuantizedMatrix(
      scheme: WeightScheme(format: Self.int8, granularity: .group(32)), rows: n, columns: k,
      codes: Bytes(codes), scales: four.scales)
    #expect(
      MultiplyTests.multiply(.quantized(four, inputs: rounding), x, .f32).bits
        == MultiplyTests.multiply(.quantized(eight, inputs: rounding), x, .f32).bits)
    let rows = try Self.matrix(WeightScheme(format: Self.int8, granularity: .rowGroups(6)), n, k)
    let channels = QuantizedMatrix(
      scheme: WeightScheme(format: Self.int8, granularity: .channel), rows: n, columns: k,
      codes: rows.codes, scales: (0..<n).map { rows.scales[$0 / 4] })
    #expect(
      MultiplyTests.multiply(.quantized(rows, inputs: rounding), x, .f32).bits
        == MultiplyTests.multiply(.quantized(channels, inputs: rounding), x, .f32).bits)
  }

  /// 65 535 products of -128 and 255 are the most that int32 holds.
  @Test(arguments: [1, 9])
  func theLongestSumWithAZeroPointDoesNotOverflow(_ t: Int) {
    let (n, k) = (3, 65_535)
    let matrix = QuantizedMatrix(
      scheme: WeightScheme(format: Self.int8, granularity: .channel), rows: n, columns: k,
      codes: Bytes([UInt8](repeating: 0x80, count: n * k)), scales: [1, 1, 1])
    let rounding = InputRounding(.staticAsymmetric, range: InputRange(scale: 1, zero: -128))
    let x = [Float](repeating: 255, count: t * k)
    let y = MultiplyTests.multiply(.quantized(matrix, inputs: rounding), x, .f32)
    #expect(y == [Float](repeating: Float(-128 * 255 * k), count: t * n))
  }

  /// A static scale must not turn what is no number into one; the other tokens do not see it.
  @Test(arguments: [fixed, asymmetric, fp8Fixed, perToken], [1, 9])
  func whatIsNotANumberStaysSo(_ rounding: InputRounding, _ t: Int) throws {
    let (n, k) = (12, 64)
    let matrix = try Self.matrix(WeightScheme(format: Self.int8, granularity: .group(32)), n, k)
    var x = gaussian(t * k, seed: 37)
    let clean = MultiplyTests.multiply(.quantized(matrix, inputs: rounding), x, .f32)
    x[17] = .nan
    let y = MultiplyTests.multiply(.quantized(matrix, inputs: rounding), x, .f32)
    #expect(y[..<n].allSatisfy { $0.isNaN })
    #expect(Array(y[n...]).bits == Array(clean[n...]).bits)
  }

  /// Values beyond a static range are cut off at its ends, infinity too.
  @Test func staticRangesSaturate() {
    let matrix = QuantizedMatrix(
      scheme: WeightScheme(format: Self.int8, granularity: .channel), rows: 1, columns: 2,
      codes: Bytes([1, 0]), scales: [1])
    func first(_ value: Float, _ scheme: ActivationScheme, _ range: InputRange) -> Float {
      MultiplyTests.multiply(
        .quantized(matrix, inputs: InputRounding(scheme, range: range)), [value, 0], .f32)[0]
    }
    let half = InputRange(scale: 0.5)
    #expect(first(1000, .staticPerTensor(.int8), half) == 63.5)
    #expect(first(-1000, .staticPerTensor(.int8), half) == -64)
    #expect(first(.infinity, .staticPerTensor(.e4m3), half) == 224)
    let shifted = InputRange(scale: 0.5, zero: 100)
    #expect(first(1000, .staticAsymmetric, shifted) == 13.5)
    #expect(first(-.infinity, .staticAsymmetric, shifted) == -114)
    // Half to even before the zero point is added.
    #expect(first(0.25, .staticAsymmetric, InputRange(scale: 0.5, zero: 1)) == 0)
  }

  @Test func productsAreCutWhereEitherScaleChanges() {
    let whole = ProductGroups(columns: 100, inputSpan: 100, weightSpan: 100)
    #expect(whole.width == 100 && whole.count == 1)
    #expect(whole.perInputScale == 1 && whole.perWeightScale == 1)
    let weight = ProductGroups(columns: 100, inputSpan: 100, weightSpan: 40)
    #expect(weight.width == 40 && weight.count == 3)
    #expect(weight.perInputScale == 3 && weight.perWeightScale == 1)
    #expect(weight.inputs(of: 2, columns: 100) == 80..<100)
    let both = ProductGroups(columns: 576, inputSpan: 128, weightSpan: 48)
    #expect(both.width == 16 && both.count == 36)
    #expect(both.perInputScale == 8 && both.perWeightScale == 3)
  }
}
