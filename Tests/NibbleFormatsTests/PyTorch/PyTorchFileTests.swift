import NibbleFormats
import NibbleTensor
import Testing
import TinyModel

@Suite struct PyTorchFileTests {
  @Test(arguments: [
    "every_dtype", "protocol_2", "protocol_3", "protocol_4", "protocol_5", "module", "parameters",
    "views",
  ])
  func readsWhatTorchWrites(_ name: String) throws {
    let file = try PyTorchFile(path: fixturePath("pytorch/\(name).bin"))
    let oracle = try SafetensorsFile(path: fixturePath("pytorch/\(name).safetensors"))
    #expect(Set(file.entries.map(\.name)) == Set(oracle.entries.map(\.name)))
    for entry in oracle.entries {
      let read = try #require(file.entry(entry.name))
      #expect(read.dtype == entry.dtype && read.shape == entry.shape, "\(entry.name)")
      #expect(file.bytes(of: entry.name)?.array == oracle.bytes(of: entry.name)?.array)
    }
    // The order is that of the reference's safetensors.
    #expect(file.entries.map(\.name) == oracle.entries.map(\.name))
    #expect(file.entry("other") == nil && file.bytes(of: "other") == nil)
  }

  @Test func tiedWeightsShareTheirBytes() throws {
    let file = try PyTorchFile(path: fixturePath("pytorch/module.bin"))
    let (embedding, head) = (file.entry("embed.weight"), file.entry("head.weight"))
    #expect(embedding?.range == head?.range && embedding?.range.count == 56)
    #expect(file.isTied("head.weight") && !file.isTied("embed.weight"))
    // 4 norm vectors of 4 halves, one count, and the shared matrix once.
    #expect(file.storedBytes == 4 * 8 + 8 + 56)
    let views = try PyTorchFile(path: fixturePath("pytorch/views.bin"))
    #expect(views.storedBytes == 96)
    #expect(views.entries.allSatisfy { !views.isTied($0.name) })
  }

  @Test(arguments: [
    ("before_zip", PyTorchFault.beforeZip),
    ("nested", .notTensor("a dict")),
    ("tensor", .notStateDict("a tensor")),
    ("transposed", .notContiguous(shape: [4, 6], strides: [1, 4])),
    ("expanded", .notContiguous(shape: [3, 4], strides: [0, 1])),
    ("float8", .pickle(byte: 13, .global("torch._utils _rebuild_tensor_v3"))),
    (
      "conjugated",
      .pickle(byte: 180, .arguments(of: "_rebuild_tensor_v2", "7 arguments, not 6"))
    ),
    ("complex128", .pickle(byte: 64, .global("torch ComplexDoubleStorage"))),
    ("sparse", .pickle(byte: 13, .global("torch._utils _rebuild_sparse_tensor"))),
    ("whole_module", .pickle(byte: 2, .global("__main__ Tiny"))),
  ])
  func refusesWhatIsNoStateDictOfContiguousTensors(_ name: String, _ fault: PyTorchFault) throws {
    let error = #expect(throws: FormatError.self) {
      try PyTorchFile(path: fixturePath("pytorch/\(name).bin"))
    }
    guard case .pytorch(_, _, let found) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(found == fault)
  }

  @Test func anErrorNamesFileTensorAndWhatToDo() throws {
    func message(_ name: String) -> String {
      do throws(FormatError) {
        _ = try PyTorchFile(path: fixturePath("pytorch/\(name).bin"))
        return ""
      } catch { return error.description }
    }
    let old = message("before_zip")
    #expect(old.contains("torch before 1.6") && old.contains("torch.load"), "\(old)")
    let turned = message("transposed")
    #expect(turned.contains("transposed.bin: turned: ") && turned.contains("contiguous"))
    let module = message("whole_module")
    #expect(module.contains("data.pkl: byte 2: "), "\(module)")
    #expect(module.contains("__main__ Tiny") && module.contains("state_dict()"), "\(module)")
    #expect(message("nested").contains("model: "))
  }

  @Test func readsWhatTheTestsWrite() throws {
    let whole = TorchFile(
      [
        .init("b", .f16, [2, 3], storage: 0), .init("a", .f32, [], storage: 1),
        .init("c", .f16, [2, 3], storage: 0),
      ], storages: [Array(0..<12), [1, 2, 3, 4]])
    for isWide in [false, true] {
      var archive = whole.archive(whole.pickle)
      archive.isWide = isWide
      let file = try PyTorchFile(parsing: Bytes(archive.bytes), path: "tiny")
      #expect(file.entries.map(\.name) == ["a", "b", "c"])
      #expect(file.bytes(of: "b")?.array == Array(0..<12))
      #expect(file.bytes(of: "a")?.array == [1, 2, 3, 4])
      #expect(file.isTied("c"))
    }
  }

  @Test func aByteOrderBesideLittleIsRefused() throws {
    var file = TorchFile([.init("a", .u8, [1], storage: 0)], storages: [[1]])
    for order in ["big", "little\n", "", "littlelittlelittle"] {
      file.byteOrder = order
      let error = #expect(throws: FormatError.self) {
        try PyTorchFile(parsing: Bytes(file.bytes), path: "x")
      }
      guard case .pytorch("x", nil, .byteOrder) = error else {
        Issue.record("\(String(describing: error))")
        continue
      }
    }
    // Files of torch before 2.1 have none.
    var archive = file.archive(file.pickle)
    archive.entries.remove(at: 1)
    #expect(try PyTorchFile(parsing: Bytes(archive.bytes), path: "x").entries.count == 1)
  }

  @Test func aMissingFileIsNamed() {
    let error = #expect(throws: FormatError.self) { try PyTorchFile(path: "/nowhere/x.bin") }
    guard case .file(let cause) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(cause.isMissing)
  }
}
