import Crypto
import Foundation

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
struct DigestStream {
  private enum State {
    case none
    case sha256(SHA256)
    case sha1(Insecure.SHA1)
  }

  private var state: State

  /// - Parameter size: bytes that will arrive; git's checksum starts with it.
  init(_ digest: Digest?, size: Int?) {
    switch (digest, size) {
    case (.sha256, _): state = .sha256(SHA256())
    case (.gitBlob, let size?):
      var hash = Insecure.SHA1()
      hash.update(data: Data("blob \(size)\0".utf8))
      state = .sha1(hash)
    case (.gitBlob, nil), (nil, _): state = .none
    }
  }

  mutating func update(_ data: Data) {
    switch state {
    case .none: break
    case .sha256(var hash):
      state = .none
      hash.update(data: data)
      state = .sha256(hash)
    case .sha1(var hash):
      state = .none
      hash.update(data: data)
      state = .sha1(hash)
    }
  }

  /// Nil when there is nothing to compare with.
  func hex() -> String? {
    switch state {
    case .none: nil
    case .sha256(let hash): Self.hex(hash.finalize())
    case .sha1(let hash): Self.hex(hash.finalize())
    }
  }

  private static func hex(_ digest: some Sequence<UInt8>) -> String {
    let digits = Array("0123456789abcdef".unicodeScalars)
    var text = ""
    for byte in digest {
      text.unicodeScalars.append(digits[Int(byte >> 4)])
      text.unicodeScalars.append(digits[Int(byte & 15)])
    }
    return text
  }
}

extension Digest {
  /// The SHA-256 of a file, read in pieces.
  static func sha256(of file: URL) throws(HubError) -> String {
    var stream = DigestStream(.sha256(""), size: nil)
    try FileStore.read(file) { stream.update($0) }
    return stream.hex()!
  }
}
