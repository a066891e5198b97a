import NibbleFormats
import NibbleTensor
import Testing

private struct Hostile: Sendable, CustomTestStringConvertible {
  var testDescription: String
  var file: [UInt8]
  var fault: GGUFFault

  init(_ what: String, _ fault: GGUFFault, _ change: (inout GGUFBytes) -> Void) {
    var bytes = GGUFBytes()
    change(&bytes)
    testDescription = what
    file = bytes.file
    self.fault = fault
  }
}

private typealias B = GGUFBytes
private let huge: UInt64 = 1 << 60

private let headers: [Hostile] = [
  Hostile("wrong magic", .notGGUF) { $0.magic = Array("GGML".utf8) },
  Hostile("version 0", .version(0)) { $0.version = 0 },
  Hostile("version 1", .version(1)) { $0.version = 1 },
  Hostile("version 4", .version(4)) { $0.version = 4 },
  Hostile("big-endian", .bigEndian) { $0.version = 3 << 24 },
  Hostile("2^60 tensors", .countPastEnd(huge)) { $0.tensorCount = huge },
  Hostile("2^60 members", .countPastEnd(huge)) { $0.memberCount = huge },
  Hostile("2^64 - 1 members", .countPastEnd(.max)) { $0.memberCount = .max },
  Hostile("string past the end", .countPastEnd(5000)) {
    $0.members.append(("s", 8, B.u64(5000) + [1]))
  },
  Hostile("string of 2^64 - 1", .countPastEnd(.max)) { $0.members.append(("s", 8, B.u64(.max))) },
  Hostile("array of 2^60 f64", .countPastEnd(huge)) {
    $0.members.append(("s", 9, B.array(12, huge)))
  },
  Hostile("array of 2^60 strings", .countPastEnd(huge)) {
    $0.members.append(("s", 9, B.array(8, huge)))
  },
  Hostile("array of 2^60 arrays", .countPastEnd(huge)) {
    $0.members.append(("s", 9, B.array(9, huge)))
  },
  Hostile("arrays 1000 deep", .nestedTooDeep) {
    let opening = (0..<1000).flatMap { _ in B.array(9, 1) }
    $0.members.append(("s", 9, opening + B.array(0, 0)))
  },
  Hostile("unknown value type", .valueType(13)) { $0.members.append(("s", 13, [0])) },
  Hostile("unknown element type", .valueType(99)) { $0.members.append(("s", 9, B.array(99, 0))) },
  Hostile("bool 2", .notBool(2)) { $0.members.append(("s", 7, [2])) },
  Hostile("bool 2 in an array", .notBool(2)) {
    $0.members.append(("s", 9, B.array(7, 2, [1, 2])))
  },
  Hostile("duplicate key", .duplicateKey) { $0.members.append(("a", 0, [1])) },
  Hostile("key not ASCII", .keyNotASCII) { $0.members.append(("é", 0, [1])) },
  Hostile("long key", .keyTooLong(65536)) {
    $0.members.append((String(repeating: "k", count: 65536), 0, [1]))
  },
  Hostile("alignment 0", .alignment(0)) {
    $0.members.append(("general.alignment", 4, B.u32(0)))
  },
  Hostile("alignment 3", .alignment(3)) {
    $0.members.append(("general.alignment", 4, B.u32(3)))
  },
  Hostile("alignment 4", .alignment(4)) {
    $0.members.append(("general.alignment", 4, B.u32(4)))
  },
  Hostile("alignment 24", .alignment(24)) {
    $0.members.append(("general.alignment", 4, B.u32(24)))
  },
  Hostile("alignment 2^25", .alignment(1 << 25)) {
    $0.members.append(("general.alignment", 4, B.u32(1 << 25)))
  },
  Hostile("alignment 2^31", .alignment(1 << 31)) {
    $0.members.append(("general.alignment", 4, B.u32(1 << 31)))
  },
  Hostile("alignment as u64", .alignment(nil)) {
    $0.members.append(("general.alignment", 10, B.u64(32)))
  },
]

private let tensors: [Hostile] = [
  Hostile("5 dimensions", .dimensions(5)) { $0.tensors[0].sizes = [2, 2, 2, 2, 2] },
  Hostile("2^32 - 1 dimensions", .dimensions(.max)) { $0.tensors[0].dimensions = .max },
  Hostile("dimensions overflow", .tooManyElements([huge, 32])) {
    $0.tensors[0].sizes = [huge, 32]
  },
  Hostile("one dimension overflows", .tooManyElements([.max])) { $0.tensors[0].sizes = [.max] },
  Hostile("a zero hides an overflow", .tooManyElements([0, huge, huge])) {
    $0.tensors[0].sizes = [0, huge, huge]
  },
  Hostile("row not whole blocks", .rowNotWhole(8, .q40)) { $0.tensors[0].type = 2 },
  Hostile("row not whole k-blocks", .rowNotWhole(128, .q6K)) {
    $0.tensors[0].type = 14
    $0.tensors[0].sizes = [128, 2]
  },
  Hostile("unknown tensor type", .tensorType(4)) { $0.tensors[0].type = 4 },
  Hostile("offset misaligned", .offsetNotAligned(16, 32)) { $0.tensors[1].offset = 16 },
  Hostile("offset beyond the file", .dataPastEnd(offset: 192, bytes: 32, room: 160)) {
    $0.tensors[1].offset = 192
  },
  Hostile("offset 2^63", .dataPastEnd(offset: 1 << 63, bytes: 32, room: 160)) {
    $0.tensors[1].offset = 1 << 63
  },
  Hostile("data beyond the file", .dataPastEnd(offset: 128, bytes: 32, room: 159)) {
    $0.data.removeLast()
  },
  Hostile("nothing, beyond the file", .dataPastEnd(offset: 192, bytes: 0, room: 160)) {
    $0.tensors[1].sizes = [0]
    $0.tensors[1].offset = 192
  },
  Hostile("no data section", .dataPastEnd(offset: 0, bytes: 128, room: 0)) { $0.data = [] },
  Hostile("overlapping tensors", .overlaps("x")) { $0.tensors[1].offset = 96 },
  Hostile("the same data twice", .overlaps("x")) { $0.tensors[1].offset = 0 },
  Hostile("duplicate tensor", .duplicateTensor) { $0.tensors[1].name = $0.tensors[0].name },
  Hostile("name not UTF-8", .nameNotUTF8) { $0.tensors[0].name = [0xFF, 0xFE] },
  Hostile("long name", .nameTooLong(65)) { $0.tensors[0].name = Array(repeating: 0x61, count: 65) },
]

@Suite struct GGUFHostileTests {
  @Test(arguments: headers + tensors)
  private func refuses(_ hostile: Hostile) {
    let error = #expect(throws: FormatError.self) {
      try GGUFFile(parsing: Bytes(hostile.file), path: "hostile")
    }
    guard case .gguf("hostile", _, let byte, let fault) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(fault == hostile.fault)
    #expect((0...hostile.file.count).contains(byte))
    #expect(error?.description.isEmpty == false)
  }

  @Test func acceptsTheFileThatTheHostileOnesChange() throws {
    for version in [2, 3] as [UInt32] {
      var bytes = GGUFBytes()
      bytes.version = version
      let file = try GGUFFile(parsing: Bytes(bytes.file), path: "sound")
      #expect(file.tensors.map(\.shape) == [[4, 8], [8]])
      #expect(file.tensors.map(\.range.count) == [128, 32])
    }
  }

  @Test func acceptsWhatIsOddButSound() throws {
    var bytes = GGUFBytes()
    bytes.alignment = 64
    bytes.members.append(("general.alignment", 4, B.u32(64)))
    // Tokens may be cut inside a UTF-8 sequence; arrays may be empty or nest a little.
    bytes.members.append(("raw", 8, B.string([0xFF, 0x80])))
    bytes.members.append(("empty", 9, B.array(8, 0)))
    bytes.members.append(
      ("deep", 9, B.array(9, 1, B.array(9, 1, B.array(9, 1, B.array(0, 1, [5]))))))
    // Out of order, a hole at the start, a scalar, and a tensor of nothing at the very end.
    bytes.tensors = [
      .init("late", [2], at: 128), .init("early", [3], at: 64), .init("one", [], at: 0),
      .init("\u{E9}", [0, 4], at: 192), .init("e\u{301}", [0], at: 192),
    ]
    bytes.data = [UInt8](repeating: 1, count: 192)
    let file = try GGUFFile(parsing: Bytes(bytes.file), path: "odd")
    #expect(file.tensors.map(\.range.count) == [8, 12, 4, 0, 0])
    #expect(file.tensor("e\u{301}")?.shape == [0])
    #expect(file.metadata["raw"]?.bytes == [0xFF, 0x80])
    #expect(file.metadata["raw"]?.string == nil)
    #expect(file.metadata["empty"]?.strings == [])
  }

  @Test func aFileWithoutTensorsNeedsNoData() throws {
    var bytes = GGUFBytes()
    (bytes.tensors, bytes.data, bytes.alignment) = ([], [], 1)
    #expect(try GGUFFile(parsing: Bytes(bytes.file), path: "vocabulary").tensors.isEmpty)
  }

  @Test(arguments: ["tiny", "every_kind"])
  func everyTruncationIsRefused(_ name: String) throws {
    let whole = try fixture("gguf/\(name).gguf")
    let file = try GGUFFile(parsing: Bytes(whole), path: name)
    let end = file.tensors.map(\.range.upperBound).max()!
    for count in 0..<end {
      #expect(throws: FormatError.self) {
        try GGUFFile(parsing: Bytes(Array(whole[..<count])), path: name)
      }
    }
  }

  @Test(arguments: ["tiny", "every_kind"])
  func mutatedFilesNeverTrap(_ name: String) throws {
    let whole = try fixture("gguf/\(name).gguf")
    let header = try GGUFFile(parsing: Bytes(whole), path: name).tensors[0].range.lowerBound
    var random = SplitMix(state: 2)
    var accepted = 0
    for _ in 0..<6000 {
      var bytes = whole
      for _ in 0..<Int.random(in: 1...3, using: &random) {
        let at = Int.random(in: 0..<header, using: &random)
        bytes[at] = [0, 1, 2, 0x7F, 0x80, 0xFF, .random(in: 0...255, using: &random)]
          .randomElement(using: &random)!
      }
      do throws(FormatError) {
        let file = try GGUFFile(parsing: Bytes(bytes), path: "mutated")
        for tensor in file.tensors where tensor.type.isDecodable {
          var values = [Float](repeating: 0, count: tensor.elementCount)
          var span = values.mutableSpan
          try file.decode(rows: 0..<tensor.rowCount, of: tensor, into: &span)
        }
        accepted += 1
      } catch {
        #expect(!error.description.isEmpty)
      }
    }
    #expect(accepted > 0 && accepted < 6000)
  }
}
