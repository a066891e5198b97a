import Foundation

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Bytes that a process keeps on disk instead of in memory, in a file without a name, which the
/// system deletes when the object or the process ends.
///
/// Its disk space is allocated at once, so that a full disk is found before any work.
@safe public final class ScratchFile {
  public let count: Int
  private let base: UnsafeMutableRawPointer

  /// - Parameters:
  ///   - folder: on the disk to use.
  ///   - count: bytes, above 0; zeros at first.
  public init(in folder: String, count: Int) throws(FileError) {
    precondition(count > 0, "\(count) bytes")
    let path = folder + "/nibble-scratch-\(getpid())-\(UInt64.random(in: 0 ... .max))"
    let file = unsafe open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    guard file >= 0 else { throw FileError("create", path) }
    defer { close(file) }
    unsafe unlink(path)
    try Self.takeSpace(file, count, path)
    let address = unsafe mmap(nil, count, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0)
    guard let address = unsafe address, unsafe address != MAP_FAILED else {
      throw FileError("map", path)
    }
    self.count = count
    unsafe base = address
  }

  deinit { unsafe munmap(base, count) }

  private static func takeSpace(_ file: Int32, _ count: Int, _ path: String) throws(FileError) {
    #if canImport(Glibc)
      let code = posix_fallocate(file, 0, off_t(count))
      guard code == 0 else { throw FileError("take \(count) bytes for", path, code: code) }
    #else
      guard ftruncate(file, off_t(count)) == 0 else {
        throw FileError("take \(count) bytes for", path)
      }
    #endif
  }

  /// The floats at a range of bytes; the pages are released from memory afterwards.
  public func floats(at bytes: Range<Int>) -> [Float] {
    check(bytes)
    defer { release(bytes) }
    return unsafe [Float](unsafeUninitializedCapacity: bytes.count / 4) { values, initialized in
      unsafe UnsafeMutableRawBufferPointer(values).copyMemory(
        from: UnsafeRawBufferPointer(start: base + bytes.lowerBound, count: bytes.count))
      initialized = bytes.count / 4
    }
  }

  /// Writes floats at the byte offset `byte`; the pages are released from memory afterwards.
  public func write(_ values: [Float], at byte: Int) {
    let bytes = byte..<byte + 4 * values.count
    check(bytes)
    unsafe values.withUnsafeBytes { source in
      guard let start = source.baseAddress else { return }
      unsafe (base + byte).copyMemory(from: start, byteCount: source.count)
    }
    release(bytes)
  }

  private func check(_ bytes: Range<Int>) {
    precondition(
      bytes.lowerBound >= 0 && bytes.upperBound <= count && bytes.count % 4 == 0
        && bytes.lowerBound % 4 == 0, "\(bytes) of \(count) bytes")
  }

  /// Pages of a shared mapping are written to the file before they leave memory.
  private func release(_ bytes: Range<Int>) {
    let page = Int(getpagesize())
    let start = bytes.lowerBound / page * page
    guard start < bytes.upperBound else { return }
    _ = unsafe madvise(base + start, bytes.upperBound - start, MADV_DONTNEED)
  }
}
