import NibbleHub
import Testing

@Suite struct HubReferenceTests {
  @Test func readsItsParts() throws {
    let plain = try HubReference(parsing: "acme/tiny-1.5B_x")
    #expect(plain.repository == "acme/tiny-1.5B_x")
    #expect(plain.revision == "main" && plain.file == nil)
    let full = try HubReference(parsing: "acme/tiny@refs/pr/3:tiny.Q8_0.gguf")
    #expect(full.revision == "refs/pr/3" && full.file == "tiny.Q8_0.gguf")
    #expect(full.description == "acme/tiny@refs/pr/3:tiny.Q8_0.gguf")
  }

  @Test(arguments: [
    "", "tiny", "/", "acme/", "/tiny", "acme/tiny/more", "../tiny", "acme/..", "acme/.tiny",
    "acme/-tiny", "acme/tiny-", "acme/ti..ny", "acme/ti ny", "acme/ti%2Fny", "acme/tiny@",
    "acme/tiny@../main", "acme/tiny@/main", "acme/tiny@a//b", "acme/tiny@a?b", "acme/tiny:",
    "acme/tiny:a/b.gguf", "acme/tiny:model.bin", "acme/tiny:..gguf", "acme/t\u{ed}ny",
    "acme/tiny\n", "acme/" + String(repeating: "a", count: 97),
  ])
  func refuses(_ text: String) {
    #expect(throws: HubError.self) { try HubReference(parsing: text) }
  }
}
