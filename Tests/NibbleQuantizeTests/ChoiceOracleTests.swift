import Foundation
import NibbleEngines
import NibbleFormats
import NibbleModel
import NibbleTensor
import NibbleText
import Testing
import TinyModel

@testable import NibbleQuantize

/// Scores that lm-eval 0.4.13 gives, made by Tests/Golden/choices.py with its own task definitions.
enum ChoiceOracle {
  static let json: JSON = {
    guard let url = Bundle.module.url(forResource: "Fixtures/choices", withExtension: "json"),
      let data = try? Data(contentsOf: url),
      let json = try? JSON(parsing: [UInt8](data))
    else { fatalError("Fixtures/choices.json is missing") }
    return json
  }()

  static let models = json["models"]?.object?.keys ?? []
  static let tasks = json["files"]?.object?.keys ?? []
  static let context = json["context"]?.int ?? 0

  /// Writes the model of that name, with its tokenizer.
  static func write(_ model: String, to folder: String) throws {
    var tiny = TinyModel()
    tiny.vocabulary = 400
    try tiny.write(in: folder, config: ["max_position_embeddings": JSON(context)])
    let entry = try #require(json["models"]?[model])
    for (name, key) in [("tokenizer.json", "tokenizer"), ("tokenizer_config.json", "special")] {
      let text = try #require(entry[key]).text()
      try Data(text.utf8).write(to: URL(fileURLWithPath: folder + "/" + name))
    }
  }

  /// Writes the items of a task.
  static func write(task: String, to path: String) throws {
    let text = try #require(json["files"]?[task]?.string)
    try Data(text.utf8).write(to: URL(fileURLWithPath: path))
  }
}

@Suite struct ChoiceOracleTests {
  private static func doubles(_ json: JSON?) -> [Double] {
    (json?.array ?? []).compactMap(\.double)
  }

  @Test(arguments: ChoiceOracle.models, ChoiceOracle.tasks)
  func itemsScoreAsInLMEval(_ model: String, _ name: String) throws {
    let oracle = try #require(ChoiceOracle.json["models"]?[model]?["tasks"]?[name])
    try inTemporaryFolder { folder in
      try ChoiceOracle.write(model, to: folder + "/model")
      try ChoiceOracle.write(task: name, to: folder + "/items.jsonl")
      let task = try EvaluationTask(path: folder + "/items.jsonl")
      let expectedRequests = (oracle["requests"]?.array ?? []).map { item in
        (item.array ?? []).map { $0.array?.compactMap(\.string) ?? [] }
      }
      #expect(
        task.items.map { $0.requests.map { [$0.context, $0.continuation] } } == expectedRequests)
      let loaded = try LoadedModel(path: folder + "/model")
      let requests = try TaskRequests(
        task, with: loaded.tokenizer(), limit: loaded.decoder.shape.context)
      let scores = try requests.scores(
        of: loaded.decoder, on: Compute(threads: 2, precision: .f32)
      ) { _, _ in }
      let sums = (oracle["scores"]?.array ?? []).map { Self.doubles($0) }
      #expect(scores.map(\.sums.count) == sums.map(\.count) && !sums.isEmpty)
      for (found, expected) in zip(scores, sums) {
        for (index, (x, y)) in zip(found.sums, expected).enumerated() {
          // Logits and log-softmax are float32 in lm-eval: 2e-6 of values near 10, per token.
          #expect(abs(x - y) <= 2e-5 * Double(found.tokens[index]), "\(x) and \(y)")
        }
      }
      let greedy = (oracle["greedy"]?.array ?? []).map { $0.array?.compactMap(\.bool) ?? [] }
      #expect(scores.map(\.greedy) == greedy)
      let result = TaskResult(task, scores)
      for metric in result.metrics {
        let items = Self.doubles(oracle["items"]?[metric.rawValue])
        #expect(task.items.indices.map { result.credit(of: $0, metric) } == items, "\(metric)")
        let mean = result.accuracy(metric)
        let expected = try #require(oracle["results"]?[metric.rawValue]?.double)
        let error = try #require(oracle["results"]?["\(metric.rawValue)_stderr"]?.double)
        #expect(abs(mean.value - expected) < 1e-12)
        #expect(abs((mean.standardError ?? -1) - error) < 1e-12)
      }
      if let perplexity = oracle["results"]?["perplexity"]?.double {
        #expect(abs((result.perplexity ?? 0) / perplexity - 1) < 1e-4)
      }
    }
  }

  /// Something of every rule is in the fixture.
  @Test func theFixtureHasEveryCase() throws {
    #expect(ChoiceOracle.models == ["plain", "beginning"] && ChoiceOracle.tasks.count == 8)
    var (requests, truncated, greedy) = (0, 0, 0)
    try inTemporaryFolder { folder in
      try ChoiceOracle.write("plain", to: folder + "/model")
      let tokenizer = try LoadedModel(path: folder + "/model").tokenizer()
      for name in ChoiceOracle.tasks {
        try ChoiceOracle.write(task: name, to: folder + "/items.jsonl")
        let task = try EvaluationTask(path: folder + "/items.jsonl")
        let found = try TaskRequests(task, with: tokenizer, limit: ChoiceOracle.context)
        requests += task.items.reduce(0) { $0 + $1.requests.count }
        truncated += found.truncated
        // Where a merge crosses the border, the two parts do not spell the whole text.
        let merged = task.items.indices.reduce(0) { sum, item in
          sum
            + zip(task.items[item].requests, found.tokens(of: item)).count { request, tokens in
              let whole = tokenizer.encode(request.context + request.continuation)
              let parts = tokens.input + tokens.targets.suffix(1)
              return parts.count <= ChoiceOracle.context && !request.context.isEmpty
                && parts != whole
            }
        }
        #expect(merged > 0 || !["arc_easy", "mmlu", "boolq"].contains(name), "\(name)")
        let oracle = ChoiceOracle.json["models"]?["plain"]?["tasks"]?[name]?["greedy"]?.array ?? []
        greedy += oracle.count { $0.array?.contains(.bool(true)) == true }
      }
    }
    #expect(requests >= 60 && truncated >= 5 && greedy >= 1)
  }
}
