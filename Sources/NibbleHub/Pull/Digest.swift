import Foundation
import NibbleFormats

/// A checksum that a file must have, in lower-case hexadecimal.
enum Digest: Hashable, Sendable {
  case sha256(String)
  /// SHA-1 of `"blob \(size)\0"` and the content: what git calls the file.
  case gitBlob(String)

  var hex: String {
    switch self {
    case .sha256(let hex), .gitBlob(let hex): hex
    }
  }

  static func isHex(_ text: String, digits: Int) -> Bool {
    text.utf8.count == digits
      && text.utf8.allSatisfy { byte in
        (0x30...0x39).contains(byte) || (0x61...0x66).contains(byte | 0x20)
      }
  }
}

/// The checksum of bytes that arrive piece by piece.
final class DigestStream {
  private var checksum: Checksum?

  /// - Parameter size: bytes that will arrive; git's checksum starts with it.
  init(_ digest: Digest?, size: Int?) {
    switch (digest, size) {
    case (.sha256, _): checksum = Checksum(.sha256)
    case (.gitBlob, let size?):
      checksum = Checksum(.sha1)
      checksum?.update("blob \(size)\0")
    case (.gitBlob, nil), (nil, _): checksum = nil
    }
  }

  func update(_ data: Data) { checksum?.update(unsafe data.span.bytes) }

  /// Nil when there is nothing to compare with. Ends the stream.
  func hex() -> String? { checksum.take()?.hexadecimal() }
}

extension Digest {
  /// The SHA-256 of a file, read in pieces.
  static func sha256(of file: URL) throws(HubError) -> String {
    let stream = DigestStream(.sha256(""), size: nil)
    try FileStore.read(file) { stream.update($0) }
    return stream.hex()!
  }
}
