import Foundation
import NibbleFormats
import Testing

@testable import NibbleHub

@Suite struct DigestTests {
  @Test func agreesWithSha256sum() {
    #expect(
      DigestStream(.sha256(""), size: nil).hex()
        == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
  }

  /// `printf 'hello\n' | git hash-object --stdin`, git 2.39.5.
  @Test func agreesWithGit() {
    let stream = DigestStream(.gitBlob(""), size: 6)
    stream.update(Data("hel".utf8))
    stream.update(Data("lo\n".utf8))
    #expect(stream.hex() == "ce013625030ba8dba906f756967f9e9ca394464a")
  }

  /// FIPS 180-4's examples.
  @Test func agreesWithThePublishedVectors() {
    let long = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"
    #expect(
      Checksum.sha256(Array("abc".utf8))
        == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    #expect(
      Checksum.sha256(Array(long.utf8))
        == "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1")
    var pieces = Checksum(.sha256)
    for _ in 0..<1000 { pieces.update([UInt8](repeating: UInt8(ascii: "a"), count: 1000)) }
    #expect(
      pieces.hexadecimal()
        == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0")
    var sha1 = Checksum(.sha1)
    sha1.update("abc")
    #expect(sha1.hexadecimal() == "a9993e364706816aba3e25717850c26c9cd0d89d")
  }

  @Test func readsContentRanges() {
    let part = ContentRange(parsing: "bytes 5-9/10")
    #expect(part?.start == 5 && part?.total == 10)
    let none = ContentRange(parsing: "bytes */10")
    #expect(none?.start == nil && none?.total == 10)
    #expect(ContentRange(parsing: "bytes 0-9/*")?.total == nil)
    #expect(ContentRange(parsing: "pages 0-9/10") == nil)
    #expect(ContentRange(parsing: "bytes 0-9") == nil)
  }
}
