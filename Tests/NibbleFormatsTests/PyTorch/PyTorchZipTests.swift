import NibbleFormats
import NibbleTensor
import Testing
import TinyModel

/// Changes to the bytes of the sound file, and what they are refused for.
private struct HostileZip: Sendable, CustomTestStringConvertible {
  var testDescription: String
  var file: [UInt8]
  var name: String?
  var fault: ZipFault

  init(
    _ what: String, _ name: String?, _ fault: ZipFault, isWide: Bool = false,
    _ change: (inout [UInt8]) -> Void
  ) {
    var archive = soundTorch.archive(soundTorch.pickle)
    archive.isWide = isWide
    (testDescription, self.name, self.fault) = (what, name, fault)
    file = archive.bytes
    change(&file)
  }
}

extension [UInt8] {
  /// Overwrites a field of record number `index` that begins with `PK` and two bytes.
  fileprivate mutating func set(
    _ value: [UInt8], at offset: Int, ofRecord kind: [UInt8], _ index: Int = 0
  ) {
    let starts = indices.filter { self[$0...].starts(with: [0x50, 0x4B] + kind) }
    replaceSubrange(starts[index] + offset..<starts[index] + offset + value.count, with: value)
  }
}

private let local: [UInt8] = [3, 4]
private let central: [UInt8] = [1, 2]
private let wideEnd: [UInt8] = [6, 6]
private let locator: [UInt8] = [6, 7]
private let end: [UInt8] = [5, 6]
private typealias Z = StoredZip

private let archives: [HostileZip] = [
  HostileZip("encrypted", "tiny/data.pkl", .encrypted) { $0.set([9], at: 8, ofRecord: central) },
  HostileZip("strongly encrypted", "tiny/data.pkl", .encrypted) {
    $0.set([0x40], at: 8, ofRecord: central)
  },
  HostileZip("deflated", "tiny/data/0", .compressed(method: 8)) {
    $0.set([8], at: 10, ofRecord: central, 2)
  },
  HostileZip("deflated in its own header", "tiny/data/0", .headersDiffer("method")) {
    $0.set([8], at: 8, ofRecord: local, 2)
  },
  HostileZip("encrypted in its own header", "tiny/data/0", .headersDiffer("flags")) {
    $0.set([9], at: 6, ofRecord: local, 2)
  },
  HostileZip("another name in its own header", "tiny/data/0", .headersDiffer("name")) {
    $0.set([0x54], at: 30, ofRecord: local, 2)
  },
  HostileZip("another size in its own header", "tiny/data/0", .headersDiffer("size")) {
    $0.set(Z.u32(17, 17), at: 18, ofRecord: local, 2)
  },
  HostileZip("no header where it should be", "tiny/data/0", .headersDiffer("signature")) {
    $0.set([0], at: 0, ofRecord: local, 2)
  },
  HostileZip("sizes that differ", "tiny/data/0", .sizesDiffer(packed: 16, unpacked: 1 << 30)) {
    $0.set(Z.u32(1 << 30), at: 24, ofRecord: central, 2)
  },
  HostileZip(
    "a size past the directory", "tiny/version", .dataOutside(offset: 576, bytes: 1000, end: 594)
  ) {
    $0.set(Z.u32(1000, 1000), at: 20, ofRecord: central, 3)
  },
  HostileZip("a size into the next file", "tiny/version", .overlaps("tiny/data/0")) {
    $0.set(Z.u32(100, 100), at: 20, ofRecord: central, 2)
  },
  HostileZip("a header outside", "tiny/version", .headerOutside(0xFFFF_FFFE)) {
    $0.set(Z.u32(0xFFFF_FFFE), at: 42, ofRecord: central, 3)
  },
  HostileZip("a 64-bit offset that is missing", "tiny/version", .zip64NotReadable) {
    $0.set(Z.u32(.max), at: 42, ofRecord: central, 3)
  },
  HostileZip("on another disk", "tiny/version", .severalDisks) {
    $0.set([1], at: 34, ofRecord: central, 3)
  },
  HostileZip("a name that is not UTF-8", nil, .nameNotUTF8) {
    $0.set([0xFF], at: 46, ofRecord: central)
  },
  HostileZip("a count that lies", nil, .entryCount(3, found: 4)) {
    $0.set(Z.u64(3, 3), at: 24, ofRecord: wideEnd)
    $0.set(Z.u16(3, 3), at: 8, ofRecord: end)
  },
  HostileZip("counts that differ", nil, .zip64NotReadable) {
    $0.set(Z.u16(3, 3), at: 8, ofRecord: end)
  },
  HostileZip("a count of 2^64 - 1", nil, .entryCount(.max, found: 4), isWide: true) {
    $0.set(Z.u64(-1, -1), at: 24, ofRecord: wideEnd)
  },
  HostileZip("a directory of 2^64 - 1 bytes", nil, .directoryTooLong(.max), isWide: true) {
    $0.set(Z.u64(-1), at: 40, ofRecord: wideEnd)
  },
  HostileZip(
    "a directory elsewhere", nil,
    .directoryOutside(offset: .max, bytes: 346, expectedEnd: 940), isWide: true
  ) { $0.set(Z.u64(-1), at: 48, ofRecord: wideEnd) },
  HostileZip("an entry of the directory that is none", nil, .directoryNotReadable(byte: 59)) {
    $0.set([0], at: 0, ofRecord: central, 1)
  },
  HostileZip("a name past the directory", nil, .directoryNotReadable(byte: 176)) {
    $0.set(Z.u16(0xFFFF), at: 28, ofRecord: central, 3)
  },
  HostileZip("a 64-bit record elsewhere", nil, .zip64NotReadable) {
    $0.set(Z.u64(0), at: 8, ofRecord: locator)
  },
  HostileZip("a second disk", nil, .severalDisks) { $0.set([1], at: 4, ofRecord: end) },
  HostileZip("a comment", nil, .noDirectory) { $0 += [0x20] },
]

@Suite struct PyTorchZipTests {
  @Test(arguments: archives)
  private func refuses(_ hostile: HostileZip) {
    let found = torchFailure(hostile.file)
    #expect(found?.fault == .zip(hostile.fault))
    #expect(found?.name == hostile.name)
  }

  @Test func refusesNamesThatComeTwiceAndFilesThatAreMissing() {
    var archive = soundTorch.archive(soundTorch.pickle)
    archive.entries.append(archive.entries[2])
    #expect(torchFailure(archive.bytes)?.fault == .zip(.duplicateName))
    archive.entries[4].name = String(repeating: "a", count: 1025)
    #expect(torchFailure(archive.bytes)?.fault == .zip(.nameTooLong(1025)))
    archive.entries = [archive.entries[2]]
    #expect(torchFailure(archive.bytes)?.fault == .noPickle)
    archive.entries = []
    #expect(torchFailure(archive.bytes)?.fault == .notZip)
    archive = soundTorch.archive(soundTorch.pickle)
    archive.entries.append(.init("other/data.pkl", soundTorch.pickle))
    #expect(
      torchFailure(archive.bytes)?.fault == .severalPickles("tiny/data.pkl", "other/data.pkl"))
    archive.entries[4].name = "tiny/code/data.pkl"
    #expect(torchFailure(archive.bytes) == nil)
    archive.entries.remove(at: 2)
    #expect(torchFailure(archive.bytes)?.fault == .noStorage("0"))
  }

  @Test(arguments: [
    [], [0x50], Array("PK\u{3}\u{4}".utf8), Array("version https://git-lfs.github.com/".utf8),
    [UInt8](repeating: 0, count: 100),
    Array("PK\u{5}\u{6}".utf8) + [UInt8](repeating: 0, count: 18),
  ])
  func refusesWhatIsNoArchive(_ file: [UInt8]) {
    let fault = torchFailure(file)?.fault
    #expect(fault == .notZip || fault == .zip(.noDirectory))
  }
}
