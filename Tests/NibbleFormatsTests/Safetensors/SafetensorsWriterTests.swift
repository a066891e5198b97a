import Foundation
import NibbleFormats
import NibbleTensor
import Testing

/// The tensors of make_safetensors.py, in the order of that script.
private let tensors: [(SafetensorsLayout.Tensor, seed: Int)] = [
  (.init(name: "b", dtype: .f32, shape: [3, 5]), 1),
  (.init(name: "a", dtype: .f32, shape: [31]), 2),
  (.init(name: "Z", dtype: .i8, shape: [7]), 3),
  (.init(name: "tail", dtype: .u8, shape: [1]), 4),
  (.init(name: "é\"\\", dtype: .f16, shape: [33]), 5),
  (.init(name: "wide", dtype: .u64, shape: [2, 1]), 6),
  (.init(name: "flag", dtype: .bool, shape: [3]), 7),
  (.init(name: "none", dtype: .f32, shape: [0, 4]), 8),
  (.init(name: "scalar", dtype: .i32, shape: []), 9),
]

private func data(_ entry: TensorEntry) -> [UInt8] {
  let seed = tensors.first { $0.0.name == entry.name }!.seed
  return (0..<entry.byteCount).map {
    let byte = UInt8(($0 + seed) % 251)
    return entry.dtype == .bool ? byte % 2 : byte
  }
}

private func referenceLayout() throws -> SafetensorsLayout {
  try SafetensorsLayout(SafetensorsLayout.referenceOrder(tensors.map(\.0)))
}

@Suite struct SafetensorsWriterTests {
  @Test func writesTheBytesOfTheReference() throws {
    let layout = try referenceLayout()
    try inTemporaryFolder { folder in
      let writer = try SafetensorsWriter(layout: layout, path: folder + "/x.safetensors")
      for entry in layout.entries { try writer.append(Bytes(data(entry)), of: entry.name) }
      #expect(writer.offset == layout.fileSize)
      try writer.finish()
      let written = try Data(contentsOf: URL(fileURLWithPath: folder + "/x.safetensors"))
      #expect(Array(written) == (try fixture("reference_order.safetensors")))
    }
  }

  @Test func whatIsWrittenIsRead() throws {
    let layout = try SafetensorsLayout(tensors.map(\.0), metadata: ["b": "2", "a": "\u{1}\""])
    try inTemporaryFolder { folder in
      let path = folder + "/x.safetensors"
      let writer = try SafetensorsWriter(layout: layout, path: path)
      for entry in layout.entries { try writer.append(Bytes(data(entry)), of: entry.name) }
      try writer.finish()
      let file = try SafetensorsFile(path: path)
      #expect(file.metadata == ["a": "\u{1}\"", "b": "2", "format": "pt"])
      #expect(Set(file.entries) == Set(layout.entries))
      #expect(file.entries.first?.range.lowerBound == layout.header.count)
      #expect(layout.header.count.isMultiple(of: 8))
      for entry in layout.entries {
        #expect(file.bytes(of: entry.name)?.array == data(entry))
        #expect(layout.range(of: entry.name) == entry.range)
      }
    }
  }

  @Test func resumingAnywhereGivesTheSameBytes() throws {
    let layout = try referenceLayout()
    let whole = try fixture("reference_order.safetensors")
    try inTemporaryFolder { folder in
      let path = folder + "/x.safetensors"
      for cut in layout.header.count...layout.fileSize {
        // What the stopped run had written past the cut is rubbish.
        try write(whole[..<cut] + [1, 2, 3], path)
        let writer = try SafetensorsWriter(layout: layout, path: path, resumeAt: cut)
        for entry in layout.entries where entry.range.upperBound > cut {
          let done = max(0, cut - entry.range.lowerBound)
          try writer.append(Bytes(Array(data(entry)[done...])), of: entry.name)
        }
        try writer.finish()
        #expect(Array(try Data(contentsOf: URL(fileURLWithPath: path))) == whole)
      }
    }
  }

  @Test func refusesToResumeWhatIsNotItsOwn() throws {
    let layout = try referenceLayout()
    var bytes = try fixture("reference_order.safetensors")
    try inTemporaryFolder { folder in
      let path = folder + "/x.safetensors"
      try write(bytes, path)
      for offset in [-1, 0, layout.header.count - 1, layout.fileSize + 1, .max] {
        #expect(throws: FormatError.writer(path: path, .resumeOutside(offset, file: bytes.count))) {
          try SafetensorsWriter(layout: layout, path: path, resumeAt: offset)
        }
      }
      bytes[20] ^= 1
      try write(bytes, path)
      #expect(throws: FormatError.writer(path: path, .otherHeader)) {
        try SafetensorsWriter(layout: layout, path: path, resumeAt: layout.fileSize)
      }
    }
  }

  @Test func refusesWrongOrderAndWrongCounts() throws {
    let layout = try SafetensorsLayout([
      .init(name: "a", dtype: .u8, shape: [3]), .init(name: "b", dtype: .u8, shape: [2]),
    ])
    try inTemporaryFolder { folder in
      let path = folder + "/x.safetensors"
      let writer = try SafetensorsWriter(layout: layout, path: path)
      func append(_ bytes: [UInt8], _ name: String) throws {
        try writer.append(Bytes(bytes), of: name)
      }
      #expect(throws: FormatError.writer(path: path, .outOfTurn("b", expected: "a"))) {
        try append([1], "b")
      }
      #expect(throws: FormatError.writer(path: path, .tooManyBytes("a", 4, room: 3))) {
        try append([1, 2, 3, 4], "a")
      }
      try append([1, 2], "a")
      #expect(throws: FormatError.writer(path: path, .outOfTurn("b", expected: "a"))) {
        try append([1], "b")
      }
      let size = layout.fileSize
      #expect(throws: FormatError.writer(path: path, .unfinished("a", at: size - 3, of: size))) {
        try writer.finish()
      }
      try append([3], "a")
      try append([4, 5], "b")
      #expect(throws: FormatError.writer(path: path, .outOfTurn("b", expected: nil))) {
        try append([6], "b")
      }
      try writer.finish()
      #expect(try SafetensorsFile(path: path).bytes(of: "b")?.array == [4, 5])
    }
  }

  #if os(Linux)
    @Test func aFullDiskIsAFileError() throws {
      let layout = try referenceLayout()
      let error = #expect(throws: FormatError.self) {
        try SafetensorsWriter(layout: layout, path: "/dev/full")
      }
      #expect(error == .file(FileError("write", "/dev/full", code: ENOSPC)))
    }
  #endif
}
