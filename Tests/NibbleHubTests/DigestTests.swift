import Foundation
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
