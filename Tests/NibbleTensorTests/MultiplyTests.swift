import Dispatch
import NibbleTensor
import Synchronization
import Testing

@testable import NibbleTensor

/// `Weight.multiply` against sums in double of the factors that its documentation names.
@Suite struct MultiplyTests {
  struct Size: Sendable, CustomTestStringConvertible {
    var t: Int
    var n: Int
    var k: Int
    var testDescription: String { "t \(t), n \(n), k \(k)" }
  }

  /// Tokens on both sides of the change at 8 and of a slab; awkward outputs and inputs.
  static let sizes = [
    Size(t: 1, n: 1, k: 8), Size(t: 1, n: 300, k: 577), Size(t: 4, n: 17, k: 33),
    Size(t: 4, n: 300, k: 127), Size(t: 5, n: 1, k: 8), Size(t: 5, n: 33, k: 577),
    Size(t: 8, n: 33, k: 127), Size(t: 9, n: 33, k: 577),
    Size(t: 33, n: 17, k: 31), Size(t: 33, n: 300, k: 577), Size(t: 257, n: 33, k: 33),
    Size(t: 257, n: 300, k: 65),
  ]
  static let even = sizes.map { Size(t: $0.t, n: $0.n, k: ($0.k + 31) / 32 * 32) }

  static func multiply(
    _ weight: Weight, _ x: [Float], _ precision: Precision, threads: Int = 1
  ) -> [Float] {
    let t = x.count / weight.columns
    var y = [Float](repeating: .nan, count: t * weight.rows)
    var span = y.mutableSpan
    weight.multiply(x.span, into: &span, on: Compute(threads: threads, precision: precision))
    return y
  }

  /// Holds at most 1500 of the products against double sums.
  ///
  /// A float sum of k products is off by at most (k + 1) · 2^-24 of the sum of magnitudes; `relative`
  /// adds what else rounds. A lost or doubled product is off by 1/k of it, 30 times more and up.
  static func expect(
    _ y: [Float], isProductOf x: [Float], _ w: [Float], _ size: Size, relative: Double = 0x1p-22
  ) {
    let (n, k) = (size.n, size.k)
    #expect(y.count == size.t * n)
    // A step without small factors meets every row and column.
    let step = max(1, y.count / 1500) | 1
    var worst = 0.0
    for index in stride(from: 0, to: y.count, by: step) {
      let (token, output) = (index / n, index % n)
      var (sum, magnitude) = (0.0, 0.0)
      for i in 0..<k {
        let product = Double(x[token * k + i]) * Double(w[output * k + i])
        sum += product
        magnitude += abs(product)
      }
      let bound = (Double(k + 1) * 0x1p-24 + relative) * magnitude + 1e-30
      guard abs(Double(y[index]) - sum) <= bound else {
        Issue.record("[\(token), \(output)]: \(y[index]), not \(sum), bound \(bound)")
        return
      }
      worst = max(worst, abs(Double(y[index]) - sum) / bound)
    }
  }

  @Test(arguments: FloatFormat.allCases, sizes)
  func floatWeightsInFloat(_ format: FloatFormat, _ size: Size) {
    let matrix = FloatMatrix(uniform(size.n * size.k, seed: 1), size.n, size.k, as: format)
    let x = uniform(size.t * size.k, seed: 2)
    Self.expect(
      Self.multiply(.float(matrix), x, .f32), isProductOf: x, matrix.values(of: 0..<size.n), size)
  }

  @Test(arguments: FloatFormat.allCases, sizes)
  func floatWeightsInBFloat16(_ format: FloatFormat, _ size: Size) {
    let matrix = FloatMatrix(uniform(size.n * size.k, seed: 3), size.n, size.k, as: format)
    let x = uniform(size.t * size.k, seed: 4)
    let w = matrix.values(of: 0..<size.n)
    let y = Self.multiply(.float(matrix), x, .bf16)
    if size.t <= Compute.stepTokens {
      // A step need not round, so either is right: 2^-9 a factor.
      Self.expect(y, isProductOf: x, w, size, relative: 0x1.1p-8)
    } else {
      Self.expect(y, isProductOf: x.map(roundedToBFloat), w.map(roundedToBFloat), size)
    }
  }

  /// Threads that share a `Compute` share no scratch memory.
  @Test func callersAtOnceGetWhatTheyGetAlone() throws {
    let (n, k) = (300, 577)
    let rounded = try QuantizedMatrix(
      rounding: FloatMatrix(gaussian(n * k, seed: 7), n, k),
      to: WeightScheme(format: .int(bits: 8, symmetric: true), granularity: .channel),
      scaleFormat: .f32, on: oneThread)
    let weights: [Weight] = [
      .float(FloatMatrix(uniform(n * k, seed: 8), n, k, as: .bf16)),
      .quantized(rounded, inputs: InputRounding(.dynamicPerToken(.int8))),
    ]
    let shared = Compute(threads: 2, precision: .f32)
    let different = Mutex(0)
    DispatchQueue.concurrentPerform(iterations: 8) { caller in
      let weight = weights[caller % 2]
      let x = uniform((1 + caller) * k, seed: UInt64(caller))
      let alone = Self.multiply(weight, x, .f32)
      for _ in 0..<50 {
        var y = [Float](repeating: .nan, count: alone.count)
        var span = y.mutableSpan
        weight.multiply(x.span, into: &span, on: shared)
        if y != alone { different.withLock { $0 += 1 } }
      }
    }
    #expect(different.withLock { $0 } == 0)
  }

  /// The token's codes as its activation scheme says, computed here.
  static func int8Codes(_ x: [Float], _ k: Int) -> (codes: [Int], scales: [Float]) {
    var (codes, scales): ([Int], [Float]) = ([], [])
    for start in stride(from: 0, to: x.count, by: k) {
      let peak = x[start..<start + k].map(abs).max()!
      let scale = peak > 0 ? max(peak / 127, .leastNormalMagnitude) : 1
      scales.append(scale)
      codes += x[start..<start + k].map { Int(($0 / scale).rounded(.toNearestOrEven)) }
    }
    return (codes, scales)
  }

  @Test(arguments: sizes, [WeightScheme.Granularity.channel, .tensor])
  func int8WithInt8IsExactBeforeTheScales(
    _ size: Size, _ granularity: WeightScheme.Granularity
  ) throws {
    let (t, n, k) = (size.t, size.n, size.k)
    let matrix = try QuantizedMatrix(
      rounding: FloatMatrix(gaussian(n * k, seed: 5), n, k),
      to: WeightScheme(format: .int(bits: 8, symmetric: true), granularity: granularity),
      scaleFormat: .f32, on: oneThread)
    var x = gaussian(t * k, seed: 6)
    // A token of zeros has scale 1 and gives zeros.
    if t > 2 { for i in 0..<k { x[k + i] = 0 } }
    let w = matrix.codes.array.map { Int(Int8(bitPattern: $0)) }
    let (codes, scales) = Self.int8Codes(x, k)
    let y = Self.multiply(
      .quantized(matrix, inputs: InputRounding(.dynamicPerToken(.int8))), x, .f32)
    for index in stride(from: 0, to: y.count, by: max(1, y.count / 1500) | 1) {
      let (token, output) = (index / n, index % n)
      var sum = 0
      for i in 0..<k { sum += codes[token * k + i] * w[output * k + i] }
      let scale = matrix.scales[granularity == .tensor ? 0 : output]
      let exact = Double(sum) * Double(scales[token]) * Double(scale)
      // The sum is exact below 2^24; two products round by 2^-24 each.
      guard abs(Double(y[index]) - exact) <= abs(exact) * 0x1.01p-23 else {
        Issue.record("[\(token), \(output)]: \(y[index]), not \(exact)")
        return
      }
    }
    if t > 2 { #expect(y[n..<2 * n].allSatisfy { $0 == 0 }) }
    #expect(
      Self.multiply(.quantized(matrix, inputs: InputRounding(.dynamicPerToken(.int8))), x, .bf16)
        .bits
        == y.bits)
  }

  /// 131 071 products of -128 and 127 are the most that int32 holds.
  @Test(arguments: [1, 9])
  func theLongestIntegerSumDoesNotOverflow(_ t: Int) {
    let (n, k) = (3, 131_071)
    let matrix = QuantizedMatrix(
      scheme: WeightScheme(format: .int(bits: 8, symmetric: true), granularity: .channel),
      rows: n, columns: k, codes: Bytes([UInt8](repeating: 0x80, count: n * k)),
      scales: [1, 1, 1])
    let x = [Float](repeating: 127, count: t * k)
    let y = Self.multiply(
      .quantized(matrix, inputs: InputRounding(.dynamicPerToken(.int8))), x, .f32)
    #expect(y == [Float](repeating: Float(-128 * 127 * k), count: t * n))
  }

  /// What speculation and batches rest on.
  @Test(arguments: [Precision.f32, .bf16]) func aStepsRowsAreThoseOfEachAlone(
    _ precision: Precision
  ) throws {
    let (n, k) = (49, 320)
    let floats = gaussian(n * k, seed: 60)
    var weights = FloatFormat.allCases.map { Weight.float(FloatMatrix(floats, n, k, as: $0)) }
    for (bits, granularity) in [
      (8, WeightScheme.Granularity.channel), (4, .group(32)), (4, .group(64)),
    ] {
      for isSymmetric in [true, false] {
        let matrix = try QuantizedMatrix(
          rounding: FloatMatrix(floats, n, k),
          to: WeightScheme(
            format: .int(bits: bits, symmetric: isSymmetric), granularity: granularity),
          scaleFormat: .f32, on: oneThread)
        weights.append(.quantized(matrix, inputs: nil))
        weights.append(.quantized(matrix, inputs: InputRounding(.dynamicPerToken(.int8))))
        weights.append(.quantized(matrix, inputs: InputRounding(.dynamicPerGroup(.int8, 32))))
      }
    }
    let compute = Compute(threads: 2, precision: precision)
    for weight in weights {
      for isPacked in [false, true] {
        var prepared = PreparedWeight(weight)
        if isPacked { prepared.packForSteps(on: compute) }
        for t in 2...Compute.stepTokens {
          let x = gaussian(t * k, seed: UInt64(t))
          func product(_ rows: Range<Int>) -> [Float] {
            var y = [Float](repeating: .nan, count: rows.count * n)
            var span = y.mutableSpan
            prepared.multiply(
              x.span.extracting(rows.lowerBound * k..<rows.upperBound * k), into: &span, on: compute
            )
            return y
          }
          #expect(product(0..<t).bits == (0..<t).flatMap { product($0..<$0 + 1).bits })
        }
      }
    }
  }

  /// Weights are widened in chunks of rows; 64 of 65536 inputs fill one.
  @Test func outputsBeyondOneChunkLandInTheirColumns() {
    let size = Size(t: 5, n: 80, k: 65536)
    // Every byte is written before the array is read.
    let codes = unsafe [UInt8](unsafeUninitializedCapacity: size.n * size.k) { codes, count in
      for i in 0..<size.n * size.k {
        unsafe codes[i] = UInt8(truncatingIfNeeded: (i &* 2_654_435_761) >> 13)
      }
      count = size.n * size.k
    }
    let matrix = QuantizedMatrix(
      scheme: WeightScheme(format: .int(bits: 8, symmetric: true), granularity: .channel),
      rows: size.n, columns: size.k, codes: Bytes(codes),
      scales: (0..<size.n).map { Float($0 + 1) })
    // One code differs from zero, so that an output is one weight times 127.
    var x = [Float](repeating: 0, count: size.t * size.k)
    for token in 0..<size.t { x[token * size.k + 1000 * token + 77] = 127 }
    let y = Self.multiply(
      .quantized(matrix, inputs: InputRounding(.dynamicPerToken(.int8))), x, .f32)
    for token in 0..<size.t {
      for output in 0..<size.n {
        let code = Int8(bitPattern: codes[output * size.k + 1000 * token + 77])
        #expect(y[token * size.n + output] == 127 * Float(code) * Float(output + 1))
      }
    }
  }

  @Test(arguments: [true, false], even)
  func int4GroupsWithFloatInputs(_ symmetric: Bool, _ size: Size) throws {
    let matrix = try QuantizedMatrix(
      rounding: FloatMatrix(gaussian(size.n * size.k, seed: 7), size.n, size.k),
      to: WeightScheme(format: .int(bits: 4, symmetric: symmetric), granularity: .group(32)),
      scaleFormat: .f16, on: oneThread)
    let x = uniform(size.t * size.k, seed: 8)
    let w = matrix.decoded()
    Self.expect(
      Self.multiply(.quantized(matrix, inputs: nil), x, .f32), isProductOf: x, w, size)
    let y = Self.multiply(.quantized(matrix, inputs: nil), x, .bf16)
    if size.t <= Compute.stepTokens {
      Self.expect(y, isProductOf: x, w, size, relative: 0x1.1p-8)
    } else {
      Self.expect(y, isProductOf: x.map(roundedToBFloat), w.map(roundedToBFloat), size)
    }
  }

  /// Codes of both sides are exact in either precision: only the sum and the scales round.
  @Test(arguments: Precision.allCases, sizes)
  func e4m3WithE4M3IsExactButForTheSum(_ precision: Precision, _ size: Size) throws {
    let (t, n, k) = (size.t, size.n, size.k)
    let scheme = WeightScheme(format: .e4m3, granularity: .channel)
    let matrix = try QuantizedMatrix(
      rounding: FloatMatrix(gaussian(n * k, seed: 9), n, k), to: scheme, scaleFormat: .f32,
      on: oneThread)
    let x = gaussian(t * k, seed: 10)
    // A token is rounded as a row of a weight is: absmax / 448, per row.
    let rounded = try QuantizedMatrix(
      rounding: FloatMatrix(x, t, k), to: scheme, scaleFormat: .f32, on: oneThread
    ).decoded()
    Self.expect(
      Self.multiply(
        .quantized(matrix, inputs: InputRounding(.dynamicPerToken(.e4m3))), x, precision),
      isProductOf: rounded, matrix.decoded(), size)
  }

  static let everyKind: [(WeightScheme.Format, WeightScheme.Granularity, ActivationScheme?)] = [
    (.int(bits: 8, symmetric: true), .channel, .dynamicPerToken(.int8)),
    (.int(bits: 8, symmetric: true), .channel, nil),
    (.int(bits: 8, symmetric: false), .channel, nil),
    (.int(bits: 8, symmetric: false), .channel, .dynamicPerToken(.int8)),
    (.int(bits: 4, symmetric: true), .group(32), nil),
    (.int(bits: 4, symmetric: true), .channel, .dynamicPerToken(.int8)),
    (.e4m3, .channel, .dynamicPerToken(.e4m3)),
    (.e4m3, .tensor, nil),
  ]

  @Test(arguments: everyKind, Precision.allCases)
  func everySchemeMultipliesItsDecodedValues(
    _ kind: (WeightScheme.Format, WeightScheme.Granularity, ActivationScheme?),
    _ precision: Precision
  ) throws {
    for t in [3, 6] {
      let size = Size(t: t, n: 19, k: 64)
      let matrix = try QuantizedMatrix(
        rounding: FloatMatrix(gaussian(size.n * size.k, seed: 13), size.n, size.k),
        to: WeightScheme(format: kind.0, granularity: kind.1), scaleFormat: .f32, on: oneThread)
      let x = gaussian(t * size.k, seed: 14)
      let y = Self.multiply(
        .quantized(matrix, inputs: kind.2.map { InputRounding($0) }), x, precision)
      var inputs = x
      switch kind.2?.format {
      case .int8:
        let (codes, scales) = Self.int8Codes(x, size.k)
        inputs = codes.indices.map { Float(codes[$0]) * scales[$0 / size.k] }
      case .e4m3:
        inputs = try QuantizedMatrix(
          rounding: FloatMatrix(x, t, size.k),
          to: WeightScheme(format: .e4m3, granularity: .channel),
          scaleFormat: .f32, on: oneThread
        ).decoded()
      case nil: break
      }
      // Without activation codes bfloat16 rounds both factors by up to 2^-9.
      let relative = kind.2 == nil && precision == .bf16 ? 0x1.1p-8 : 0x1p-21
      Self.expect(y, isProductOf: inputs, matrix.decoded(), size, relative: relative)
    }
  }

  @Test(arguments: everyKind, Precision.allCases)
  func anyThreadCountGivesTheSameBits(
    _ kind: (WeightScheme.Format, WeightScheme.Granularity, ActivationScheme?),
    _ precision: Precision
  ) throws {
    for (t, n) in [(1, 300), (4, 33), (33, 300), (257, 17)] {
      let matrix = try QuantizedMatrix(
        rounding: FloatMatrix(gaussian(n * 64, seed: 15), n, 64),
        to: WeightScheme(format: kind.0, granularity: kind.1), scaleFormat: .f32, on: oneThread)
      let weight = Weight.quantized(matrix, inputs: kind.2.map { InputRounding($0) })
      let x = gaussian(t * 64, seed: 16)
      #expect(
        Self.multiply(weight, x, precision, threads: 3).bits
          == Self.multiply(weight, x, precision).bits)
      let float = Weight.float(FloatMatrix(matrix.decoded(), n, 64, as: .bf16))
      #expect(
        Self.multiply(float, x, precision, threads: 3).bits
          == Self.multiply(float, x, precision).bits)
    }
  }

  /// Scratch memory is used again; what an earlier, larger product left there must not show.
  @Test(arguments: Precision.allCases)
  func productsDoNotSeeEachOther(_ precision: Precision) {
    let compute = Compute(threads: 2, precision: precision)
    func product(_ t: Int, _ n: Int, _ k: Int, on compute: Compute) -> [Float] {
      let weight = Weight.float(FloatMatrix(uniform(n * k, seed: 17), n, k))
      let x = uniform(t * k, seed: 18)
      var y = [Float](repeating: .nan, count: t * n)
      var span = y.mutableSpan
      weight.multiply(x.span, into: &span, on: compute)
      return y
    }
    _ = product(65, 70, 130, on: compute)
    for (t, n, k) in [(5, 17, 33), (17, 1, 8), (33, 33, 31)] {
      let fresh = Compute(threads: 1, precision: precision)
      #expect(product(t, n, k, on: compute).bits == product(t, n, k, on: fresh).bits)
    }
  }

  @Test func noTokensAndNoOutputsAreNothing() {
    #expect(Self.multiply(.float(FloatMatrix(uniform(12, seed: 1), 3, 4)), [], .f32) == [])
    #expect(Self.multiply(.float(FloatMatrix([], 0, 4)), uniform(20, seed: 1), .f32) == [])
  }

  @Test func valuesAreTheRowsAskedFor() throws {
    let matrix = try QuantizedMatrix(
      rounding: FloatMatrix(gaussian(7 * 64, seed: 19), 7, 64),
      to: WeightScheme(format: .int(bits: 4, symmetric: false), granularity: .group(32)),
      scaleFormat: .f32, on: oneThread)
    let all = matrix.decoded()
    let weight = Weight.quantized(matrix, inputs: nil)
    #expect(weight.values(of: 2..<5) == Array(all[2 * 64..<5 * 64]))
    #expect(weight.values(of: 3..<3).isEmpty)
  }
}

/// Our tile kernels against oneDNN's, on processors that have tiles.
@Suite(.enabled(if: Compute.tiles != .none)) struct TileProductTests {
  private func products(
    _ size: MultiplyTests.Size, _ weight: Weight, columnScales: [Float]?
  ) -> (tiles: [Float], plain: [Float]) {
    let compute = Compute(threads: 2, precision: .bf16)
    let x = gaussian(size.t * size.k, seed: 20)
    func run(
      _ body: (borrowing ProductInputs, ProductTarget) -> Void
    ) -> [Float] {
      var y = [Float](repeating: .nan, count: size.t * size.n)
      // The pointers live inside the closures that lend them.
      unsafe x.withUnsafeBufferPointer { x in
        unsafe y.withUnsafeMutableBufferPointer { y in
          let inputs = unsafe ProductInputs(
            x.baseAddress!, tokens: size.t, for: weight, on: compute)
          let target = unsafe ProductTarget(
            y: y.baseAddress!, stride: size.n, outputs: size.n, columnScales: columnScales)
          body(inputs, target)
        }
      }
      return y
    }
    let layout = TileLayout.floats(parts: 1)
    let tiles = run { inputs, target in
      let w = unsafe PreparedWeight(weight).tiles(
        of: 0..<size.n, layout, in: .weights, on: compute)
      let packed = unsafe TileProduct.pack(inputs.rounded, as: layout, on: compute)
      unsafe TileProduct.run(
        packed, layout, tokens: size.t, scales: inputs.rounded.scales, w, layout, inputs: size.k,
        target, on: compute)
    }
    let plain = run { inputs, target in
      PlainProduct.floats(
        inputs.rounded, PreparedWeight(weight), 0..<size.n, unscaled: false, target, on: compute)
    }
    return (tiles, plain)
  }

  @Test(arguments: MultiplyTests.sizes)
  func bfloatTilesDifferByTheOrderOfTheSum(_ size: MultiplyTests.Size) {
    let weight = Weight.float(FloatMatrix(gaussian(size.n * size.k, seed: 22), size.n, size.k))
    let (tiles, plain) = products(size, weight, columnScales: nil)
    // Both are within k · 2^-24 of the sum of magnitudes, which is about 0.64 k for normal factors.
    let bound = 2 * Float(size.k) * 0x1p-24 * (Float(size.k) + 8)
    for (tile, other) in zip(tiles, plain) {
      guard abs(tile - other) <= bound else {
        Issue.record("\(tile), \(other), bound \(bound)")
        return
      }
    }
  }
}
