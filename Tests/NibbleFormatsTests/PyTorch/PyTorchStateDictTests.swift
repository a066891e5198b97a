import NibbleFormats
import NibbleTensor
import Testing
import TinyModel

private typealias T = TorchFile

/// The sound pickle with any of its numbers.
private func pickle(
  name: [UInt8] = T.text("w"), elements: Int = 4, offset: [UInt8] = T.integer(0),
  sizes: [UInt8] = T.tuple([2, 2]), strides: [UInt8] = T.tuple([2, 1]), count: Int = 1
) -> [UInt8] {
  let tensor =
    name + T.global("torch._utils", "_rebuild_tensor_v2") + Array("((".utf8) + hostileStorage
    + T.integer(elements) + Array("tQ".utf8) + offset + sizes + strides + [0x89]
    + T.global("collections", "OrderedDict") + Array(")RtR".utf8)
  return [0x80, 2] + Array("}(".utf8) + repeated(count, tensor) + Array("u.".utf8)
}

private func long(_ value: Int) -> [UInt8] { [0x8A, 8] + StoredZip.u64(value) }
private func longs(_ values: [Int]) -> [UInt8] {
  Array("(".utf8) + values.flatMap(long) + Array("t".utf8)
}

@Suite struct PyTorchStateDictTests {
  private static let cases: [(String, [UInt8], PyTorchFault)] = [
    ("a name twice", pickle(count: 2), .duplicateName),
    ("a name that is a number", pickle(name: T.integer(1)), .nameNotText("an integer")),
    ("a name that is not UTF-8", pickle(name: [0x8C, 1, 0xFF]), .nameNotUTF8),
    (
      "more elements than bytes", pickle(elements: 5),
      .storageSize("0", elements: 5, dtype: .f32, found: 16)
    ),
    (
      "fewer elements than bytes", pickle(elements: 3),
      .storageSize("0", elements: 3, dtype: .f32, found: 16)
    ),
    (
      "an offset past the end", pickle(offset: T.integer(1)),
      .outsideStorage("0", offset: 1, shape: [2, 2], elements: 4)
    ),
    (
      "an offset below 0", pickle(offset: T.integer(-1)),
      .outsideStorage("0", offset: -1, shape: [2, 2], elements: 4)
    ),
    (
      "an offset of 2^63 - 1", pickle(offset: long(.max)),
      .outsideStorage("0", offset: .max, shape: [2, 2], elements: 4)
    ),
    (
      "an offset of -2^63", pickle(offset: long(.min)),
      .outsideStorage("0", offset: .min, shape: [2, 2], elements: 4)
    ),
    (
      "a shape over its storage", pickle(sizes: T.tuple([3, 2])),
      .outsideStorage("0", offset: 0, shape: [3, 2], elements: 4)
    ),
    (
      "a shape of 2^62", pickle(sizes: longs([1 << 31, 1 << 31]), strides: longs([1 << 31, 1])),
      .shape(.tooManyElements([1 << 31, 1 << 31]))
    ),
    (
      "a zero that hides an overflow",
      pickle(sizes: longs([0, .max, .max]), strides: T.tuple([1, 1, 1])),
      .shape(.tooManyElements([0, .max, .max]))
    ),
    (
      "a dimension of -2", pickle(sizes: T.tuple([-2, -2])), .shape(.negativeDimension(-2))
    ),
    (
      "strides of 2^63 - 1", pickle(strides: longs([.max, 1])),
      .notContiguous(shape: [2, 2], strides: [.max, 1])
    ),
    (
      "reversed", pickle(strides: T.tuple([-2, -1])),
      .notContiguous(shape: [2, 2], strides: [-2, -1])
    ),
    (
      "overlapping rows", pickle(strides: T.tuple([1, 1])),
      .notContiguous(shape: [2, 2], strides: [1, 1])
    ),
    ("too few strides", pickle(strides: T.tuple([1])), .sizesNotIntegers),
    ("sizes that are not integers", pickle(sizes: Array("(NNt".utf8)), .sizesNotIntegers),
    (
      "9 dimensions",
      pickle(sizes: T.tuple(Array(repeating: 1, count: 9))), .dimensions(9)
    ),
  ]

  @Test func refusesTensorsThatDoNotFit() {
    for (what, pickle, fault) in Self.cases {
      #expect(torchFailure(soundTorch.archive(pickle).bytes)?.fault == fault, "\(what)")
    }
  }

  @Test func acceptsTheFileThatTheHostileOnesChange() throws {
    for name in ["w", "\u{E9}", "e\u{301}", ""] {
      let bytes = soundTorch.archive(pickle(name: T.text(name))).bytes
      let file = try PyTorchFile(parsing: Bytes(bytes), path: "sound")
      #expect(file.bytes(of: name)?.array == Array(0..<16))
    }
  }

  @Test func acceptsTensorsOfNothing() throws {
    for offset in [0, 4] {
      let bytes = soundTorch.archive(
        pickle(offset: T.integer(offset), sizes: T.tuple([0, 7]), strides: T.tuple([9, 9]))
      ).bytes
      let file = try PyTorchFile(parsing: Bytes(bytes), path: "sound")
      #expect(file.bytes(of: "w")?.count == 0 && file.storedBytes == 0)
    }
  }
}
