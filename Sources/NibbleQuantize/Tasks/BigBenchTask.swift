import NibbleFormats

/// A task.json of BIG-bench: examples with a score per answer, and texts to put around them.
/// Source: BIG-bench, `bigbench/api/json_task.py`.
struct BigBenchTask {
  let name: String
  private let task: TaskRecord
  private let examples: [JSON]

  init(_ task: TaskRecord) throws(TaskFault) {
    self.task = task
    name = try task.text("name", default: "")
    guard let examples = task.object["examples"]?.array, !examples.isEmpty else {
      throw TaskFault(field: "examples", reason: "holds no list of examples")
    }
    self.examples = examples
  }

  var count: Int { examples.count }

  /// The requests of an example. There is no delimiter: the prefix of the output ends in a space.
  func content(of index: Int) throws(TaskFault) -> TaskContent {
    guard let object = examples[index].object else {
      throw TaskFault(field: "examples", reason: "holds \(examples[index].kind), not an object")
    }
    let example = TaskRecord(object: object)
    guard example.has("target_scores") else {
      throw TaskFault(
        field: "target_scores", reason: "is missing: only multiple choice is scored")
    }
    let scores = try example.record("target_scores").object
    guard (1...TaskRecord.choiceLimit).contains(scores.count) else {
      throw TaskFault(
        field: "target_scores",
        reason: "holds \(scores.count) answers, and it must be 1 to \(TaskRecord.choiceLimit)")
    }
    let choices = try TaskRecord.texts(
      .array(scores.keys.map { .string($0) }), "target_scores")
    var credits: [Double] = []
    for (answer, value) in scores {
      guard let credit = value.double else {
        throw TaskFault(
          field: "target_scores", reason: "gives \"\(shown(answer))\" \(value.kind), not a number")
      }
      credits.append(credit)
    }
    var context =
      try task.text("task_prefix", default: "")
      + task.text("example_input_prefix", default: "\nQ: ") + example.text("input")
    if task.object["append_choices_to_input"]?.bool != false {
      context += choices.map { "\n  choice: " + $0 }.joined()
    }
    context += try task.text("example_output_prefix", default: "\nA: ")
    return TaskContent(
      contexts: choices.map { _ in context }, continuations: choices, texts: choices,
      credits: credits)
  }
}
