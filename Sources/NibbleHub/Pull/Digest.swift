import Foundation
import NibbleFormats

/// The expected checksum of a file, in lower-case hexadecimal.
enum Digest: Hashable, Sendable {
  case sha256(String)
  /// SHA-1 of `"blob \(size)\0"` and the content: git's name of the file.
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

  /// - Parameter size: number of bytes to come, which git's checksum starts with.
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

  /// The checksum; nil when none is expected. Ends the stream.
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
