import Foundation
import NibbleFormats
import NibbleModel
import NibbleText
import Testing
import TinyModel

@testable import NibbleQuantize

@Suite struct CalibrationTextTests {
  static let template = """
    {{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}
    """

  private func text(
    _ content: [UInt8], name: String = "text.jsonl", fields: [String] = [],
    template: String? = template
  ) throws -> CalibrationText {
    try inTemporaryFolder { folder in
      let path = folder + "/" + name
      try Data(content).write(to: URL(fileURLWithPath: path))
      return try CalibrationText(
        records: path, fields: fields, template: template.map { try ChatTemplate($0) },
        tokenizer: Tokenizer(
          tokenizerJSON: ByteTokenizer.jsonWithEnd, config: ["eos_token": "<end>"]))
    }
  }

  private func text(
    _ content: String, name: String = "text.jsonl", fields: [String] = [],
    template: String? = template
  ) throws -> CalibrationText {
    try text(Array(content.utf8), name: name, fields: fields, template: template)
  }

  private func expectError(
    _ parts: String..., body: () throws -> CalibrationText,
    at location: SourceLocation = #_sourceLocation
  ) throws {
    let error = try #require(
      throws: CalibrationTextError.self, sourceLocation: location, performing: body)
    for part in parts {
      #expect("\(error)".contains(part), "\(error)", sourceLocation: location)
    }
  }

  @Test(
    arguments: [
      (#"{"text": "a", "content": "b"}"#, "a"),
      (#"{"content": "b", "id": 7}"#, "b"),
      (#"{"prompt": "p", "completion": "c"}"#, "p\nc"),
      (#"{"response": "c", "prompt": "p"}"#, "p\nc"),
      (#"{"instruction": "i", "input": "", "output": "o"}"#, "i\no"),
      (#"{"output": "o", "input": "n", "instruction": "i"}"#, "i\nn\no"),
      (#"{"instruction": "i", "input": null, "output": "o"}"#, "i\no"),
      (#"{"inputs_pretokenized": "x", "id": 0}"#, "x"),
      (#""a string""#, "a string"),
      (#"{"text": "\u0000\ud83d\ude00"}"#, "\u{0}\u{1F600}"),
      (
        #"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}"#,
        "<user>q<end><assistant>a<end>"
      ),
      (
        #"{"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}"#,
        "<user>q<end><assistant>a<end>"
      ),
      (
        #"{"conversations": [{"from": "system", "value": "s"}, {"from": "tool", "value": ""}]}"#,
        "<system>s<end><tool><end>"
      ),
    ])
  func knownFieldsAreDetected(_ record: String, _ document: String) throws {
    #expect(try text(record).documents == [document])
    #expect(try text("[\(record)]", name: "a.json").documents == [document])
  }

  /// A record of the BoolQ set, and the prompt that a copy of the set prepared by others has for it.
  @Test func boolQIsThePromptOfItsTask() throws {
    let record = """
      {"question": "is there such a thing as green onyx", "title": "Onyx", "answer": true, \
      "passage": "Brazilian green onyx was often used as plinths for art deco sculptures created in \
      the 1920s and 1930s."}
      """
    let prompt = """
      Onyx -- Brazilian green onyx was often used as plinths for art deco sculptures created in the \
      1920s and 1930s.
      Question: is there such a thing as green onyx?
      Answer:
      """
    #expect(try text(record).documents == [prompt])
    #expect(
      try text(#"{"passage": "P.", "question": "q?"}"#).documents
        == ["P.\nQuestion: q?\nAnswer:"])
  }

  @Test func givenFieldsAreReadInTheirOrder() throws {
    let record = #"{"a": "1", "b": "2", "text": "3", "c": null, "d": 4}"#
    #expect(try text(record, fields: ["b", "a"]).documents == ["2\n1"])
    #expect(try text(record, fields: ["a", "c"]).documents == ["1"])
    try expectError("line 1", "\"e\"", "\"a\", \"b\", \"text\"") {
      try text(record, fields: ["a", "e"])
    }
    try expectError("line 1", "\"d\" holds a number") { try text(record, fields: ["d"]) }
  }

  @Test func linesEndAsTheyLike() throws {
    let lines = "\u{FEFF}{\"text\": \"a\"}\r\n\n  \r\n\"b\"\n{\"text\": \"c\"}"
    #expect(try text(lines).documents == ["a", "b", "c"])
  }

  @Test func emptyRecordsAreCounted() throws {
    let read = try text(#"{"text": ""}"# + "\n" + #"{"text": "a"}"# + "\n\"\"\n{\"text\": null}")
    #expect(read.documents == ["a"] && read.emptyRecords == 3)
    for nothing in ["", "\n\n", "\"\""] {
      try expectError("no text") { try text(nothing) }
    }
    try expectError("no text") { try text("[]", name: "a.json") }
  }

  @Test func documentsHoldRecordsInAnArray() throws {
    let records = #"[{"text": "a"}, "b", {"content": "c"}]"#
    #expect(try text(records, name: "a.json").documents == ["a", "b", "c"])
    #expect(
      try text(#"{"version": 1, "tags": [1], "data": \#(records)}"#, name: "a.json").documents
        == ["a", "b", "c"])
    #expect(try text(#"{"text": "a", "tags": ["x"]}"#, name: "a.json").documents == ["a"])
    #expect(
      try text("{\"text\": \"a\"}\n{\"text\": \"b\"}\n", name: "a.json").documents == ["a", "b"])
    try expectError("\"x\", \"y\"") { try text(#"{"x": ["a"], "y": ["b"]}"#, name: "a.json") }
    try expectError("without a list") { try text(#"{"x": 1}"#, name: "a.json") }
    try expectError("a number") { try text("7", name: "a.json") }
  }

  @Test func faultsSayWhereTheyAre() throws {
    try expectError("line 3", "not JSON", "byte 8") {
      try text("\"a\"\n\n{\"text\" \"b\"}\n")
    }
    try expectError("line 2", "a number") { try text("\"a\"\n7") }
    try expectError("line 2", "an array") { try text("\"a\"\n[]") }
    try expectError("line 2", "\"x\", \"y\"", "--calibrate-field") {
      try text("\"a\"\n{\"x\": 1, \"y\": 2}")
    }
    try expectError("it has none") { try text("{}") }
    try expectError("line 1", "\"text\" holds an object") { try text(#"{"text": {}}"#) }
    try expectError("record 2", "true or false") { try text(#"["a", true]"#, name: "a.json") }
    try expectError("line 2", "byte 3") { try text("[\"a\",\n   }]", name: "a.json") }
    try expectError("line 1", "stands twice") { try text(#"{"text": "a", "text": "b"}"#) }
    try expectError("line 1", "UTF-8") { try text([0x22, 0xFF, 0x22]) }
    // What steers a terminal is spelled out.
    try expectError("\\u{1b}[2J") { try text(#"{"\u001b[2J": 1}"#) }
    try expectError("and 88 more") {
      try text("{" + (0..<100).map { "\"k\($0)\": 0" }.joined(separator: ",") + "}")
    }
  }

  @Test func conversationsNeedATemplateAndMessages() throws {
    let record = #"{"messages": [{"role": "user", "content": "q"}]}"#
    try expectError("line 1", "\"messages\"", "no chat template") {
      try text(record, template: nil)
    }
    try expectError("line 1", "never") {
      try text(record, template: "{{ raise_exception('never') }}")
    }
    try expectError("message 2 is a string") {
      try text(#"{"messages": [{"role": "user", "content": ""}, "x"]}"#)
    }
    try expectError("message 1 has a role") { try text(#"{"messages": [{"role": 1}]}"#) }
    try expectError("message 1 has neither") { try text(#"{"messages": [{"content": "x"}]}"#) }
    #expect(try text(#"{"text": "a"}"#, template: nil).documents == ["a"])
    #expect(try text("{\"messages\": []}\n\"a\"").emptyRecords == 1)
  }

  @Test func aTemplateThatAsksForTheDateGivesTheSameTextEveryDay() throws {
    let record = #"{"messages": [{"role": "user", "content": "q"}]}"#
    #expect(
      try text(record, template: "{{ strftime_now('%Y-%m') }}").documents == ["2024-07"])
  }

  @Test(arguments: ["a.parquet", "b.PARQUET", "c.jsonl.gz", "d.arrow"])
  func filesOfOtherKindsAreRefused(_ name: String) throws {
    try expectError("not read", ".jsonl") { try text("\"a\"", name: name) }
    #expect(throws: CalibrationTextError.self) { try CalibrationText.holdsRecords(path: name) }
  }

  @Test func filesAreKnownByTheirNames() throws {
    try expectError(".parquet", "to_json") { try text("PAR1....PAR1", name: "a.json") }
    let error = try #require(throws: CalibrationTextError.self) {
      try CalibrationText(
        records: "/missing/a.jsonl", template: nil,
        tokenizer: Tokenizer(tokenizerJSON: ByteTokenizer.json, config: nil))
    }
    #expect("\(error)".contains("/missing/a.jsonl") && "\(error)".contains("Check the path"))
    for (name, holds) in [("a.jsonl", true), ("a.json", true), ("a.txt", false), ("a", false)] {
      #expect(try CalibrationText.holdsRecords(path: name) == holds)
    }
  }

  /// Whatever the bytes are, reading ends in documents or an error that can be shown.
  @Test(arguments: ["a.jsonl", "a.json"])
  func damagedFilesNeverTrap(_ name: String) throws {
    let lines = [
      #"{"text": "a\u00e9"}"#, #"{"question": "q", "passage": "p", "title": "t"}"#,
      #"{"messages": [{"role": "user", "content": "q"}]}"#,
      #"{"conversations": [{"from": "human", "value": "v"}]}"#,
      #"{"instruction": "i", "input": null, "output": 7e3}"#,
    ]
    let whole = Array(
      (name == "a.json" ? "[\(lines.joined(separator: ",\n"))]" : lines.joined(separator: "\n"))
        .utf8)
    var random = SplitMix(state: 5)
    var failed = 0
    for _ in 0..<600 {
      var bytes = whole
      for _ in 0..<1 + random.next() % 3 {
        let at = Int(random.next() % UInt64(bytes.count))
        switch random.next() % 3 {
        case 0: bytes[at] = UInt8(truncatingIfNeeded: random.next())
        case 1: bytes.removeSubrange(at..<min(bytes.count, at + Int(random.next() % 9)))
        default: bytes.insert(contentsOf: bytes[at..<min(bytes.count, at + 7)], at: at)
        }
        if bytes.isEmpty { bytes = whole }
      }
      do throws(CalibrationTextError) {
        let read: CalibrationText
        do { read = try text(bytes, name: name) } catch let error as CalibrationTextError {
          throw error
        } catch {
          Issue.record("\(error)")
          continue
        }
        #expect(!read.documents.isEmpty)
      } catch {
        #expect(!"\(error)".isEmpty)
        failed += 1
      }
    }
    #expect(failed > 100, "\(failed)")
  }
}
