import Foundation
import NibbleFormats
import NibbleModel
import NibbleTensor
import Testing

@testable import NibbleEngines

/// Words as compressed-tensors 0.20 packs them: see Fixtures/README.md.
@Suite struct PackedCodesTests {
  private let file: SafetensorsFile

  init() throws { file = try SafetensorsFile(path: fixturePath("pack_to_int32.safetensors")) }

  private func bytes(_ name: String) throws -> [UInt8] {
    try #require(file.bytes(of: name)).array
  }

  private func integers(_ name: String) throws -> [Int8] {
    try bytes(name).map { Int8(bitPattern: $0) }
  }

  @Test func fourBitCodesLieInMemoryAsTheyArePacked() throws {
    let packed = try bytes("packed4")
    let codes = PackedCodes.unpack(Bytes(packed), bits: 4)
    let matrix = QuantizedMatrix(
      scheme: WeightScheme(format: .int(bits: 4, symmetric: true), granularity: .tensor),
      rows: 16, columns: 40, codes: codes, scales: [1])
    #expect(matrix.decoded() == (try integers("q4")).map(Float.init))
    #expect(PackedCodes.pack(matrix).array == packed)
  }

  @Test func eightBitCodesAreShiftedByHalfTheRange() throws {
    let packed = try bytes("packed8")
    let matrix = QuantizedMatrix(
      scheme: WeightScheme(format: .int(bits: 8, symmetric: true), granularity: .tensor),
      rows: 16, columns: 40, codes: Bytes(try bytes("q8")), scales: [1])
    #expect(PackedCodes.pack(matrix).array == packed)
    #expect(PackedCodes.unpack(Bytes(packed), bits: 8).array == (try bytes("q8")))
  }

  @Test(arguments: [4, 8])
  func zeroPointsArePackedAlongTheOutputs(_ bits: Int) throws {
    let zeros = try integers("q\(bits)")
    let packed = try bytes("packed\(bits)_dim0")
    #expect(PackedCodes.packZeroPoints(matrix(zeros, rows: 16, groups: 40, bits)).array == packed)
    #expect(
      PackedCodes.unpackZeroPoints(Bytes(packed), rows: 16, groups: 40, bits: bits) == zeros)
  }

  /// Words that are not full end in zeros.
  @Test(arguments: [1, 3, 7, 8, 9, 31, 33], [4, 8])
  func zeroPointsOfAwkwardRowsComeBack(_ rows: Int, _ bits: Int) {
    var random = SplitMix(state: UInt64(rows))
    let half = 1 << (bits - 1)
    let zeros = (0..<rows * 3).map { _ in Int8(Int(random.next() % UInt64(2 * half)) - half) }
    let packed = PackedCodes.packZeroPoints(matrix(zeros, rows: rows, groups: 3, bits))
    let words = (rows * bits + 31) / 32
    #expect(packed.count == words * 3 * 4)
    #expect(
      PackedCodes.unpackZeroPoints(packed, rows: rows, groups: 3, bits: bits) == zeros)
    let used = rows * bits - (words - 1) * 32
    for group in 0..<3 where used < 32 {
      let at = ((words - 1) * 3 + group) * 4
      let word = packed[at..<at + 4].array.reversed().reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
      #expect(word >> used == 0)
    }
  }

  private func matrix(_ zeros: [Int8], rows: Int, groups: Int, _ bits: Int) -> QuantizedMatrix {
    QuantizedMatrix(
      scheme: WeightScheme(format: .int(bits: bits, symmetric: false), granularity: .group(2)),
      rows: rows, columns: groups * 2,
      codes: Bytes([UInt8](repeating: 0, count: rows * groups * 2 * bits / 8)),
      scales: [Float](repeating: 1, count: rows * groups), zeroPoints: zeros)
  }

  @Test(arguments: ["int4_example", "int8_example"])
  func theExamplesOfTheSpecificationUnpack(_ name: String) throws {
    let example = try #require(try Checkpoint.json(fixturePath("pack_examples.json"))[name])
    let bits = name == "int4_example" ? 4 : 8
    let values = try #require(example["values"]?.array).map { $0.array!.map { $0.int! } }
    let packed = try #require(example["packed_hex_le_bytes"]?.array).flatMap { row in
      let digits = Array(row.string!)
      return stride(from: 0, to: digits.count, by: 2).map {
        UInt8(String(digits[$0...$0 + 1]), radix: 16)!
      }
    }
    let matrix = QuantizedMatrix(
      scheme: WeightScheme(format: .int(bits: bits, symmetric: true), granularity: .tensor),
      rows: values.count, columns: values[0].count,
      codes: PackedCodes.unpack(Bytes(packed), bits: bits), scales: [1])
    #expect(matrix.decoded() == values.flatMap { $0 }.map { Float($0) })
    #expect(PackedCodes.pack(matrix).array == packed)
  }

  @Test func shapesAreLittleEndianInt64() {
    #expect(
      PackedCodes.shape([258, 1]).array == [2, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0])
  }
}
