/// One item of a task: continuations that a model scores, each after a context.
public struct TaskItem: Sendable, Hashable {
  /// What a model scores: the log-probability of `continuation` after `context`.
  public struct Request: Sendable, Hashable {
    public var context: String
    public var continuation: String
  }

  /// What a right answer is.
  public enum Answer: Sendable, Hashable {
    /// The credit of choosing each request, 1 for right and 0 for wrong; some files give fractions.
    case choice(credits: [Double])
    /// The one continuation is what the model itself would write, token by token.
    case greedy
  }

  /// Where it stands in its file.
  public var place: RecordPlace
  public var id: String
  public var group: String?
  public var requests: [Request]
  /// The text of each choice, whose length divides its score: without delimiter, and the context where
  /// choices differ in their contexts.
  public var texts: [String]
  public var answer: Answer
}

/// A task of a local file: items of one layout.
public struct EvaluationTask: Sendable, Hashable {
  /// Of its header, or of its file.
  public let name: String
  /// Description and solved examples (shots) before each context.
  public let preamble: String
  /// The accuracy that counts for this task.
  public let metric: TaskMetric
  /// At least one; all choices, or all greedy.
  public let items: [TaskItem]
}

/// What is compared to choose an answer. The first of equal values wins.
/// Source: lm-eval 0.4.13, `process_results`.
public enum TaskMetric: String, Sendable, Hashable, Codable, CaseIterable {
  /// The sum of log p over the tokens.
  case acc
  /// The sum divided by the number of characters (code points) of the choice.
  case accNorm = "acc_norm"
  /// The sum divided by the number of UTF-8 bytes of the choice.
  case accBytes = "acc_bytes"
}
