import Foundation
import NibbleFormats
import Testing
import TinyModel

@Suite struct TaskTests {
  private static let items = #"""
    {"task": "proverbs", "metric": "acc_norm"}
    {"id": "one", "context": "All that", "choices": ["glitters", "is gold"], "gold": 0}
    {"id": "two", "context": "Who", "choices": ["goes there", "went", "is"], "gold": 1}
    {"id": "three", "context": "To be", "choices": ["or not", "sure"], "gold": 0}
    """#

  @Test func aTaskIsScoredAgainstTheSource() throws {
    try inTemporaryFolder { folder in
      let (source, output, items) = (folder + "/source", folder + "/out", folder + "/items.jsonl")
      try SmallModel.write(source)
      #expect(try SmallModel.quantize(source, output).wait().status == 0)
      try write(Self.items, items)
      let scores = folder + "/scores.jsonl"
      let arguments = [
        "eval", output, "--against", source, "--task", items, "--precision", "f32", "--items",
        scores,
      ]
      let outcome = try Call(arguments + ["--json"]).wait()
      #expect(outcome.status == 0, "\(outcome)")
      let json = try outcome.json()
      #expect(json["task"] == "proverbs" && json["items"]?.int == 3 && json["metric"] == "acc_norm")
      for key in ["acc", "acc_stderr", "acc_norm", "acc_norm_stderr", "acc_bytes"] {
        #expect(json[key]?.double != nil && json["source"]?[key]?.double != nil, "\(key)")
      }
      let against = try #require(json["against_source"])
      #expect(against["p_value"]?.double != nil && against["changed"]?.int != nil)
      let lines = String(
        decoding: try Data(contentsOf: URL(fileURLWithPath: scores)), as: UTF8.self
      )
      .split(separator: "\n")
      let parsed = try lines.map { try JSON(parsing: String($0)) }
      #expect(parsed.map { $0["id"] } == ["one", "two", "three"])
      #expect(parsed.map { $0["scores"]?.array?.count } == [2, 3, 2])
      #expect(parsed.map { $0["gold"] } == [[0], [1], [0]])
      #expect(parsed.allSatisfy { $0["source"]?["scores"]?.array?.isEmpty == false })
      // The mean can be computed again from the file.
      let mean = parsed.reduce(0) { $0 + ($1["acc_norm"]?.double ?? 9) } / 3
      #expect(abs(mean - (json["acc_norm"]?.double ?? -1)) < 1e-12)
      // The file is not replaced, and nothing is computed for it.
      let again = try Call(arguments).wait()
      #expect(again.status == 73 && again.errors.contains(scores), "\(again)")
      let text = try nibble("eval", output, "--against", source, "--task", items)
      #expect(text.status == 0 && text.output.contains("McNemar"), "\(text)")
    }
  }

  @Test func aModelAgainstItselfHasNoFlips() throws {
    try inTemporaryFolder { folder in
      let (source, items) = (folder + "/source", folder + "/items.jsonl")
      try SmallModel.write(source)
      try write(Self.items, items)
      let json = try nibble("eval", source, "--against", source, "--task", items, "--json").json()
      let against = try #require(json["against_source"])
      #expect(against["changed"] == 0 && against["p_value"]?.double == 1)
      #expect(json["acc"] == json["source"]?["acc"])
    }
  }

  @Test func wrongTasksEndWithTheirStatus() throws {
    try inTemporaryFolder { folder in
      let (source, items) = (folder + "/source", folder + "/items.jsonl")
      try SmallModel.write(source)
      try write(Self.items + "\n{\"id\": 4}", items)
      let bad = try nibble("eval", source, "--task", items)
      #expect(bad.status == 65 && bad.errors.contains("line 5"), "\(bad)")
      let missing = try nibble("eval", source, "--task", folder + "/none.jsonl")
      #expect(missing.status == 66, "\(missing)")
      for arguments in [
        ["--task", items, "--text", "builtin"], [], ["--task", items, "--windows", "2"],
        ["--text", "builtin", "--items", folder + "/x"], ["--task", items, "--noise-floor"],
      ] {
        let outcome = try Call(["eval", source] + arguments).wait()
        #expect(outcome.status == 64, "\(arguments): \(outcome)")
      }
    }
  }
}
