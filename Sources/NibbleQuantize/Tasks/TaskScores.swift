public import NibbleModel
public import NibbleTensor

/// What a model gives the requests of an item.
public struct TaskScores: Sendable, Hashable {
  /// Sum of log p over the tokens of each continuation, nats.
  public var sums: [Double]
  /// Whether each token of the continuation is the model's first choice.
  public var greedy: [Bool]
  /// Tokens of each continuation.
  public var tokens: [Int]
}

extension TaskRequests {
  /// Scores every item.
  ///
  /// The requests of an item share the computation of their common beginning; items share nothing,
  /// so a score does not depend on the other items of the file.
  public func scores(
    of decoder: Decoder, keeping format: CacheFormat = .f32, scales: [KeyValueScales]? = nil,
    on compute: Compute, progress: (_ done: Int, _ of: Int) -> Void
  ) throws(ModelError) -> [TaskScores] {
    var session = try Session(
      decoder, capacity: longest, keeping: format, scales: scales, on: compute)
    var scores: [TaskScores] = []
    for (index, item) in task.items.enumerated() {
      scores.append(try session.score(tokens(of: index), of: item, on: compute))
      progress(scores.count, task.items.count)
    }
    return scores
  }
}

extension Session {
  fileprivate mutating func score(
    _ requests: [TaskRequests.Tokens], of item: TaskItem, on compute: Compute
  ) throws(ModelError) -> TaskScores {
    truncate(to: 0)
    var shared = requests.map(\.scored.lowerBound).min() ?? 0
    for request in requests.dropFirst() {
      shared = zip(request.input.prefix(shared), requests[0].input).prefix { $0 == $1 }.count
    }
    if requests.count == 1 { shared = 0 }
    if shared > 0 { _ = try states(after: Array(requests[0].input[..<shared])) }
    var scores = TaskScores(sums: [], greedy: [], tokens: requests.map(\.targets.count))
    for request in requests {
      truncate(to: min(shared, count))
      let start = count
      let states = try states(after: Array(request.input[start...]))
      var (loss, isGreedy) = (0.0, true)
      let first = request.scored.lowerBound - start
      for start in stride(from: 0, to: request.targets.count, by: logitRows) {
        let part = start..<min(start + logitRows, request.targets.count)
        let targets = Array(request.targets[part])
        withLogits(states, first + part.lowerBound..<first + part.upperBound) { logits in
          loss += compute.losses(logits.span, targets: targets).reduce(0, +)
          let width = logits.count / targets.count
          for (row, target) in targets.enumerated() {
            let values = logits.span.extracting(row * width..<(row + 1) * width)
            isGreedy = isGreedy && Logits.argmax(values) == target
          }
        }
      }
      guard loss.isFinite else {
        throw .nonFiniteLogits(place: "in item \(item.id), \(item.place)")
      }
      scores.sums.append(-loss)
      scores.greedy.append(isGreedy)
    }
    return scores
  }
}
