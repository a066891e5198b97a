import CNibble
import NibbleTensor
import Testing

/// Each instruction set against the specification in plain C, and that against sums in Int and Double.
@Suite struct PanelTests {
  struct Case: Sendable, CustomTestStringConvertible {
    var n: Int
    var k: Int
    var group: Int
    var tokens: Int
    var hasZeros = false
    var inputZero: Int32 = 0
    /// Whether all products are the largest there are, so that narrow sums overflow if they can.
    var isExtreme = false

    var testDescription: String {
      "[\(tokens), \(k)] x [\(n), \(k)], groups of \(group), \(hasZeros) \(inputZero) \(isExtreme)"
    }
  }

  static let cases: [Case] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 17, 19, 50].flatMap { tokens in
    [
      (33, 576, 64), (48, 40, 8), (16, 72, 24), (5, 96, 96), (17, 1536, 128), (31, 64, 32),
      (127, 8, 8), (7, 1000, 200),
    ].flatMap { n, k, group in
      [
        Case(n: n, k: k, group: group, tokens: tokens),
        Case(n: n, k: k, group: group, tokens: tokens, hasZeros: true),
        Case(n: n, k: k, group: group, tokens: tokens, inputZero: 127),
        Case(n: n, k: k, group: group, tokens: tokens, hasZeros: true, inputZero: -3),
        Case(n: n, k: k, group: group, tokens: tokens, inputZero: -128, isExtreme: true),
      ]
    }
  }

  /// Codes, scales and inputs of one case, as the kernels read them.
  private struct Operands {
    let format: Int32
    let codes: [UInt8]
    var packed: [UInt8]
    let scales: [Float]
    let zeros: [Int8]
    let sums: [Int32]
    var x: [Int8]
    var floats: [Float]
    let inputScales: [Float]
    var inputSums: [Int32]
    let stride: Int

    init(_ c: Case, _ format: Int32) {
      var random = SplitMix(state: UInt64(c.n * c.k + c.tokens))
      self.format = format
      let panels = (c.n + 15) / 16
      let groups = (c.k + c.group - 1) / c.group
      let codes = (0..<c.n * c.k / (format == NIBBLE_INT4 ? 2 : 1)).map { _ -> UInt8 in
        if c.isExtreme { return format == NIBBLE_INT4 ? 0xFF : 0x80 }
        return random.next() % 5 == 0 ? 0x80 : UInt8(truncatingIfNeeded: random.next())
      }
      self.codes = codes
      packed = [UInt8](repeating: 0, count: nibble_panel_bytes(c.n, c.k, format))
      unsafe nibble_pack_panels(codes, &packed, c.n, c.k, format)
      scales = (0..<panels * groups * 16).map { _ in Float(random.next() % 1000 + 1) / 4096 }
      zeros =
        c.hasZeros ? (0..<panels * groups * 16).map { _ in Int8(random.next() % 16) - 8 } : []
      sums = (0..<panels * groups * 16).map { _ in Int32(random.next() % 1000) - 500 }
      stride = (c.k + 63) / 64 * 64
      x = [Int8](repeating: 0, count: c.tokens * stride)
      floats = [Float](repeating: 0, count: c.tokens * stride)
      for token in 0..<c.tokens {
        for k in 0..<c.k {
          // -128 where inputs have a zero point, and often: what saturates or wraps would show.
          let code = Int(random.next() % 300)
          x[token * stride + k] = Int8(
            clamping: code - (code >= 256 || c.inputZero == 0 ? 127 : 128))
          if code > 280 && c.inputZero != 0 || c.isExtreme { x[token * stride + k] = -128 }
          floats[token * stride + k] = Float(random.next() % 2000) / 1000 - 1
        }
      }
      inputScales = (0..<groups * c.tokens).map { _ in Float(random.next() % 1000 + 1) / 4096 }
      inputSums = [Int32](repeating: 0, count: groups * c.tokens)
      for token in 0..<c.tokens {
        for group in 0..<groups {
          inputSums[group * c.tokens + token] = (group * c.group..<min(c.k, (group + 1) * c.group))
            .reduce(0) { $0 + Int32(x[token * stride + $1]) }
        }
      }
    }

    /// The product on one set.
    func product(_ c: Case, on set: KernelSet, inIntegers: Bool) -> [Float] {
      var y = [Float](repeating: .nan, count: c.tokens * c.n)
      let kernels = unsafe set.kernels
      var scratch = [UInt8](repeating: 0, count: unsafe kernels.panels_scratch(c.k) + 64)
      unsafe packed.withUnsafeBufferPointer { packed in
        unsafe scales.withUnsafeBufferPointer { scales in
          unsafe zeros.withUnsafeBufferPointer { zeros in
            unsafe sums.withUnsafeBufferPointer { sums in
              unsafe inputScales.withUnsafeBufferPointer { inputScales in
                unsafe inputSums.withUnsafeBufferPointer { inputSums in
                  var w = unsafe nibble_panels(
                    codes: packed.baseAddress!, outputs: c.n, columns: c.k, group: c.group,
                    scale_span: 1, scales: scales.baseAddress!,
                    zeros: c.hasZeros ? zeros.baseAddress! : nil,
                    sums: c.inputZero != 0 ? sums.baseAddress! : nil, format: format)
                  unsafe scratch.withUnsafeMutableBytes { scratch in
                    let address = UInt(bitPattern: scratch.baseAddress!)
                    let aligned = unsafe scratch.baseAddress! + Int((64 - address % 64) % 64)
                    if inIntegers {
                      unsafe x.withUnsafeBufferPointer { x in
                        var inputs = unsafe nibble_inputs(
                          values: x.baseAddress!, stride: stride, tokens: c.tokens,
                          scales: inputScales.baseAddress!, scale_span: 1,
                          sums: inputSums.baseAddress!, step: c.tokens, zero: c.inputZero)
                        unsafe kernels.panels_integers(
                          &inputs, &w, 0, (c.n + 15) / 16, &y, c.n, aligned)
                      }
                    } else {
                      unsafe floats.withUnsafeBufferPointer { x in
                        var inputs = unsafe nibble_inputs(
                          values: x.baseAddress!, stride: stride, tokens: c.tokens,
                          scales: inputScales.baseAddress!, scale_span: 1, sums: nil,
                          step: c.tokens, zero: 0)
                        unsafe kernels.panels_floats(&inputs, &w, 0, (c.n + 15) / 16, &y, c.n)
                      }
                    }
                  }
                }
              }
            }
          }
        }
      }
      return y
    }

    /// The code of an output and input, from the codes as they were before packing.
    func code(_ n: Int, _ k: Int, _ columns: Int) -> Int {
      switch format {
      case Int32(NIBBLE_INT4): Int(codes[(n * columns + k) / 2] >> (k % 2 == 0 ? 0 : 4) & 15) - 8
      default: Int(Int8(bitPattern: codes[n * columns + k]))
      }
    }
  }

  @Test(arguments: cases, [NIBBLE_INT8, NIBBLE_INT4])
  func integersAreThoseOfTheFormulaOnEverySet(_ c: Case, _ format: Int) {
    let operands = Operands(c, Int32(format))
    let groups = (c.k + c.group - 1) / c.group
    var expected: [Float] = []
    for token in 0..<c.tokens {
      for n in 0..<c.n {
        var total: Float = 0
        for group in 0..<groups {
          let at = (n / 16 * groups + group) * 16 + n % 16
          var sum = 0
          for k in group * c.group..<min(c.k, (group + 1) * c.group) {
            let zero = c.hasZeros ? Int(operands.zeros[at]) : 0
            sum += Int(operands.x[token * operands.stride + k]) * (operands.code(n, k, c.k) - zero)
          }
          sum -= Int(c.inputZero) * Int(operands.sums[at])
          let value =
            Float(sum) * operands.inputScales[group * c.tokens + token] * operands.scales[at]
          total = group == 0 ? value : total + value
        }
        expected.append(total)
      }
    }
    for set in KernelSet.all {
      let y = operands.product(c, on: set, inIntegers: true)
      #expect(y.bits == expected.bits, "instruction set \(set.name)")
    }
  }

  @Test(arguments: cases, [NIBBLE_INT8, NIBBLE_INT4, NIBBLE_E4M3])
  func floatsDifferByTheOrderOfTheSum(_ c: Case, _ format: Int) {
    let operands = Operands(c, Int32(format))
    let plain = operands.product(c, on: KernelSet.all[0], inIntegers: false)
    for set in KernelSet.all.dropFirst() {
      let y = operands.product(c, on: set, inIntegers: false)
      let error = zip(y, plain).reduce(0.0) { $0 + Double($1.0 - $1.1) * Double($1.0 - $1.1) }
      let energy = plain.reduce(0.0) { $0 + Double($1) * Double($1) }
      // Each sum is within k · 2^-24 of its magnitudes, and errors of many do not all add up.
      #expect(error.squareRoot() <= 1e-5 * energy.squareRoot(), "instruction set \(set.name)")
    }
  }
}
