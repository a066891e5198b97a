import Foundation
import NibbleTensor
import Testing

@Suite struct MinifloatTests {
  /// Made by Tests/Golden/minifloats.py: every value compared with the two codes beside it in exact
  /// fractions, and with ml_dtypes where it has the format.
  private struct Fixture: Decodable {
    struct Format: Decodable, Sendable, CustomStringConvertible {
      var name: String
      var exponent: Int
      var mantissa: Int
      var bias: Int
      var largest: Float
      var infinities: Bool
      var nans: Bool
      var table: Data
      var values: Data
      var codes: Data
      var description: String { name }
    }
    var formats: [Format]
  }

  private static let formats: [Fixture.Format] = {
    let file = Bundle.module.resourceURL!.appending(path: "Fixtures/minifloats.json")
    return try! JSONDecoder().decode(Fixture.self, from: Data(contentsOf: file)).formats
  }()

  private func doubles(_ data: Data) -> [Double] {
    stride(from: 0, to: data.count, by: 8).map { start in
      Double(bitPattern: (0..<8).reduce(UInt64(0)) { $0 | UInt64(data[start + $1]) << (8 * $1) })
    }
  }

  private func format(_ c: Fixture.Format) throws -> Minifloat {
    try Minifloat(
      exponentBits: c.exponent, mantissaBits: c.mantissa, bias: c.bias,
      ends: c.infinities ? .infinity : c.nans ? .nan : .numbers)
  }

  @Test(arguments: formats)
  private func codesAndTiesAreThoseOfTheReference(_ c: Fixture.Format) throws {
    let format = try format(c)
    let table = doubles(c.table)
    let values = format.values
    #expect(values.count == table.count && format.largest == c.largest)
    for (ours, theirs) in zip(values, table) {
      #expect(theirs.isNaN ? ours.isNaN : Double(ours) == theirs)
    }
    let inputs = FloatFormat.f32.decode(Bytes(Array(c.values)))
    #expect(inputs.count > 300)
    for (x, code) in zip(inputs, c.codes) {
      #expect(Double(format.nearest(x)) == table[Int(code)], "\(x)")
    }
  }

  /// Weights round to the reference's codes, and codes decode to the entries of its table.
  @Test(arguments: formats)
  private func weightsHaveTheCodesOfTheReference(_ c: Fixture.Format) throws {
    let format = try format(c)
    // The largest value in every row makes the scale 1.
    var values = [format.largest]
    for x in FloatFormat.f32.decode(Bytes(Array(c.values))) {
      values.append(min(max(x, -format.largest), format.largest))
    }
    var codes = [UInt8(doubles(c.table).firstIndex(of: Double(c.largest))!)] + c.codes
    if values.count % 2 == 1 { (values, codes) = (values + [0], codes + [0]) }
    let scheme = WeightScheme(format: .minifloat(format), granularity: .channel)
    let matrix = try QuantizedMatrix(
      rounding: FloatMatrix(values, 1, values.count), to: scheme, scaleFormat: .f32,
      on: oneThread)
    let found = matrix.codes.array.flatMap { scheme.bits == 4 ? [$0 & 15, $0 >> 4] : [$0] }
    #expect(matrix.scales == [1])
    #expect(found == codes)
    let table = doubles(c.table)
    #expect(matrix.decoded().map(Double.init) == codes.map { table[Int($0)] })
  }

  @Test func namedFormatsAreThoseOfTheReference() throws {
    let named: [String: Minifloat] = [
      "E5M2": .e5m2, "E4M3": .e4m3, "E3M4": .e3m4, "E2M5": .e2m5, "E3M2": .e3m2, "E2M3": .e2m3,
      "E2M1": .e2m1,
    ]
    for (name, ours) in named {
      let theirs = try #require(Self.formats.first { $0.name == name })
      #expect(try format(theirs) == ours && "\(ours)" == name.lowercased())
    }
  }

  @Test(arguments: [(0, 3), (8, 0), (4, 4), (1, 0), (-1, 3), (3, -1)])
  func bitsWithoutMeaningAreRefused(_ exponent: Int, _ mantissa: Int) {
    #expect(throws: InvalidMinifloat.self) {
      try Minifloat(exponentBits: exponent, mantissaBits: mantissa)
    }
  }

  /// The error of rows is that of the nearest entry of the format's table.
  @Test(arguments: NumberFormat.eightBits + NumberFormat.fourBits, [nil, 30] as [Float?])
  func theErrorIsThatOfTheNearestValue(_ format: NumberFormat, _ peak: Float?) {
    let rows = FloatRows(correlated(tokens: 37, channels: 24, seed: 5), columns: 24)
    let values: [Float] =
      switch format {
      case .integer(let bits): (-(1 << (bits - 1))..<1 << (bits - 1)).map(Float.init)
      case .minifloat(let format): format.values.filter(\.isFinite)
      }
    var expected = 0.0
    for row in 0..<rows.rows {
      let line = rows.values[row * 24..<(row + 1) * 24]
      let scale = Double((peak ?? line.map(abs).max()!) / format.largest)
      for x in line {
        expected += values.map { pow(Double(x) - Double($0) * scale, 2) }.min()!
      }
    }
    let one = rows.roundingEnergy(format, peak: peak, on: oneThread)
    #expect(abs(one / expected - 1) < 1e-4, "\(one), \(expected)")
    #expect(
      one == rows.roundingEnergy(format, peak: peak, on: Compute(threads: 3, precision: .f32)))
  }
}
