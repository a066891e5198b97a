import ArgumentParser
import Foundation
import NibbleEngines
import NibbleFormats
import NibbleModel
import NibbleQuantize
import NibbleTensor
import NibbleText

/// `nibble eval --task`: the accuracy of a model on multiple-choice items, and what it answers
/// differently from its source.
struct EvalTask {
  private let options: Eval
  private let path: String

  init(_ options: Eval, _ path: String) {
    self.options = options
    self.path = path
  }

  func run() throws {
    // Checked before the work.
    if let items = options.items { _ = try OutputFile(items) }
    let task = try EvaluationTask(path: path)
    let (loaded, base, tokenizer, computing) = try options.open()
    let shape = loaded.decoder.shape
    if let window = options.window { ContextLimit(shape.context).warn(of: window, "--window") }
    let limit = options.window ?? shape.context
    let requests = try TaskRequests(
      task, with: tokenizer, special: special(tokenizer), limit: limit)
    if requests.truncated > 0 {
      Terminal.note(
        "\(requests.truncated) requests are longer than \(limit) tokens: their beginnings are left out"
      )
    }
    let clock = ContinuousClock()
    let start = clock.now
    func answers(_ decoder: Decoder, _ name: String, _ model: LoadedModel?) throws -> TaskResult {
      let begun = clock.now
      let scores = try requests.scores(
        of: decoder, keeping: model == nil ? .f32 : options.load.kv ?? .f32,
        scales: model?.cacheScales, on: computing
      ) { done, total in
        let left = (clock.now - begun) / .seconds(1) / Double(done) * Double(total - done)
        if done % 16 == 0 || done == total {
          Terminal.progress("\(name): item \(done) of \(total)  \(Terminal.number(left, 0)) s left")
        }
      }
      if Terminal.isInteractive { Terminal.note("") }
      return TaskResult(task, scores)
    }
    let result = try answers(loaded.decoder, "model", loaded)
    let source = try base.map { try answers($0.decoder, "source", nil) }
    let seconds = (clock.now - start) / .seconds(1)
    if let items = options.items { try write(result, source, to: items) }
    if options.json {
      Terminal.print(object(result, source, limit: limit, seconds: seconds, computing))
    } else {
      Terminal.print(summary(result, source, seconds: seconds, computing))
    }
  }

  /// The special tokens of `--bos`.
  private func special(_ tokenizer: Tokenizer) throws -> TaskRequests.SpecialTokens {
    switch options.beginning.bos {
    case .auto: .tokenizer
    case .off: .none
    case .on: .before(try options.beginning.tokens(of: tokenizer))
    }
  }

  private func write(_ result: TaskResult, _ source: TaskResult?, to path: String) throws {
    var file = try OutputFile(path)
    let lines = result.task.items.indices.lazy.map { index in
      var json = result.json(of: index)
      json.set("source", source?.json(of: index))
      return Array((json.text() + "\n").utf8)
    }
    try DurableFile.write(lines, to: file.partial)
    try file.publish()
  }

  private func object(
    _ result: TaskResult, _ source: TaskResult?, limit: Int, seconds: Double, _ compute: Compute
  ) -> JSON {
    var object: JSON = [
      "task": .string(result.task.name), "items": JSON(result.scores.count),
      "metric": .string(result.metric.rawValue),
    ]
    for (key, value) in result.json.object ?? JSONObject() { object.set(key, value) }
    object.set("source", source?.json)
    object.set("against_source", source.map { Flips(of: result, against: $0).json })
    object.set("max_length", JSON(limit))
    object.set("seconds", .number(seconds))
    object.set("precision", .string(compute.precision.rawValue))
    object.set("items_file", options.items.map { .string($0) })
    object.set("definition", .string(Self.definition))
    return object
  }

  static let definition =
    "as lm-eval 0.4: per choice the sum of log p of its tokens after the context; acc chooses the largest "
    + "sum, acc_norm the largest sum per character, acc_bytes per byte; stderr = sample deviation / sqrt(n); "
    + "against_source by the metric: p_value is McNemar's exact test"

  private func summary(
    _ result: TaskResult, _ source: TaskResult?, seconds: Double, _ compute: Compute
  ) -> String {
    var lines = [
      "\(result.task.name): \(result.scores.count) items, \(compute.precision.rawValue), "
        + "\(Terminal.number(seconds, 1)) s"
    ]
    for metric in result.metrics {
      let name = metric.rawValue.padding(toLength: 9, withPad: " ", startingAt: 0)
      let counts = metric == result.metric && result.metrics.count > 1 ? "  (counts)" : ""
      let before = source.map { " source \(Self.text($0.accuracy(metric)))" } ?? ""
      lines.append("  \(name) \(Self.text(result.accuracy(metric)))\(before)\(counts)")
    }
    if let perplexity = result.perplexity {
      let before = source?.perplexity.map { " source \(Terminal.number($0))" } ?? ""
      lines.append("  perplexity \(Terminal.number(perplexity))\(before)")
    }
    for group in result.groups {
      let accuracy = result.accuracy(result.metric, of: group)
      lines.append("  \(group): \(result.metric.rawValue) \(Self.text(accuracy))")
    }
    guard let source else { return lines.joined(separator: "\n") }
    let flips = Flips(of: result, against: source)
    lines.append(
      "  against the source: \(flips.lost) right to wrong, \(flips.won) wrong to right (McNemar p = "
        + "\(Terminal.number(flips.pValue))), \(flips.changed) answers changed")
    if let correlation = flips.marginCorrelation {
      lines.append("  rank correlation of the margins \(Terminal.number(correlation))")
    }
    return lines.joined(separator: "\n")
  }

  /// `45.20 % ± 1.10`, one standard error.
  private static func text(_ mean: TaskResult.Mean) -> String {
    let error = mean.standardError.map { " ± " + Terminal.number(100 * $0, 2) } ?? ""
    return Terminal.number(100 * mean.value, 2) + " %" + error
  }
}
