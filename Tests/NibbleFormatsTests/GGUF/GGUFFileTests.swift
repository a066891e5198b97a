import NibbleFormats
import NibbleTensor
import Testing

@Suite struct GGUFFileTests {
  @Test func readsTheGoldenFile() throws {
    let file = try GGUFFile(path: fixturePath("gguf/tiny.gguf"))
    #expect(file.keys.first == "general.architecture")
    #expect(file.keys.count == 6)
    #expect(file.metadata["general.architecture"]?.string == "llama")
    #expect(file.metadata["llama.block_count"] == .u32(1))
    #expect(file.metadata["llama.rope.freq_base"]?.float == 10000)
    #expect(file.metadata["tokenizer.ggml.add_bos_token"]?.bool == true)
    #expect(file.metadata["tokenizer.ggml.tokens"]?.strings?.isEmpty == false)
    #expect(
      file.tensors.map(\.name) == [
        "token_embd.weight", "output_norm.weight", "blk.0.attn_q.weight",
      ])
    #expect(file.tensors.map(\.shape) == [[4, 32], [32], [4, 256]])
    #expect(file.tensors.map(\.type) == [.f32, .f32, .q40])
    #expect(file.tensors.map(\.range) == [480..<992, 992..<1120, 1120..<1696])
  }

  @Test func readsEveryKindOfValue() throws {
    let file = try GGUFFile(path: fixturePath("gguf/every_kind.gguf"))
    func value(_ kind: String) -> GGUFValue? { file.metadata["kind." + kind] }
    #expect(value("u8") == .u8(255))
    #expect(value("i8") == .i8(-128))
    #expect(value("u16") == .u16(65535))
    #expect(value("i16") == .i16(-32768))
    #expect(value("u32") == .u32(.max))
    #expect(value("i32") == .i32(.min))
    #expect(value("u64") == .u64(.max))
    #expect(value("u64")?.int == nil)
    #expect(value("i64") == .i64(.min))
    #expect(value("i64")?.int == .min)
    #expect(value("f32") == .f32(-0.1))
    #expect(value("f64") == .f64(0.1))
    #expect(value("f64")?.float == 0.1)
    #expect(value("bool") == .bool(false))
    #expect(value("string")?.string == "tokén 😀")
    #expect(value("strings")?.strings == ["", "a", "▁b", "😀"].map { Array($0.utf8) })
    #expect(value("ints")?.ints == [3, -1, 0])
    #expect(value("floats")?.floats == [0, -1.5])
    #expect(value("bools")?.array == .bool([true, false, true]))
    #expect(value("nested")?.array == .array([.i32([1, 2]), .i32([3])]))
    #expect(file.keys.count == 19)
  }

  @Test func placesTensorsInHuggingFaceOrder() throws {
    let file = try GGUFFile(path: fixturePath("gguf/every_kind.gguf"))
    #expect(file.tensors.map(\.name) == ["four", "big", "eye", "b", "cube"])
    #expect(file.tensors.map(\.type) == [.q41, .q6K, .f32, .bf16, .q80])
    #expect(file.tensors.map(\.shape) == [[3, 2, 64], [5, 256], [31], [7, 33], [1, 2, 3, 32]])
    for (seed, tensor) in file.tensors.enumerated() {
      let expected = (0..<tensor.range.count).map { UInt8(($0 + seed) % 251) }
      #expect(file.bytes(of: tensor).array == expected)
    }
    #expect(file.tensor("cube")?.rowCount == 6)
    #expect(file.tensor("absent") == nil)
  }

  @Test func decodesSomeRowsAsItDecodesAll() throws {
    let file = try GGUFFile(path: fixturePath("gguf/every_kind.gguf"))
    for tensor in file.tensors {
      let k = tensor.rowLength
      var all = [Float](repeating: 0, count: tensor.elementCount)
      var span = all.mutableSpan
      try file.decode(rows: 0..<tensor.rowCount, of: tensor, into: &span)
      for row in 0..<tensor.rowCount {
        var one = [Float](repeating: 0, count: k)
        var span = one.mutableSpan
        try file.decode(rows: row..<row + 1, of: tensor, into: &span)
        #expect(one.map(\.bitPattern) == all[row * k..<(row + 1) * k].map(\.bitPattern))
      }
    }
  }

  @Test func aMissingFileIsAFileError() {
    let error = #expect(throws: FormatError.self) { try GGUFFile(path: "/nowhere/x") }
    guard case .file = error else {
      Issue.record("\(String(describing: error))")
      return
    }
  }
}
