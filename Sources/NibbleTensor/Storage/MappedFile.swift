import CNibble
import Foundation

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

// Sendable by hand: the pages are read-only and live as long as the object.

/// A file's bytes, mapped read-only: pages come from disk when they are read and can be given back.
///
/// The file must not shrink while it is mapped: reading beyond its end raises SIGBUS, which
/// `endsWhenFilesShrink` turns into a message.
@safe public final class MappedFile: @unchecked Sendable {
  public let path: String
  public let count: Int
  private let base: UnsafeMutableRawPointer?
  private let slot: Int

  /// Maps the whole file.
  ///
  /// - Throws: `FileError` when the path cannot be opened, is not a regular file, or cannot be
  ///   mapped.
  public init(path: String) throws(FileError) {
    let file = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard file >= 0 else { throw FileError("open", path) }
    defer { close(file) }
    var status = stat()
    guard unsafe fstat(file, &status) == 0 else { throw FileError("read the size of", path) }
    guard status.st_mode & S_IFMT == S_IFREG else {
      throw FileError("map", path, code: status.st_mode & S_IFMT == S_IFDIR ? EISDIR : EINVAL)
    }
    self.path = path
    count = Int(status.st_size)
    if count == 0 {
      unsafe base = nil
      slot = .max
    } else {
      let address = unsafe mmap(nil, count, PROT_READ, MAP_PRIVATE, file, 0)
      guard let address = unsafe address, unsafe address != MAP_FAILED else {
        throw FileError("map", path)
      }
      unsafe base = address
      slot = unsafe nibble_mapping_add(address, count, path)
    }
  }

  deinit {
    guard let base = unsafe base else { return }
    nibble_mapping_remove(slot)
    unsafe munmap(base, count)
  }

  /// From now on, reading a mapped file that has shrunk ends the process with a message and
  /// `status`. For programs only: a library leaves signals to its user.
  public static func endsWhenFilesShrink(status: Int32) { nibble_mapping_watch(status) }

  /// All bytes of the file.
  public var bytes: RawSpan {
    @_lifetime(borrow self)
    get {
      let span = unsafe RawSpan(_unsafeBytes: UnsafeRawBufferPointer(start: base, count: count))
      return unsafe _overrideLifetime(span, borrowing: self)
    }
  }

  /// Gives the pages that lie wholly inside `range` back to the system. They can still be read,
  /// from disk or its cache.
  public func release(_ range: Range<Int>) {
    let page = Int(getpagesize())
    let start = (range.lowerBound + page - 1) / page * page
    let end = range.upperBound == count ? count : range.upperBound / page * page
    guard let base = unsafe base, start < end else { return }
    _ = unsafe madvise(base + start, end - start, MADV_DONTNEED)
  }

  /// Gives back the pages of `range` and the neighbouring ones that the system maps with them on a
  /// page fault.
  func releaseAround(_ range: Range<Int>) {
    let mappedAtOnce = 64 << 10
    let start = range.lowerBound / mappedAtOnce * mappedAtOnce
    release(start..<min(count, (range.upperBound + mappedAtOnce - 1) / mappedAtOnce * mappedAtOnce))
  }
}

/// A failed system call on a file.
public struct FileError: Error, Hashable, Sendable, CustomStringConvertible {
  public var action: String
  public var path: String
  /// `errno`.
  public var code: Int32

  /// - Parameter code: nil for the current `errno`.
  public init(_ action: String, _ path: String, code: Int32? = nil) {
    self.action = action
    self.path = path
    self.code = code ?? errno
  }

  public var isMissing: Bool { code == ENOENT }

  public var description: String {
    "cannot \(action) \(path): \(unsafe String(cString: strerror(code)))"
  }
}
