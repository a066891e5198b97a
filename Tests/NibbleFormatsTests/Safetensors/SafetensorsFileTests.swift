import NibbleFormats
import NibbleTensor
import Testing

private struct Verdict: Sendable, CustomTestStringConvertible {
  var name: String
  var accepts: Bool
  var testDescription: String { name }

  static func all() throws -> [Verdict] {
    let recorded = try JSON(parsing: fixture("safetensors/expected.json")).object!
    return recorded.map { name, value in
      switch name {
      // Ours is stricter: a name that stands twice.
      case "dup_key_same": Verdict(name: name, accepts: false)
      // The reference's format reader accepts it; the error recorded is torch's.
      case "f4": Verdict(name: name, accepts: true)
      default: Verdict(name: name, accepts: value["result"] == "ACCEPT")
      }
    }
  }
}

@Suite struct SafetensorsFileTests {
  @Test(arguments: try Verdict.all())
  private func agreesWithTheReferenceOn(_ verdict: Verdict) throws {
    let path = fixturePath("safetensors/\(verdict.name).safetensors")
    if verdict.accepts {
      let file = try SafetensorsFile(path: path)
      for entry in file.entries {
        #expect(file.bytes(of: entry.name)?.count == entry.byteCount)
      }
    } else {
      let error = #expect(throws: FormatError.self) { try SafetensorsFile(path: path) }
      guard case .safetensors(path, _, _) = error else {
        Issue.record("\(String(describing: error))")
        return
      }
    }
  }

  @Test(arguments: [
    ("seven_bytes", SafetensorsFault.shorterThanLength(bytes: 7)),
    ("hdr_len_gt_100M", .headerTooLong(100_000_001)),
    ("hdr_eq_100M_short", .headerPastEnd(header: 100_000_008, file: 10)),
    ("unknown_dtype", .unknownDType("Q4_0")),
    ("neg_dim", .negativeDimension(-1)),
    ("missing_field", .fieldMissing("data_offsets")),
    ("f4_odd", .endsInsideByte(.f4, [3])),
  ])
  func namesTheFaultOf(_ name: String, _ fault: SafetensorsFault) {
    let path = fixturePath("safetensors/\(name).safetensors")
    let error = #expect(throws: FormatError.self) { try SafetensorsFile(path: path) }
    guard case .safetensors(_, _, fault) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
  }

  @Test func readsNamesShapesMetadataAndData() throws {
    let file = try SafetensorsFile(path: fixturePath("reference_order.safetensors"))
    #expect(file.metadata == ["format": "pt"])
    let names = ["wide", "a", "b", "none", "scalar", "é\"\\", "Z", "tail", "flag"]
    #expect(file.entries.map(\.name) == names)
    #expect(file.entry("b")?.shape == [3, 5])
    #expect(file.entry("scalar")?.shape == [])
    #expect(file.entry("none")?.byteCount == 0)
    #expect(file.entry("b")?.dtype == .f32)
    #expect(file.bytes(of: "b")?.array == (0..<60).map { UInt8(($0 + 1) % 251) })
    #expect(file.bytes(of: "wide")?.array == (0..<16).map { UInt8(($0 + 6) % 251) })
    #expect(file.entry("e\u{301}\"\\") == nil)
    #expect(file.bytes(of: "absent") == nil)
  }

  @Test func aMissingFileIsAFileError() {
    let error = #expect(throws: FormatError.self) { try SafetensorsFile(path: "/nowhere/x") }
    guard case .file(let cause) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(cause.isMissing)
  }

  /// Header `text`, then `data` bytes of zero.
  private func fault(of text: String, data: Int) -> SafetensorsFault? {
    let length = text.utf8.count
    let bytes = [UInt8(length & 255), UInt8(length >> 8), 0, 0, 0, 0, 0, 0] + Array(text.utf8)
    let content = Bytes(bytes + [UInt8](repeating: 0, count: data))
    do throws(FormatError) {
      _ = try SafetensorsFile(parsing: content, path: "x")
      return nil
    } catch {
      guard case .safetensors("x", _, let fault) = error else { return nil }
      return fault
    }
  }

  @Test func refusesWhatTheFixturesLeaveOut() {
    func tensor(_ dtype: String, _ shape: String, _ offsets: String) -> String {
      #"{"a":{"dtype":\#(dtype),"shape":\#(shape),"data_offsets":\#(offsets)}}"#
    }
    #expect(fault(of: tensor(#""F32""#, "[2]", "[0,8]"), data: 8) == nil)
    #expect(
      fault(of: tensor(#""F32""#, "[1]", "[0,8]"), data: 8) == .wrongByteCount(8, expected: 4))
    #expect(
      fault(of: tensor(#""F32""#, "[3]", "[0,8]"), data: 8) == .wrongByteCount(8, expected: 12))
    #expect(fault(of: tensor("1", "[2]", "[0,8]"), data: 8) == .fieldNotReadable("dtype"))
    for shape in ["2", "[2.0]", "[\"2\"]", "[null]", "[18446744073709551616]"] {
      #expect(fault(of: tensor(#""F32""#, shape, "[0,8]"), data: 8) == .fieldNotReadable("shape"))
    }
    for offsets in ["[0]", "[0,4,8]", "[-8,0]", "[0,9223372036854775807]"] {
      #expect(
        fault(of: tensor(#""F32""#, "[2]", offsets), data: 8) == .fieldNotReadable("data_offsets"))
    }
    #expect(fault(of: "[]", data: 0) == .headerNotObject)
    #expect(fault(of: #"{"__metadata__":[]}"#, data: 0) == .metadataNotStrings(key: nil))
    #expect(fault(of: #"{"a":5}"#, data: 0) == .fieldMissing("dtype"))
  }

  @Test func anErrorShowsNamesThatCannotSteerATerminal() {
    let name = "\\u001b[2J\\u202e" + String(repeating: "x", count: 5000)
    let header = #"{"\#(name)":{"dtype":"F32","shape":[-1],"data_offsets":[0,0]}}"#
    let length = header.utf8.count
    let bytes = [UInt8(length & 255), UInt8(length >> 8), 0, 0, 0, 0, 0, 0] + Array(header.utf8)
    let error = #expect(throws: FormatError.self) {
      try SafetensorsFile(parsing: Bytes(bytes), path: "x")
    }
    #expect(error?.description.hasPrefix(#"x: \u{1b}[2J\u{202e}xxx"#) == true)
    #expect((0...300).contains(error?.description.utf8.count ?? 0))
  }

  @Test func aZeroDimensionDoesNotHideAnOverflow() throws {
    let huge = "[0,4611686018427387904,4611686018427387904]"
    let header = #"{"a":{"dtype":"F32","shape":\#(huge),"data_offsets":[0,0]}}"#
    let bytes = [UInt8(header.utf8.count), 0, 0, 0, 0, 0, 0, 0] + Array(header.utf8)
    #expect(throws: FormatError.self) { try SafetensorsFile(parsing: Bytes(bytes), path: "x") }
  }

  @Test func mutatedAndTruncatedFilesNeverTrap() throws {
    let valid = try fixture("reference_order.safetensors")
    let header = 8 + Int(valid[0]) + Int(valid[1]) << 8
    var random = SplitMix(state: 1)
    var accepted = 0
    for round in 0..<6000 {
      var bytes = valid
      for _ in 0..<Int.random(in: 1...3, using: &random) {
        let at = Int.random(in: 0..<header, using: &random)
        // Half of the changes keep the text readable, so that they reach the rules behind JSON.
        bytes[at] =
          Bool.random(using: &random)
          ? .random(in: 0...255, using: &random)
          : Array("0123456789-,:[]{}\"eE.".utf8).randomElement(using: &random)!
      }
      if round % 3 == 0 {
        bytes = Array(bytes.prefix(Int.random(in: 0..<valid.count, using: &random)))
      }
      do throws(FormatError) {
        let file = try SafetensorsFile(parsing: Bytes(bytes), path: "mutated")
        for entry in file.entries { #expect(file.bytes(of: entry.name)?.count == entry.byteCount) }
        accepted += 1
      } catch {
        #expect(!error.description.isEmpty)
      }
    }
    #expect(accepted > 0 && accepted < 3000)
  }
}
