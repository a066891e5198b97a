import NibbleFormats
import Testing

@Suite struct JSONTests {
  @Test func keepsOrderIntegersAndEscapes() throws {
    let text = #"{"b":1,"a":[1.5,-2,1e-05,true,null],"é\u0001\n":"\ud83d\ude00 \"x\""}"#
    let value = try JSON(parsing: text)
    #expect(value.object?.keys == ["b", "a", "é\u{1}\n"])
    #expect(value["a"]?.array?[2].double == 1e-05)
    #expect(try JSON(parsing: value.text()) == value)
    #expect(try JSON(parsing: value.text(pretty: true)) == value)
  }

  @Test func composedAndDecomposedKeysAreTwoKeys() throws {
    let value = try JSON(parsing: "{\"\u{E9}\":1,\"e\u{301}\":2}")
    #expect(value.object?.count == 2)
    #expect(value["e\u{301}"] == 2)
  }

  @Test(arguments: [
    "", "{", "[1,]", "{\"a\":1,\"a\":2}", "01", "1.", "+1", "nul", "\"\\x\"", "\"\u{1}\"",
    "\"\\ud800\"", "\"\\udc00\"", "1 2", "1e999", "{\"a\"}", "[\"a\"", "\"abc", "\\u12",
    String(repeating: "[", count: 129) + String(repeating: "]", count: 129),
  ])
  func refuses(_ text: String) {
    #expect(throws: JSONError.self) { try JSON(parsing: text) }
  }

  @Test func refusesInvalidUTF8() {
    #expect(throws: JSONError.self) { try JSON(parsing: [0x22, 0xFF, 0x22]) }
    #expect(throws: JSONError.self) { try JSON(parsing: [0x22, 0xED, 0xA0, 0x80, 0x22]) }
  }
}
