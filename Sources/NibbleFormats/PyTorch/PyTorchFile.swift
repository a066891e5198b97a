public import NibbleTensor

/// One file of torch.save, mapped: a ZIP archive with a state dict. Everything is checked first,
/// and nothing that the pickle names is run.
///
/// Supports what torch 1.6 and newer write for a state dict of contiguous tensors. Non-contiguous
/// views, classes other than those of tensors, and the older format without ZIP are refused by
/// name.
public struct PyTorchFile: Sendable {
  public let path: String
  /// In the order in which the reference writer would store them as safetensors, so that the same
  /// weights in either container give the same model. Tied weights share a range.
  public let entries: [TensorEntry]
  private let tied: Set<UTF8Key>
  private let positions: [UTF8Key: Int]
  private let content: Bytes

  public init(path: String) throws(FormatError) {
    let file: MappedFile
    do { file = try MappedFile(path: path) } catch { throw .file(error) }
    try self.init(parsing: Bytes(file, 0..<file.count), path: path)
  }

  /// - Parameter path: the name of `content` in errors.
  public init(parsing content: Bytes, path: String) throws(FormatError) {
    let entries: [TensorEntry]
    do {
      try Self.checkStart(content)
      entries = try Self.stateDict(content, ZipArchive(content)).entries
    } catch { throw .pytorch(path: path, name: error.name, error.fault) }
    self.path = path
    self.content = content
    tied = Self.tied(entries)
    var positions: [UTF8Key: Int] = [:]
    for (position, entry) in entries.enumerated() { positions[UTF8Key(entry.name)] = position }
    let order = SafetensorsLayout.referenceOrder(
      entries.map { .init(name: $0.name, dtype: $0.dtype, shape: $0.shape) })
    let sorted = order.compactMap { positions[UTF8Key($0.name)].map { entries[$0] } }
    for (position, entry) in sorted.enumerated() { positions[UTF8Key(entry.name)] = position }
    self.entries = sorted
    self.positions = positions
  }

  public func entry(_ name: String) -> TensorEntry? {
    positions[UTF8Key(name)].map { entries[$0] }
  }

  /// The data of a tensor, shared with the mapped file.
  public func bytes(of name: String) -> Bytes? {
    entry(name).map { content[$0.range] }
  }

  /// Whether a tensor covers the same storage as an earlier one of the state dict: tied weights.
  public func isTied(_ name: String) -> Bool { tied.contains(UTF8Key(name)) }

  /// Bytes of all tensors; those of tied weights count once.
  public var storedBytes: Int {
    var (sum, end) = (0, 0)
    for range in entries.map(\.range).sorted(by: { $0.lowerBound < $1.lowerBound }) {
      sum += max(0, range.upperBound - max(end, range.lowerBound))
      end = max(end, range.upperBound)
    }
    return sum
  }
}

extension PyTorchFile {
  /// - Parameter entries: in the order of the state dict.
  private static func tied(_ entries: [TensorEntry]) -> Set<UTF8Key> {
    var seen: Set<TensorEntry> = []
    return Set(
      entries.filter { entry in
        var nameless = entry
        nameless.name = ""
        return entry.byteCount > 0 && !seen.insert(nameless).inserted
      }.map { UTF8Key($0.name) })
  }

  private static func checkStart(_ content: Bytes) throws(PyTorchFailure) {
    let start = content[0..<min(content.count, 14)].array
    // A pickle of protocol 2 or newer that is the integer 0x1950A86A20F9469CFC6C.
    let magic: [UInt8] = [0x8A, 10, 0x6C, 0xFC, 0x9C, 0x46, 0xF9, 0x20, 0x6A, 0xA8, 0x50, 0x19]
    if start.first == PickleOpcode.proto.rawValue, start.dropFirst(2).elementsEqual(magic) {
      throw PyTorchFailure(nil, .beforeZip)
    }
    guard start.starts(with: [0x50, 0x4B, 3, 4]) else { throw PyTorchFailure(nil, .notZip) }
  }

  private static func stateDict(
    _ content: Bytes, _ archive: ZipArchive
  ) throws(PyTorchFailure) -> StateDict {
    let (name, root) = try pickle(archive)
    if let range = archive.range(of: root + "/byteorder") {
      let order = String(decoding: content[range.prefix(16)].array, as: UTF8.self)
      guard order == "little", range.count == 6 else {
        throw PyTorchFailure(nil, .byteOrder(order))
      }
    }
    let range = archive.range(of: name) ?? 0..<0
    guard range.count <= PickleMachine.byteLimit else {
      throw PyTorchFailure(name, .pickleTooLong(range.count))
    }
    var machine = PickleMachine(content[range].array)
    let value: PickleValue
    do { value = try machine.run() } catch {
      throw PyTorchFailure(name, .pickle(byte: error.byte, error.fault))
    }
    return try StateDict(value, of: machine, in: archive, root: root)
  }

  /// `data.pkl`, and the archive's only folder, whose name is the one that the file was saved
  /// under.
  private static func pickle(
    _ archive: ZipArchive
  ) throws(PyTorchFailure) -> (name: String, root: String) {
    let file = "/data.pkl"
    let names = archive.entries.map(\.name).filter {
      $0.hasSuffix(file) && !$0.dropLast(file.count).contains("/")
    }
    guard let name = names.first else { throw PyTorchFailure(nil, .noPickle) }
    if names.count > 1 { throw PyTorchFailure(nil, .severalPickles(name, names[1])) }
    return (name, String(name.dropLast(file.count)))
  }
}
