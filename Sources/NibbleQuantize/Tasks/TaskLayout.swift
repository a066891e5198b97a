import Foundation
import NibbleFormats
import NibbleText

/// The fields that an item may have: those of Nibble's own files, and those of common data sets.
///
/// Requests of the data sets are those of lm-eval 0.4.13's tasks of the same names.
enum TaskLayout: String, CaseIterable {
  // In the order in which they are tried.
  case choices
  case contexts
  case greedy
  case hellaSwag = "HellaSwag"
  case openBookQA = "OpenBookQA"
  case arc = "ARC"
  case mmlu = "MMLU"
  case piqa = "PIQA"
  case winoGrande = "WinoGrande"
  case boolQ = "BoolQ"
  case sciQ = "SciQ"

  static let dumps = allCases.dropFirst(3).map(\.rawValue).joined(separator: ", ")

  /// The fields by which it is recognized.
  private var fields: [String] {
    switch self {
    case .choices: ["context", "choices"]
    case .contexts: ["contexts", "continuation"]
    case .greedy: ["context", "target"]
    case .hellaSwag: ["ctx_a", "ctx_b", "endings"]
    case .openBookQA: ["question_stem", "choices"]
    case .arc: ["question", "choices", "answerKey"]
    case .mmlu: ["question", "choices", "answer"]
    case .piqa: ["goal", "sol1", "sol2"]
    case .winoGrande: ["sentence", "option1", "option2"]
    case .boolQ: ["passage", "question"]
    case .sciQ: ["question", "correct_answer", "distractor1"]
    }
  }

  init?(_ object: JSONObject) {
    guard let layout = Self.allCases.first(where: { $0.fields.allSatisfy { object[$0] != nil } })
    else { return nil }
    self = layout
  }

  /// The accuracy that counts when a header names none.
  var metric: TaskMetric {
    switch self {
    case .hellaSwag, .openBookQA, .arc: .accNorm
    default: .acc
    }
  }

  /// The requests, texts and answer of a record.
  ///
  /// - Parameter delimiter: between context and continuation.
  func content(
    of record: TaskRecord, delimiter: String
  ) throws(TaskFault) -> TaskContent {
    func single(
      _ context: String, _ choices: [String], gold: Set<Int>
    ) -> TaskContent {
      TaskContent(
        contexts: choices.map { _ in context },
        continuations: choices.map { delimiter + $0 }, texts: choices, gold: gold)
    }
    switch self {
    case .choices:
      let choices = try record.texts("choices")
      return single(
        try record.text("context"), choices, gold: try record.gold("gold", of: choices))
    case .contexts:
      let contexts = try record.texts("contexts")
      let continuation = try record.text("continuation")
      return TaskContent(
        contexts: contexts,
        continuations: contexts.map { _ in delimiter + continuation }, texts: contexts,
        gold: try record.gold("gold", of: contexts))
    case .greedy:
      let target = try record.text("target")
      var content = single(try record.text("context"), [target], gold: [])
      content.answer = .greedy
      return content
    case .hellaSwag:
      let context =
        try record.text("activity_label") + ": " + record.text("ctx_a") + " "
        + record.text("ctx_b").pythonCapitalized
      let endings = try record.texts("endings").map(Self.cleaned)
      return single(
        Self.cleaned(context), endings, gold: [try record.index("label", below: endings.count)])
    case .openBookQA:
      let (texts, labels) = try Self.labelled(record)
      return single(
        try record.text("question_stem"), texts,
        gold: [try record.index("answerKey", in: labels, of: "labels")])
    case .arc:
      let (texts, labels) = try Self.labelled(record)
      return single(
        "Question: " + (try record.text("question")) + "\nAnswer:", texts,
        gold: [try record.index("answerKey", in: labels, of: "labels")])
    case .mmlu:
      let choices = try record.texts("choices")
      let letters = ["A", "B", "C", "D"]
      guard choices.count == letters.count else {
        throw TaskFault(field: "choices", reason: "holds \(choices.count) texts, not 4")
      }
      let lines = zip(letters, choices).map { "\($0). \($1)\n" }.joined()
      let gold: Int
      if let letter = try? record.index("answer", in: letters, of: "letters") {
        gold = letter
      } else {
        gold = try record.index("answer", below: letters.count)
      }
      return single(
        try record.text("question").stripped() + "\n" + lines + "Answer:", letters,
        gold: [gold])
    case .piqa:
      return single(
        "Question: " + (try record.text("goal")) + "\nAnswer:",
        [try record.text("sol1"), try record.text("sol2")],
        gold: [try record.index("label", below: 2)])
    case .winoGrande:
      let sentence = try record.text("sentence").unicodeScalars
      guard let gap = sentence.firstIndex(of: "_") else {
        throw TaskFault(field: "sentence", reason: "has no gap, written as _")
      }
      let before = String(sentence[..<gap])
      let rest = String(sentence[sentence.index(after: gap)...]).stripped()
      let contexts = [
        before + (try record.text("option1")), before + (try record.text("option2")),
      ]
      return TaskContent(
        contexts: contexts,
        continuations: contexts.map { _ in delimiter + rest },
        texts: contexts, gold: [try record.index("answer", in: ["1", "2"], of: "options, 1 and 2")])
    case .boolQ:
      let context =
        try record.text("passage") + "\nQuestion: " + record.text("question") + "?\nAnswer:"
      return single(context, ["no", "yes"], gold: [try Self.yesOrNo(record)])
    case .sciQ:
      let support = try record.text("support", default: "").stripped(right: false)
      var choices: [String] = []
      for field in ["distractor1", "distractor2", "distractor3", "correct_answer"] {
        choices.append(try record.text(field))
      }
      return single(
        support + "\nQuestion: " + (try record.text("question")) + "\nAnswer:", choices,
        gold: [3])
    }
  }

  /// HellaSwag's text without the marks of its source. Source: lm-eval, `hellaswag/utils.py`.
  static func cleaned(_ text: String) -> String {
    let titles = text.stripped().replacing(" [title]", with: ". ")
    return removingBrackets(titles).replacing("  ", with: " ")
  }

  /// Python's `re.sub("\\[.*?\\]", "", text)`: the shortest runs in brackets, within a line.
  private static func removingBrackets(_ text: String) -> String {
    var kept = String.UnicodeScalarView()
    let scalars = Array(text.unicodeScalars)
    var at = 0
    // Below it no bracket closes within its line.
    var open = 0
    while at < scalars.count {
      if scalars[at] == "[", at >= open {
        let end = scalars[at...].firstIndex { $0 == "]" || $0 == "\n" } ?? scalars.count
        if end < scalars.count, scalars[end] == "]" {
          at = end + 1
          continue
        }
        open = end
      }
      kept.append(scalars[at])
      at += 1
    }
    return String(kept)
  }

  /// The texts and labels of `choices`.
  private static func labelled(
    _ record: TaskRecord
  ) throws(TaskFault) -> (texts: [String], labels: [String]) {
    let choices = try record.record("choices")
    let (texts, labels) = (try choices.texts("text"), try choices.texts("label"))
    guard texts.count == labels.count else {
      throw TaskFault(
        field: "choices", reason: "has \(texts.count) texts and \(labels.count) labels")
    }
    return (texts, labels)
  }

  /// 1 for yes, from `label` or `answer`.
  private static func yesOrNo(_ record: TaskRecord) throws(TaskFault) -> Int {
    let field = record.has("label") ? "label" : "answer"
    if let answer = record.object[field]?.bool { return answer ? 1 : 0 }
    return try record.index(field, below: 2)
  }
}

/// What an item's record holds.
struct TaskContent {
  var contexts: [String]
  var continuations: [String]
  var texts: [String]
  var answer: TaskItem.Answer

  init(contexts: [String], continuations: [String], texts: [String], gold: Set<Int>) {
    self.contexts = contexts
    self.continuations = continuations
    self.texts = texts
    answer = .choice(credits: texts.indices.map { gold.contains($0) ? 1 : 0 })
  }

  init(contexts: [String], continuations: [String], texts: [String], credits: [Double]) {
    self.contexts = contexts
    self.continuations = continuations
    self.texts = texts
    answer = .choice(credits: credits)
  }
}

extension String {
  /// Replaces every occurrence from the left, as Python's `str.replace` does.
  fileprivate func replacing(_ old: String, with new: String) -> String {
    replacingOccurrences(of: old, with: new, options: .literal)
  }
}
