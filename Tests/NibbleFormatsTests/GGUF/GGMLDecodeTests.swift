import NibbleFormats
import NibbleTensor
import Testing

private func decoded(_ type: GGMLType, _ bytes: [UInt8]) throws -> [Float] {
  let count = bytes.count / type.blockBytes * type.blockElements
  var values = [Float](repeating: 99, count: count)
  var span = values.mutableSpan
  try decode(type, bytes.span, into: &span)
  return values
}

/// The same bits; any undefined value stands for any other, as their bits differ by machine.
private func same(_ left: Float, _ right: Float) -> Bool {
  left.bitPattern == right.bitPattern || left.isNaN && right.isNaN
}

private func floats(_ bytes: [UInt8]) -> [Float] {
  stride(from: 0, to: bytes.count, by: 4).map { at in
    Float(bitPattern: (0..<4).reduce(0) { $0 | UInt32(bytes[at + $1]) << (8 * $1) })
  }
}

private let decodable = GGMLType.allCases.filter(\.isDecodable)

@Suite struct GGMLDecodeTests {
  @Test(arguments: decodable)
  func agreesWithGGUFOnAwkwardBlocks(_ type: GGMLType) throws {
    let oracle = try SafetensorsFile(path: fixturePath("gguf/decode.safetensors"))
    let blocks = try #require(oracle.bytes(of: type.name + ".bytes")).array
    let expected = floats(try #require(oracle.bytes(of: type.name + ".values")).array)
    let values = try decoded(type, blocks)
    #expect(values.count == expected.count)
    #expect(zip(values, expected).allSatisfy(same))
  }

  @Test(arguments: [GGMLType.bf16, .q40, .q41, .q80, .q4K, .q6K])
  func agreesWithTheGoldenBlocks(_ type: GGMLType) throws {
    let oracle = try SafetensorsFile(path: fixturePath("gguf/blocks.safetensors"))
    let blocks = try #require(oracle.bytes(of: type.name + ".bytes")).array
    let expected = floats(try #require(oracle.bytes(of: type.name + ".dequant")).array)
    #expect(expected.count == 1024)
    #expect(try decoded(type, blocks).elementsEqual(expected, by: same))
  }

  /// Codes, scales and minimums give back the values that gguf decodes to the bit.
  @Test(arguments: GGMLType.allCases.filter { GGMLCodes($0) != nil })
  func codesStandForTheGoldenValues(_ type: GGMLType) throws {
    let oracle = try SafetensorsFile(path: fixturePath("gguf/decode.safetensors"))
    let blocks = try #require(oracle.bytes(of: type.name + ".bytes")).array
    let expected = floats(try #require(oracle.bytes(of: type.name + ".values")).array)
    let layout = try #require(GGMLCodes(type))
    var codes = [UInt8](repeating: 255, count: expected.count)
    var scales = [Float](repeating: .nan, count: expected.count / layout.group)
    var minimums = scales
    do {
      var codeSpan = codes.mutableSpan
      var scaleSpan = scales.mutableSpan
      var minimumSpan = minimums.mutableSpan
      GGMLCodes.unpack(type, blocks.span, &codeSpan, &scaleSpan, &minimumSpan)
    }
    let half = Float(1 << (layout.bits - 1))
    for (index, value) in expected.enumerated() {
      let (scale, minimum) = (scales[index / layout.group], minimums[index / layout.group])
      #expect(Int(codes[index]) < 1 << layout.bits)
      if layout.hasMinimums {
        let ours = scale * Float(codes[index]) + minimum
        #expect(same(ours, value), "\(index): \(ours), \(value)")
      } else {
        let ours = scale * (Float(codes[index]) - half)
        #expect(same(ours, value), "\(index): \(ours), \(value)")
      }
    }
  }

  #if !(os(macOS) && arch(x86_64))
    @Test func everyHalfIsExact() throws {
      let halves = (0..<65536).flatMap { [UInt8($0 & 255), UInt8($0 >> 8)] }
      let values = try decoded(.f16, halves)
      for (bits, value) in values.enumerated() {
        let expected = Float(Float16(bitPattern: UInt16(bits)))
        #expect(same(value, expected), "\(bits)")
      }
    }
  #endif

  @Test(arguments: GGMLType.allCases.filter { !$0.isDecodable })
  func namesATypeItCannotDecode(_ type: GGMLType) throws {
    let block = [UInt8](repeating: 0, count: type.blockBytes)
    let error = #expect(throws: FormatError.undecodable(type)) { try decoded(type, block) }
    #expect(error?.description.contains(type.name) == true)
  }

  @Test(arguments: decodable)
  func noBlocksAreNoValues(_ type: GGMLType) throws {
    #expect(try decoded(type, []) == [])
  }

  @Test func rotaryRowsComeBackToHuggingFaceOrder() throws {
    // 4 heads of 8 rows, 16 inputs.
    let oracle = try SafetensorsFile(path: fixturePath("gguf/qk_permute_h4_d8.safetensors"))
    let interleaved = try #require(oracle.bytes(of: "gguf"))
    let halves = try #require(oracle.bytes(of: "hf")).array
    var imported: [UInt8] = []
    for row in 0..<32 {
      let source = ggufRow(ofHuggingFaceRow: row, headSize: 8)
      imported += interleaved[source * 64..<source * 64 + 64].array
      #expect(huggingFaceRow(ofGGUFRow: source, headSize: 8) == row)
    }
    #expect(imported == halves)
    #expect(imported != interleaved.array)
  }
}
