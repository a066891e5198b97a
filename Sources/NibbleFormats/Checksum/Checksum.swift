internal import COpenSSL
package import NibbleTensor

/// The checksum of bytes that arrive piece by piece, computed by OpenSSL's libcrypto.
@safe package struct Checksum: ~Copyable {
  package enum Algorithm: Hashable, Sendable {
    /// FIPS 180-4, 32 bytes.
    case sha256
    /// FIPS 180-4, 20 bytes. Names git's objects; gives no protection.
    case sha1
  }

  // Owned: freed when the value ends.
  private let context: OpaquePointer

  package init(_ algorithm: Algorithm) {
    guard let context = unsafe EVP_MD_CTX_new() else { fatalError("out of memory") }
    let type = unsafe algorithm == .sha256 ? EVP_sha256() : EVP_sha1()
    let status = unsafe EVP_DigestInit_ex(context, type, nil)
    precondition(status == 1, "this system's libcrypto lacks \(algorithm)")
    unsafe self.context = context
  }

  deinit { unsafe EVP_MD_CTX_free(context) }

  package mutating func update(_ bytes: RawSpan) {
    unsafe bytes.withUnsafeBytes { bytes in
      guard let base = bytes.baseAddress else { return }
      let status = unsafe EVP_DigestUpdate(context, base, bytes.count)
      precondition(status == 1, "libcrypto refuses \(bytes.count) bytes")
    }
  }

  package mutating func update(_ bytes: [UInt8]) { update(unsafe bytes.span.bytes) }

  package mutating func update(_ text: String) { update(Array(text.utf8)) }

  /// The checksum in lower-case hexadecimal.
  package consuming func hexadecimal() -> String {
    var digest = [UInt8](repeating: 0, count: Int(EVP_MAX_MD_SIZE))
    var count: UInt32 = 0
    let status = unsafe EVP_DigestFinal_ex(context, &digest, &count)
    precondition(status == 1, "libcrypto does not finish")
    return digest.prefix(Int(count)).map { byte in
      let digits = String(byte, radix: 16)
      return digits.count == 1 ? "0" + digits : digits
    }.joined()
  }

  package static func sha256(_ bytes: [UInt8]) -> String {
    var checksum = Checksum(.sha256)
    checksum.update(bytes)
    return checksum.hexadecimal()
  }
}

extension Bytes {
  /// Hexadecimal SHA-256, read a few MiB at a time.
  package func sha256() -> String {
    var checksum = Checksum(.sha256)
    let step = 4 << 20
    for start in stride(from: 0, to: count, by: step) {
      let part = self[start..<min(count, start + step)]
      checksum.update(part)
      part.release()
    }
    return checksum.hexadecimal()
  }
}

extension Checksum {
  package mutating func update(_ bytes: Bytes) {
    unsafe bytes.withUnsafeBytes { update(unsafe RawSpan(_unsafeBytes: $0)) }
  }
}
