import Foundation
public import NibbleTensor

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Streams the tensors of a layout to disk, in the layout's order.
///
/// A tensor may be appended in pieces. The writer refuses a tensor out of order, more bytes than a
/// tensor has, and a file that ends early. It buffers nothing.
public final class SafetensorsWriter {
  public let layout: SafetensorsLayout
  public let path: String
  /// Bytes written so far, header included: where a run that stops here can resume.
  public private(set) var offset: Int
  /// Index of the first incomplete tensor.
  private var next = 0
  private var file: Int32

  /// Creates the file, or empties it, and writes the header.
  public init(layout: SafetensorsLayout, path: String) throws(FormatError) {
    self.layout = layout
    self.path = path
    offset = 0
    // `open` copies the path and keeps no pointer, here and below.
    file = unsafe open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
    guard file >= 0 else { throw .file(FileError("create", path)) }
    // A UInt8 has no padding that its bytes could expose.
    try emit(unsafe layout.header.span.bytes)
  }

  /// Continues a file of an earlier writer with the same layout, from byte `offset` on.
  ///
  /// Content after `offset` is cut off. The header must equal the layout's, byte by byte.
  public init(layout: SafetensorsLayout, path: String, resumeAt offset: Int) throws(FormatError) {
    self.layout = layout
    self.path = path
    self.offset = offset
    next =
      layout.entries.firstIndex {
        $0.range.upperBound > offset || $0.range.isEmpty && $0.range.lowerBound == offset
      } ?? layout.entries.count
    file = -1
    try checkStart(offset)
    file = unsafe open(path, O_WRONLY | O_CLOEXEC)
    guard file >= 0 else { throw .file(FileError("continue", path)) }
    guard ftruncate(file, off_t(offset)) == 0 else { throw .file(FileError("shorten", path)) }
    guard lseek(file, off_t(offset), SEEK_SET) >= 0 else { throw .file(FileError("seek in", path)) }
  }

  deinit {
    if file >= 0 { close(file) }
  }

  /// The next bytes of `tensor`: all of it, or a piece that continues where the last one ended.
  public func append(_ bytes: RawSpan, of tensor: String) throws(FormatError) {
    let skipped = layout.entries[next...].prefix {
      $0.range.isEmpty && UTF8Key($0.name) != UTF8Key(tensor)
    }
    let position = next + skipped.count
    guard position < layout.entries.count else {
      throw .writer(path: path, .outOfTurn(tensor, expected: nil))
    }
    let entry = layout.entries[position]
    guard UTF8Key(entry.name) == UTF8Key(tensor) else {
      throw .writer(path: path, .outOfTurn(tensor, expected: entry.name))
    }
    let room = entry.range.upperBound - offset
    guard bytes.byteCount <= room else {
      throw .writer(path: path, .tooManyBytes(tensor, bytes.byteCount, room: room))
    }
    try emit(bytes)
    next = offset == entry.range.upperBound ? position + 1 : position
  }

  /// The next bytes of `tensor`, for callers that hold `Bytes`.
  public func append(_ bytes: Bytes, of tensor: String) throws(FormatError) {
    try unsafe bytes.withUnsafeBytes { (buffer) throws(FormatError) in
      // The span does not outlive the closure that lends the buffer.
      try append(unsafe buffer.bytes, of: tensor)
    }
  }

  /// Waits until everything appended so far is on the disk.
  public func synchronize() throws(FormatError) {
    precondition(file >= 0, "\(path) is finished")
    guard fsync(file) == 0 else { throw .file(FileError("flush", path)) }
  }

  /// Checks that every tensor is complete, waits for the disk, and closes the file.
  public func finish() throws(FormatError) {
    guard offset == layout.fileSize else {
      let missing = layout.entries[next...].first { !$0.range.isEmpty }?.name ?? ""
      throw .writer(path: path, .unfinished(missing, at: offset, of: layout.fileSize))
    }
    try synchronize()
    let closed = close(file)
    file = -1
    guard closed == 0 else { throw .file(FileError("close", path)) }
  }

  /// Advances `offset` by the bytes that reached the file, also when the disk fills up during a
  /// write.
  private func emit(_ bytes: RawSpan) throws(FormatError) {
    precondition(file >= 0, "\(path) is finished")
    var done = 0
    while done < bytes.byteCount {
      // macOS refuses more than Int32.max bytes in one call.
      let piece = bytes.extracting(done..<min(bytes.byteCount, done + 1 << 30))
      // `write` reads the piece's own bytes, and only during the call.
      let written = unsafe piece.withUnsafeBytes {
        unsafe write(file, $0.baseAddress, $0.count)
      }
      if written < 0 {
        if errno == EINTR { continue }
        throw .file(FileError("write", path))
      }
      done += written
      offset += written
    }
  }

  private func checkStart(_ offset: Int) throws(FormatError) {
    let mapped: MappedFile
    do { mapped = try MappedFile(path: path) } catch { throw .file(error) }
    guard offset >= layout.header.count, offset <= min(layout.fileSize, mapped.count) else {
      throw .writer(path: path, .resumeOutside(offset, file: mapped.count))
    }
    guard Bytes(mapped, 0..<layout.header.count).array == layout.header else {
      throw .writer(path: path, .otherHeader)
    }
  }
}

/// A conflict between a writer and its layout.
public enum WriterFault: Error, Hashable, Sendable {
  case outOfTurn(String, expected: String?)
  case tooManyBytes(String, Int, room: Int)
  case unfinished(String, at: Int, of: Int)
  case resumeOutside(Int, file: Int)
  case otherHeader
}

extension WriterFault: CustomStringConvertible {
  public var description: String {
    switch self {
    case .outOfTurn(let tensor, let expected):
      if let expected {
        "\(shown(tensor)) came when \(shown(expected)) was due. "
          + "Append tensors in the layout's order."
      } else {
        "\(shown(tensor)) came after the last tensor. Append tensors in the layout's order."
      }
    case .tooManyBytes(let tensor, let count, let room):
      "\(shown(tensor)) got \(count) bytes where \(room) fit. Check its dtype and shape."
    case .unfinished(let tensor, let offset, let size):
      "the file ends at byte \(offset) of \(size), in \(shown(tensor)). Append the rest first."
    case .resumeOutside(let offset, let file):
      "nothing can continue at byte \(offset) of \(file). Start the file again."
    case .otherHeader:
      "the file was begun with other tensors. Start it again in an empty folder."
    }
  }
}
