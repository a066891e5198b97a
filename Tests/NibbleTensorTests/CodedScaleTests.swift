import Foundation
import NibbleTensor
import Testing

/// MXFP4 and NVFP4 against Tests/Golden/minifloats.py, whose codes and scales were made in double
/// precision and checked with torchao, ml_dtypes and the fouroversix reference.
@Suite struct CodedScaleTests {
  private struct Fixture: Decodable {
    struct MX: Decodable {
      var bytes: Data
      var codes: Data
    }
    struct NV: Decodable {
      var tensor: Float
      var scales: Data
      var codes: Data
    }
    struct Published: Decodable {
      var values: Data
      var mxFloor: MX
      var nvPlain: NV
    }
    struct Blocks: Decodable {
      var values: Data
      var importance: Data
      var mx: [String: MX]
      var nv: [String: NV]
    }
    var mxBytes: [String: Data]
    var published: Published
    var blocks: Blocks
  }

  private static let fixture: Fixture = {
    let file = Bundle.module.resourceURL!.appending(path: "Fixtures/minifloats.json")
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    return try! decoder.decode(Fixture.self, from: Data(contentsOf: file))
  }()

  static let mxfp4 = WeightScheme(format: .mxfp4, granularity: .group(32))
  static let nvfp4 = WeightScheme(format: .nvfp4, granularity: .group(16))

  private func floats(_ data: Data) -> [Float] { FloatFormat.f32.decode(Bytes(Array(data))) }

  private func round(
    _ values: [Float], _ columns: Int, _ scheme: WeightScheme, _ search: ScaleSearch,
    importance: [Float]? = nil, peak: Float = 0, on compute: Compute = oneThread
  ) -> QuantizedMatrix {
    QuantizedMatrix(
      nearest: FloatRows(values, columns: columns),
      to: WeightRounding(scheme: scheme, scaleFormat: .f32, search: search, sharedPeak: peak),
      importance: importance, on: compute)
  }

  private func codes(_ matrix: QuantizedMatrix) -> [UInt8] {
    matrix.codes.array.flatMap { [$0 & 15, $0 >> 4] }
  }

  /// learned.md 9.5.
  @Test func theTableOfTheSpecificationComesOut() {
    let published = Self.fixture.published
    let values = floats(published.values)
    let mx = round(values, 32, Self.mxfp4, .extremes)
    #expect(codes(mx) == Array(published.mxFloor.codes))
    #expect(mx.scaleCodes == Array(published.mxFloor.bytes))
    let nv = round(values, 32, Self.nvfp4, .extremes)
    #expect(codes(nv) == Array(published.nvPlain.codes))
    #expect(nv.scaleCodes == [0x7E, 0x69] && nv.scaleDivisor == published.nvPlain.tensor)
    func errors(_ matrix: QuantizedMatrix) -> [Double] {
      let lost = zip(values, matrix.decoded()).map { pow(Double($0) - Double($1), 2) }
      return [lost[..<16].reduce(0, +), lost[16...].reduce(0, +)]
    }
    #expect(abs(errors(mx).reduce(0, +) - 3.421509) < 1e-6)
    #expect(abs(errors(nv)[0] - 1.769863) < 1e-6 && abs(errors(nv)[1] - 0.045322) < 1e-6)
  }

  @Test func scaleBytesFollowTheFloorRule() throws {
    let peaks = floats(try #require(Self.fixture.mxBytes["amax"]))
    let bytes = try #require(Self.fixture.mxBytes["floor"])
    for (peak, byte) in zip(peaks, bytes) {
      let values = [peak] + [Float](repeating: 0, count: 31)
      // No scale of ours is subnormal.
      #expect(round(values, 32, Self.mxfp4, .extremes).scaleCodes == [max(1, byte)], "\(peak)")
    }
  }

  @Test(arguments: [("floor", ScaleSearch.extremes), ("best", .codes)])
  func mxfp4IsTheReferences(_ rule: String, _ search: ScaleSearch) throws {
    let blocks = Self.fixture.blocks
    let reference = try #require(blocks.mx[rule])
    let matrix = round(floats(blocks.values), 128, Self.mxfp4, search)
    #expect(codes(matrix) == Array(reference.codes))
    let zeros = 12
    for (index, byte) in reference.bytes.enumerated() where index != zeros {
      #expect(matrix.scaleCodes[index] == byte, "\(index)")
    }
    #expect(matrix.scales[zeros] == 1, "the group of zeros")
  }

  @Test(arguments: [
    ("plain", ScaleSearch.extremes), ("search", .codes), ("search", .shrink(steps: 1)),
  ])
  func nvfp4IsTheReferences(_ rule: String, _ search: ScaleSearch) throws {
    let blocks = Self.fixture.blocks
    let reference = try #require(blocks.nv[rule])
    let matrix = round(
      floats(blocks.values), 128, Self.nvfp4, search, importance: floats(blocks.importance))
    #expect(codes(matrix) == Array(reference.codes))
    #expect(matrix.scaleDivisor == reference.tensor)
    let zeros = [24, 25]
    for (index, scale) in reference.scales.enumerated() where !zeros.contains(index) {
      #expect(matrix.scaleCodes[index] == scale, "\(index)")
    }
    for index in zeros { #expect(matrix.scaleCodes[index] == 0x38, "a group of zeros has scale 1") }
  }

  /// learned.md 9.3, on normal values: 20.44 and 21.81 dB for NVFP4, 18.72 and 19.03 for MXFP4.
  @Test func theSearchGainsWhatTheSpecificationMeasured() {
    let values = gaussian(1 << 18, seed: 4)
    let rows = FloatRows(values, columns: 1024)
    for (scheme, search, expected) in [
      (Self.nvfp4, ScaleSearch.extremes, 20.44), (Self.nvfp4, .codes, 21.81),
      (Self.mxfp4, .extremes, 18.72), (Self.mxfp4, .codes, 19.03),
    ] {
      let found = round(values, 1024, scheme, search).signalToNoise(against: rows, on: oneThread)
      // Scales that are powers of two lose more or less with the size of the values.
      let tolerance = scheme == Self.mxfp4 ? 0.15 : 0.05
      #expect(abs(found - expected) < tolerance, "\(scheme), \(search): \(found)")
    }
  }

  /// The same straight from a matrix in storage, with one thread or more.
  @Test(arguments: [mxfp4, nvfp4], [ScaleSearch.extremes, .codes])
  func storageAndThreadsChangeNothing(_ scheme: WeightScheme, _ search: ScaleSearch) throws {
    let values = gaussian(70 * 96, seed: 8)
    let matrix = round(values, 96, scheme, search)
    for threads in [1, 3] {
      let compute = Compute(threads: threads, precision: .f32)
      let stored = try QuantizedMatrix(
        rounding: FloatMatrix(values, 70, 96), to: scheme, scaleFormat: .f32, search: search,
        on: compute)
      for other in [stored, round(values, 96, scheme, search, on: compute)] {
        #expect(other.codes.array == matrix.codes.array && other.scales == matrix.scales)
        #expect(other.scaleDivisor == matrix.scaleDivisor)
      }
    }
  }

  /// Weights that an engine fuses have one divisor; what exceeds its range is clipped.
  @Test func aSharedPeakGivesTheDivisor() {
    let values = gaussian(32 * 8, seed: 9)
    let matrix = round(values, 32, Self.nvfp4, .codes, peak: 21)
    #expect(matrix.scaleDivisor == 128)
    let clipped = round(values.map { $0 * 100 }, 32, Self.nvfp4, .codes, peak: 21)
    #expect(clipped.scaleDivisor == 128 && clipped.decoded().allSatisfy { abs($0) <= 21 })
    #expect(matrix.decoded() != clipped.decoded())
  }

  @Test(arguments: [mxfp4, nvfp4], [ScaleSearch.extremes, .codes])
  func awkwardValuesHaveScalesAboveZero(_ scheme: WeightScheme, _ search: ScaleSearch) {
    let rows: [[Float]] = [
      [Float](repeating: 0, count: 32), [Float](repeating: .leastNonzeroMagnitude, count: 32),
      [Float](repeating: 3e38, count: 32), [Float](repeating: -1e-38, count: 32),
      (0..<32).map { $0 == 3 ? 3e38 : 1e-30 }, (0..<32).map { $0 < 16 ? 0 : 1 },
    ]
    for values in rows + [rows.flatMap(\.self)] {
      let matrix = round(values, 32, scheme, search)
      #expect(matrix.scales.allSatisfy { $0.isNormal && $0 > 0 })
      #expect(matrix.scaleDivisor.isNormal && matrix.scaleDivisor > 0)
      #expect(matrix.decoded().allSatisfy { $0.isFinite })
      let again = zip(matrix.scaleCodes, matrix.scales).allSatisfy { code, scale in
        scheme.format == .mxfp4
          ? scale == Float(sign: .plus, exponent: Int(code) - 127, significand: 1)
          : scale == Minifloat.e4m3.values[Int(code)] / matrix.scaleDivisor
      }
      #expect(again, "\(values)")
    }
  }
}
