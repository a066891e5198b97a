import Foundation
public import NibbleFormats

/// A model's answers to a task.
public struct TaskResult: Sendable, Hashable {
  public let task: EvaluationTask
  /// Per item.
  public let scores: [TaskScores]

  /// - Parameter scores: of the task's items, in their order.
  public init(_ task: EvaluationTask, _ scores: [TaskScores]) {
    precondition(task.items.count == scores.count, "\(scores.count) of \(task.items.count) items")
    self.task = task
    self.scores = scores
  }

  /// A mean over items with its standard error: the sample deviation (n - 1 in the variance) over the
  /// square root of n; nil for one item.
  public struct Mean: Sendable, Hashable {
    public var value: Double
    public var standardError: Double?

    init(_ values: [Double]) {
      let count = Double(values.count)
      let mean = values.reduce(0, +) / count
      value = mean
      guard values.count > 1 else { return }
      let squares = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) }
      standardError = (squares / (count - 1)).squareRoot() / count.squareRoot()
    }
  }

  /// Whether the items are greedy continuations, which have no other metrics than `acc`.
  public var isGreedy: Bool { task.items.allSatisfy { $0.answer == .greedy } }

  public var metrics: [TaskMetric] { isGreedy ? [.acc] : TaskMetric.allCases }

  /// The accuracy that counts for the task.
  public var metric: TaskMetric { isGreedy ? .acc : task.metric }

  /// Accuracy over all items, or over those of a group.
  public func accuracy(_ metric: TaskMetric, of group: String? = nil) -> Mean {
    Mean(
      task.items.indices.filter { group == nil || task.items[$0].group == group }
        .map { credit(of: $0, metric) })
  }

  /// `exp(-mean of the summed log p)` of a greedy task; nil for choices.
  public var perplexity: Double? {
    isGreedy ? exp(-scores.reduce(0) { $0 + $1.sums[0] } / Double(scores.count)) : nil
  }

  /// The groups of the items, in the order of the file.
  public var groups: [String] {
    var found: Set<UTF8Key> = []
    return task.items.compactMap(\.group).filter { found.insert(UTF8Key($0)).inserted }
  }

  /// The values that are compared for a choice.
  func compared(_ index: Int, _ metric: TaskMetric) -> [Double] {
    zip(scores[index].sums, task.items[index].texts).map { sum, text in
      switch metric {
      case .acc: sum
      case .accNorm: sum / Double(text.unicodeScalars.count)
      case .accBytes: sum / Double(text.utf8.count)
      }
    }
  }

  /// The chosen request; the first of equals.
  public func choice(of index: Int, _ metric: TaskMetric) -> Int {
    let values = compared(index, metric)
    return values.indices.dropFirst().reduce(0) { values[$1] > values[$0] ? $1 : $0 }
  }

  /// What the answer is worth.
  public func credit(of index: Int, _ metric: TaskMetric) -> Double {
    switch task.items[index].answer {
    case .greedy: scores[index].greedy[0] ? 1 : 0
    case .choice(let credits): credits[choice(of: index, metric)]
    }
  }

  /// Whether no other answer is worth more.
  func isRight(_ index: Int) -> Bool {
    switch task.items[index].answer {
    case .greedy: scores[index].greedy[0]
    case .choice(let credits): credits[choice(of: index, metric)] == credits.max()
    }
  }

  /// An item's answers in one JSON object: enough to compute every metric again.
  public func json(of index: Int) -> JSON {
    let item = task.items[index]
    var json: JSON = ["id": .string(item.id)]
    json.set("group", item.group.map { .string($0) })
    json.set("scores", .array(scores[index].sums.map { .number($0) }))
    json.set("greedy", .array(scores[index].greedy.map { .bool($0) }))
    json.set("tokens", .array(scores[index].tokens.map { JSON($0) }))
    json.set("characters", .array(item.texts.map { JSON($0.unicodeScalars.count) }))
    json.set("bytes", .array(item.texts.map { JSON($0.utf8.count) }))
    for metric in metrics {
      if !isGreedy { json.set("choice_\(metric.rawValue)", JSON(choice(of: index, metric))) }
      json.set(metric.rawValue, .number(credit(of: index, metric)))
    }
    if case .choice(let credits) = item.answer {
      let best = credits.max()
      json.set("gold", .array(credits.indices.filter { credits[$0] == best }.map { JSON($0) }))
      json.set("credits", .array(credits.map { .number($0) }))
    }
    return json
  }

  /// Accuracies, and those of groups.
  public var json: JSON {
    var json: JSON = [:]
    func set(_ target: inout JSON, _ group: String?) {
      for metric in metrics {
        let mean = accuracy(metric, of: group)
        target.set(metric.rawValue, .number(mean.value))
        target.set("\(metric.rawValue)_stderr", mean.standardError.map { .number($0) } ?? .null)
      }
    }
    set(&json, nil)
    json.set("perplexity", perplexity.map { .number($0) })
    let groups = groups.map { group in
      var part: JSON = [
        "group": .string(group), "items": JSON(task.items.count { $0.group == group }),
      ]
      set(&part, group)
      return part
    }
    if !groups.isEmpty { json.set("groups", .array(groups)) }
    return json
  }
}
