import NibbleFormats
import NibbleTensor
import Testing

@testable import NibbleQuantize

/// Each primitive, forward and backward, compared with PyTorch in double precision.
@Suite struct PrimitiveGradientTests {
  private static let fixture = GradientFixture.primitives
  private let compute = Compute(threads: 2, precision: .f32)
  private var fixture: GradientFixture { Self.fixture }

  /// Output and gradients of a primitive.
  private func run(
    _ primitive: any Primitive, _ inputs: [FloatRows], _ gradient: FloatRows
  ) -> (FloatRows, [FloatRows?]) {
    let output = primitive.forward(inputs, on: compute)
    return (
      output,
      primitive.backward(
        gradient, inputs, output, needed: inputs.map { _ in true }, on: compute)
    )
  }

  private func expect(
    _ ours: FloatRows, _ name: String, of c: GradientFixture.Case, byRow: Bool = false,
    below limit: Float
  ) throws {
    let theirs = try #require(fixture.rows(c, name))
    let difference =
      byRow ? ours.rowDifference(from: theirs) : ours.difference(from: theirs)
    #expect(difference < limit, "\(name)")
  }

  @Test(arguments: fixture.cases("norms"))
  func norms(_ c: GradientFixture.Case) throws {
    let x = try #require(fixture.rows(c, "x"))
    let isPerHead = c.json["per_head"]?.bool == true
    let width = x.columns * (isPerHead ? 3 : 1)
    var weight = try #require(fixture.rows(c, "w"))
    if c.json["one_plus"]?.bool == true { weight.values = weight.values.map { 1 + $0 } }
    var inputs = [FloatRows(x.values, columns: width), weight]
    if let bias = fixture.rows(c, "b") { inputs.append(bias) }
    let epsilon = Float(try #require(c.json["eps"]?.double))
    let (y, gradients) = run(
      NormPrimitive(centers: c.json["kind"] == "layer", epsilon: epsilon), inputs,
      try #require(fixture.rows(c, "g_y", columns: width)))
    try expect(y, "y", of: c, byRow: true, below: 2e-6)
    try expect(gradients[0]!, "g_x", of: c, byRow: true, below: 2e-6)
    try expect(gradients[1]!, "g_w", of: c, below: 2e-6)
    if let bias = fixture.rows(c, "g_b") {
      #expect(gradients[2]!.difference(from: bias) < 2e-6)
    }
  }

  @Test(arguments: fixture.cases("rotary").filter { $0.json["first"] == 0 })
  func rotary(_ c: GradientFixture.Case) throws {
    let x = try #require(fixture.rows(c, "x"))
    let width = 3 * x.columns
    let table = RotaryTable(
      frequencies: try #require(fixture.rows(c, "frequencies")).values,
      amplitude: Float(try #require(c.json["amplitude"]?.double)),
      isInterleaved: c.json["interleaved"]?.bool == true, positions: 0..<9)
    let (y, gradients) = run(
      RotaryPrimitive(table, heads: 3), [FloatRows(x.values, columns: width)],
      try #require(fixture.rows(c, "g_y", columns: width)))
    try expect(y, "y", of: c, below: 1e-6)
    try expect(gradients[0]!, "g_x", of: c, below: 1e-6)
  }

  /// Not those with the square of ReLU, which no family has yet.
  @Test(
    arguments: fixture.cases("gates").filter { $0.json["activation"] != "relu2" })
  func gates(_ c: GradientFixture.Case) throws {
    let names = c.json["gated"]?.bool == true ? ["gate", "up"] : ["up"]
    let primitive: any Primitive
    if let limit = c.json["limit"]?.double, let slope = c.json["slope"]?.double {
      primitive = ClampedGatePrimitive(limit: Float(limit), slope: Float(slope))
    } else {
      let name = c.json["activation"]?.string ?? ""
      let activation = Activation(rawValue: name == "gelu_tanh" ? "geluTanh" : name)
      primitive = GatePrimitive(try #require(activation))
    }
    let (y, gradients) = run(
      primitive, try names.map { try #require(fixture.rows(c, $0)) },
      try #require(fixture.rows(c, "g_y")))
    try expect(y, "y", of: c, below: 1e-6)
    for (gradient, name) in zip(gradients, names) {
      let wanted = try #require(fixture.rows(c, "g_\(name)"))
      #expect(gradient!.difference(from: wanted) < 1e-6, "\(name)")
    }
  }

  @Test(arguments: fixture.cases("attention"))
  func attention(_ c: GradientFixture.Case) throws {
    let heads = try #require(c.json["heads"]?.int)
    let keyHeads = try #require(c.json["key_heads"]?.int)
    let attention = Attention(
      heads: heads, keyHeads: keyHeads, headSize: 8, window: c.json["window"]?.int,
      scale: Float(try #require(c.json["scale"]?.double)),
      softCap: c.json["cap"]?.double.map { Float($0) },
      slopes: fixture.rows(c, "slopes")?.values)
    func rows(_ name: String, _ heads: Int) throws -> FloatRows {
      try #require(fixture.rows(c, name, columns: heads * 8))
    }
    var inputs = [try rows("q", heads), try rows("k", keyHeads), try rows("v", keyHeads)]
    if let sinks = fixture.rows(c, "sinks") { inputs.append(sinks) }
    let ofOutput = try rows("g_y", heads)
    let (y, gradients) = run(AttentionPrimitive(attention), inputs, ofOutput)
    // Sums in another order.
    let limit: Float = inputs[0].rows > 100 ? 3e-5 : 1e-5
    try expect(y, "y", of: c, below: limit)
    for (gradient, name) in zip(gradients, ["g_q", "g_k", "g_v", "g_sinks"]) {
      let wanted = try #require(fixture.rows(c, name))
      #expect(gradient!.difference(from: wanted) < limit, "\(name)")
    }
  }

  @Test(arguments: fixture.cases("linears"))
  func roundedLinears(_ c: GradientFixture.Case) throws {
    let weight = try #require(fixture.rows(c, "w"))
    let scheme = WeightScheme(
      format: .int(bits: 4, symmetric: true),
      granularity: .group(try #require(c.json["group"]?.int)))
    let codes = QuantizedMatrix(
      nearest: weight,
      to: WeightRounding(scheme: scheme, scaleFormat: .f32, search: .extremes), on: compute)
    let rounded = FloatRows(.quantized(codes, inputs: nil), on: compute)
    try expect(rounded, "w_rounded", of: c, below: 1e-6)
    var tape = Tape(on: compute)
    let x = tape.parameter(try #require(fixture.rows(c, "x")))
    let w = tape.parameter(rounded)
    let read =
      c.json["rounds_inputs"]?.bool == true
      ? tape.apply(InputRoundingPrimitive(InputRounding(.dynamicPerToken(.int8))), x) : x
    var y = tape.apply(LinearPrimitive(), read, w)
    var wanted = [(x, "g_x"), (w, "g_w")]
    if let bias = fixture.rows(c, "b") {
      let b = tape.parameter(bias)
      y = tape.apply(BiasPrimitive(), y, b)
      wanted.append((b, "g_b"))
    }
    #expect(tape[y].difference(from: try #require(fixture.rows(c, "y"))) < 1e-6)
    let gradients = tape.gradients(of: y, try #require(fixture.rows(c, "g_y")))
    for (node, name) in wanted {
      let theirs = try #require(fixture.rows(c, name))
      let ours = try #require(gradients[node])
      #expect(ours.difference(from: theirs) < 1e-6, "\(name)")
    }
  }

  @Test(arguments: fixture.cases("scales"))
  func scales(_ c: GradientFixture.Case) throws {
    let bits = try #require(c.json["bits"]?.int)
    let (band, group) = (try #require(c.json["band"]?.int), try #require(c.json["group"]?.int))
    let codes = try #require(fixture.rows(c, "codes"))
    let zeros = fixture.rows(c, "zeros")
    let granularity: WeightScheme.Granularity =
      band > 1
      ? .block(rows: band, columns: group) : group == codes.columns ? .channel : .group(group)
    let bytes = codes.values.map { UInt8(bitPattern: Int8($0)) }
    let nibbles = bytes.map { ($0 &+ 8) & 15 }
    let packed = stride(from: 0, to: bytes.count, by: 2).map { index -> UInt8 in
      nibbles[index] | nibbles[index + 1] << 4
    }
    let scales = try #require(fixture.rows(c, "s")).values
    let matrix = QuantizedMatrix(
      scheme: WeightScheme(
        format: .int(bits: bits, symmetric: zeros == nil), granularity: granularity),
      rows: codes.rows, columns: codes.columns, codes: Bytes(bits == 4 ? packed : bytes),
      scales: [Float](repeating: 1, count: scales.count),
      zeroPoints: zeros?.values.map { Int8($0) } ?? [])
    let ofOutput = try #require(fixture.rows(c, "g_w"))
    for threads in [1, 3] {
      let compute = Compute(threads: threads, precision: .f32)
      let inputs = [FloatRows(scales, columns: scales.count)]
      let primitive = ScalesPrimitive(matrix)
      let output = primitive.forward(inputs, on: compute)
      try expect(output, "w", of: c, below: 1e-6)
      let gradients = primitive.backward(
        ofOutput, inputs, output, needed: [true], on: compute)
      let ours = try #require(gradients[0])
      let theirs = try #require(fixture.rows(c, "g_s", columns: scales.count))
      #expect(ours.difference(from: theirs) < 1e-6)
    }
  }

  @Test(arguments: fixture.cases("divergences"))
  func divergences(_ c: GradientFixture.Case) throws {
    var x = try #require(fixture.rows(c, "x")).values
    var base = try #require(fixture.rows(c, "b")).values
    let wanted = try #require(fixture.rows(c, "y")).values
    let temperature = Float(try #require(c.json["temperature"]?.double))
    let found = compute.divergenceGradient(
      &x, from: &base, rows: wanted.count, temperature: temperature)
    for (ours, theirs) in zip(found, wanted) {
      #expect(abs(ours - Double(theirs)) < 1e-5 * max(1, Double(theirs)))
    }
    try expect(FloatRows(x, columns: x.count / wanted.count), "g_x", of: c, below: 1e-5)
  }

  @Test func rowsTimesAStoredWeight() {
    var random = SplitMix64(state: 3)
    func rows(_ count: Int, _ columns: Int) -> FloatRows {
      FloatRows((0..<count * columns).map { _ in Float(random.nextUnit() - 0.5) }, columns: columns)
    }
    // More rows of the weight than lanes have slabs, and a last slab that is cut.
    let (a, weight) = (rows(5, 5000), rows(5000, 24))
    let plain = a.times(weight, on: compute)
    for threads in [1, 3] {
      let product = a.times(
        .float(weight.matrix), on: Compute(threads: threads, precision: .f32))
      #expect(product.difference(from: plain) < 1e-5)
    }
    let one = Compute(threads: 1, precision: .f32)
    #expect(a.times(.float(weight.matrix), on: one) == a.times(.float(weight.matrix), on: compute))
  }

  @Test(arguments: fixture.cases("steps").filter { $0.name != "sign" })
  func adamW(_ c: GradientFixture.Case) throws {
    let rates = try #require(c.json["rates"]?.array).compactMap(\.double)
    try #require(rates.count == 5)
    var values = try #require(fixture.rows(c, "start")).values
    let gradients = try #require(fixture.rows(c, "gradients"))
    let wanted = try #require(fixture.rows(c, "values"))
    var optimizer = AdamW(
      count: 9, rate: 0, decay: Float(try #require(c.json["decay"]?.double)))
    for (step, rate) in rates.enumerated() {
      optimizer.rate = Float(rate)
      let part = step * 9..<(step + 1) * 9
      optimizer.move(&values, against: Array(gradients.values[part]), on: compute)
      for (ours, theirs) in zip(values, wanted.values[part]) {
        #expect(abs(ours - theirs) < 2e-6, "step \(step)")
      }
    }
  }
}
