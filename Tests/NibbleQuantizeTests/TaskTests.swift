import Foundation
import NibbleEngines
import NibbleFormats
import NibbleModel
import NibbleTensor
import NibbleText
import Testing
import TinyModel

@testable import NibbleQuantize

@Suite struct TaskFileTests {
  private func task(_ text: String, _ name: String = "items.jsonl") throws -> EvaluationTask {
    try inTemporaryFolder { folder in
      let path = folder + "/" + name
      try Data(text.utf8).write(to: URL(fileURLWithPath: path))
      return try EvaluationTask(path: path)
    }
  }

  @Test func aHeaderNamesTheTaskAndStandsBeforeEachContext() throws {
    let found = try task(
      #"""
      {"task": "sums", "metric": "acc_bytes", "description": "Add.\n\n", "shots": ["1+1= 2", "1+2= 3"]}
      {"id": "x", "context": "2+2=", "choices": ["4", "5"], "gold": 0, "group": "even"}

      {"id": 7, "context": "2+3=", "choices": ["4", "5", "fünf"], "gold": ["5", 2], "delimiter": "\t"}
      """#)
    #expect(found.name == "sums" && found.metric == .accBytes)
    #expect(found.items.map(\.id) == ["x", "7"] && found.items.map(\.group) == ["even", nil])
    #expect(found.items.map(\.place) == [.line(2), .line(4)])
    #expect(found.preamble == "Add.\n\n1+1= 2\n\n1+2= 3\n\n")
    #expect(found.items[0].requests.map(\.context) == ["2+2=", "2+2="])
    #expect(found.items[0].requests.map(\.continuation) == [" 4", " 5"])
    #expect(found.items[1].requests.map(\.continuation) == ["\t4", "\t5", "\tfünf"])
    #expect(found.items[1].answer == .choice(credits: [0, 1, 1]))
    #expect(found.items[1].texts == ["4", "5", "fünf"])
  }

  @Test func choicesMayBeInTheContexts() throws {
    let found = try task(
      #"{"contexts": ["Ana", "Mia"], "continuation": "ran.", "gold": "Mia"}"#, "who.json")
    #expect(found.name == "who" && found.metric == .acc && found.items[0].id == "1")
    #expect(found.items[0].requests.map(\.context) == ["Ana", "Mia"])
    #expect(found.items[0].requests.map(\.continuation) == [" ran.", " ran."])
    #expect(found.items[0].answer == .choice(credits: [0, 1]))
  }

  @Test func openBookQAAndSciQAreReadByTheirFields() throws {
    let book = try task(
      #"{"question_stem": "Ice is", "choices": {"text": ["cold", "hot"], "label": ["A", "B"]}, "answerKey": "A"}"#
    )
    #expect(book.metric == .accNorm && book.items[0].requests[1].context == "Ice is")
    #expect(book.items[0].answer == .choice(credits: [1, 0]))
    let science = try task(
      #"{"support": " Ice melts.", "question": "What melts?", "distractor1": "a", "distractor2": "b", "distractor3": "c", "correct_answer": "ice"}"#
    )
    #expect(science.items[0].requests[3].context == "Ice melts.\nQuestion: What melts?\nAnswer:")
    #expect(science.items[0].texts == ["a", "b", "c", "ice"])
    #expect(science.items[0].answer == .choice(credits: [0, 0, 0, 1]))
  }

  @Test func aTaskOfBigBenchIsReadByItsPrefixes() throws {
    let found = try task(
      #"""
      {"name": "physics", "examples": [
        {"input": "It falls.", "target_scores": {"down": 1, "up": 0, "aside": 0.5}},
        {"input": "It floats.", "target_scores": {"yes": 1, "no": 0}}]}
      """#, "task.json")
    #expect(found.name == "physics" && found.items.count == 2)
    #expect(
      found.items[0].requests[0].context
        == "\nQ: It falls.\n  choice: down\n  choice: up\n  choice: aside\nA: ")
    #expect(found.items[0].requests.map(\.continuation) == ["down", "up", "aside"])
    #expect(found.items[0].answer == .choice(credits: [1, 0, 0.5]))
    let plain = try task(
      #"{"task_prefix": "T", "example_input_prefix": "I:", "example_output_prefix": "O:", "append_choices_to_input": false, "examples": [{"input": "x", "target_scores": {"a": 1}}]}"#,
      "task.json")
    #expect(plain.items[0].requests[0].context == "TI:xO:" && plain.name == "task")
  }

  private static let item = #"{"context": "a", "choices": ["b", "c"], "gold": 0}"#

  @Test(
    arguments: [
      (#"{"context": "a", "choices": ["b", "c"]}"#, "line 1: \"gold\" is missing"),
      (#"{"context": "a", "choices": ["b", "c"], "gold": 2}"#, "is 2, and the 2 choices"),
      (#"{"context": "a", "choices": ["b", "c"], "gold": -1}"#, "is -1"),
      (#"{"context": "a", "choices": ["b", "c"], "gold": 1e300}"#, "\"gold\" holds a number"),
      (#"{"context": "a", "choices": ["b", "c"], "gold": "d"}"#, "is \"d\", which is none"),
      (#"{"context": "a", "choices": ["b", "c"], "gold": []}"#, "names 0 of 2"),
      (#"{"context": "a", "choices": ["b", "c"], "gold": null}"#, "holds null"),
      (#"{"context": 1, "choices": ["b", "c"], "gold": 0}"#, "\"context\" holds a number"),
      (#"{"context": "a", "choices": [], "gold": 0}"#, "\"choices\" holds 0 texts"),
      (#"{"context": "a", "choices": "b", "gold": 0}"#, "holds a string, not a list"),
      (#"{"context": "a", "choices": ["b", 1], "gold": 0}"#, "holds a number, not text"),
      (#"{"context": "a"}"#, "no layout of a task"),
      (#"{}"#, "no fields"),
      (#"[]"#, "\"item\" is an array"),
      (#"{"context": "a", "choices": ["b"], "gold": 0"#, "line 1: not JSON"),
      (
        #"{"goal": "g", "sol1": "a", "sol2": "b", "label": "2"}"#, "\"label\" is 2"
      ),
      (
        #"{"sentence": "no gap", "option1": "a", "option2": "b", "answer": "1"}"#,
        "\"sentence\" has no gap"
      ),
      (
        #"{"sentence": "a _", "option1": "a", "option2": "b", "answer": ""}"#,
        "\"answer\" is \"\", which is none of its options"
      ),
      (
        #"{"question": "q", "choices": ["a", "b"], "answer": 0}"#,
        "\"choices\" holds 2 texts, not 4"
      ),
      (
        #"{"question": "q", "choices": {"text": ["a"], "label": ["A", "B"]}, "answerKey": "A"}"#,
        "has 1 texts and 2 labels"
      ),
      (
        #"{"question": "q", "choices": {"text": ["a"], "label": ["A"]}, "answerKey": "E"}"#,
        "\"answerKey\" is \"E\", which is none of its labels"
      ),
      (#"{"passage": "p", "question": "q"}"#, "\"answer\" is missing"),
      (#"{"examples": []}"#, "\"examples\" holds no list"),
      (#"{"examples": [{"input": "a", "target": "b"}]}"#, "only multiple choice"),
      (#"{"examples": [{"input": "a", "target_scores": {"b": "c"}}]}"#, "not a number"),
      (#"{"task": "t", "metrics": "acc"}"#, "\"metrics\" is no field of a header"),
      (#"{"task": "t", "metric": "f1"}"#, "\"metric\" is \"f1\", which is none of its metrics"),
      (#"{"task": "t"}"#, "there are no items"),
      ("", "there are no items"),
      (item + "\n" + #"{"context": "a", "target": "b"}"#, "line 2: an item of greedy among"),
      (item + "\n" + #"{"task": "t"}"#, "line 2: it has \"task\""),
      (item + "\n\n" + #"{"context": "a", "choices": ["b"], "gold": 1}"#, "line 3: \"gold\" is 1"),
    ])
  func aBadItemIsAnErrorWithItsLineAndField(_ text: String, _ expected: String) {
    do {
      let found = try task(text)
      Issue.record("\(found)")
    } catch { #expect("\(error)".contains(expected), "\(error)") }
  }

  @Test func longFieldsAndManyChoicesAreErrors() {
    let long = String(repeating: "x", count: TaskRecord.textLimit + 1)
    #expect(throws: TaskError.self) {
      try task(#"{"context": "\#(long)", "choices": ["b"], "gold": 0}"#)
    }
    let many = [String](repeating: "\"a\"", count: TaskRecord.choiceLimit + 1)
    #expect(throws: TaskError.self) {
      try task(#"{"context": "a", "choices": [\#(many.joined(separator: ","))], "gold": 0}"#)
    }
  }

  @Test func aMissingFileSaysSo() {
    do {
      let found = try EvaluationTask(path: "/nonexistent/items.jsonl")
      Issue.record("\(found)")
    } catch { #expect("\(error)".contains("Check the path"), "\(error)") }
  }

  /// Files that differ from good ones in some bytes are read or refused.
  @Test func damagedFilesAreReadOrRefused() throws {
    var random = SplitMix(state: 11)
    try inTemporaryFolder { folder in
      let path = folder + "/items.jsonl"
      for name in ChoiceOracle.tasks {
        let text = Array(try #require(ChoiceOracle.json["files"]?[name]?.string).utf8)
        for _ in 0..<150 {
          var damaged = text
          for _ in 0..<Int.random(in: 1...4, using: &random) {
            let at = Int.random(in: 0..<damaged.count, using: &random)
            switch Int.random(in: 0..<3, using: &random) {
            case 0: damaged[at] = UInt8.random(in: 0...255, using: &random)
            case 1: damaged.remove(at: at)
            default:
              damaged.insert(damaged[Int.random(in: 0..<damaged.count, using: &random)], at: at)
            }
          }
          try Data(damaged).write(to: URL(fileURLWithPath: path))
          do {
            let found = try EvaluationTask(path: path)
            #expect(found.items.allSatisfy { $0.requests.count == $0.texts.count })
          } catch { #expect(error is TaskError, "\(error)") }
        }
      }
    }
  }

  /// The results of Python's `preprocess` in lm-eval's hellaswag/utils.py.
  @Test(
    arguments: [
      (" a [title] b ", "a. b"), ("[x] a  b   c", " a b  c"), ("a [b\n] c", "a [b\n] c"),
      ("a [b [c] d] e", "a  d] e".replacingOccurrences(of: "  ", with: " ")), ("[[", "[["),
      ("a]", "a]"), ("[\n[x]y", "[\ny"), ("[a][b]", ""),
    ])
  func hellaSwagIsCleaned(_ text: String, _ expected: String) {
    #expect(TaskLayout.cleaned(text) == expected)
  }

  @Test func manyOpenBracketsAreKept() {
    let text = String(repeating: "[", count: 1 << 18)
    #expect(TaskLayout.cleaned(text) == text)
  }
}

@Suite struct TaskScoresTests {
  private static let text = #"""
    {"context": "All that", "choices": ["glitters", "is gold", "glitters not"], "gold": 0, "group": "a"}
    {"context": "", "choices": ["One", "Two"], "gold": 1, "group": "b"}
    {"context": "Who\n", "choices": ["goes there", "went"], "gold": [0, 1], "group": "a"}
    """#

  private func requests(
    _ text: String, in folder: String, special: TaskRequests.SpecialTokens = .tokenizer,
    limit: Int = 96, model: String = "plain"
  ) throws -> (TaskRequests, LoadedModel) {
    try ChoiceOracle.write(model, to: folder + "/model")
    let path = folder + "/items.jsonl"
    try Data(text.utf8).write(to: URL(fileURLWithPath: path))
    let loaded = try LoadedModel(path: folder + "/model")
    return (
      try TaskRequests(
        EvaluationTask(path: path), with: loaded.tokenizer(), special: special, limit: limit),
      loaded
    )
  }

  @Test func scoresDependNeitherOnThreadsNorOnOtherItems() throws {
    try inTemporaryFolder { folder in
      let (all, loaded) = try requests(Self.text, in: folder)
      let found = try all.scores(
        of: loaded.decoder, on: Compute(threads: 1, precision: .f32)
      ) { _, _ in }
      let again = try all.scores(
        of: loaded.decoder, on: Compute(threads: 3, precision: .f32)
      ) { _, _ in }
      #expect(found == again)
      for (index, line) in Self.text.split(separator: "\n").enumerated() {
        let alone = try requests(String(line), in: folder).0.scores(
          of: loaded.decoder, on: Compute(threads: 2, precision: .f32)
        ) { _, _ in }
        #expect(alone == [found[index]])
      }
    }
  }

  /// The sum over a continuation is that of single steps.
  @Test func aScoreIsTheSumOfItsTokens() throws {
    try inTemporaryFolder { folder in
      let (found, loaded) = try requests(Self.text, in: folder)
      let compute = Compute(threads: 1, precision: .f32)
      let scores = try found.scores(of: loaded.decoder, on: compute) { _, _ in }
      for item in found.task.items.indices {
        let requests = found.tokens(of: item)
        for (choice, request) in requests.enumerated() {
          var session = try Session(loaded.decoder, capacity: 96, on: compute)
          var (sum, isGreedy) = (0.0, true)
          for (index, token) in request.input.enumerated() {
            let logits = try session.append([token])
            guard request.scored.contains(index) else { continue }
            let target = request.targets[index - request.scored.lowerBound]
            sum -= compute.losses(logits.span, targets: [target])[0]
            isGreedy = isGreedy && logits.firstIndex(of: logits.max()!) == target
          }
          // Products of several tokens add in another order.
          #expect(abs(scores[item].sums[choice] - sum) < 1e-4)
          #expect(scores[item].greedy[choice] == isGreedy)
        }
      }
    }
  }

  @Test func specialTokensAreThoseAskedFor() throws {
    try inTemporaryFolder { folder in
      let line = #"{"context": "All that", "choices": ["glitters"], "gold": 0}"#
      let none = try requests(line, in: folder, special: .none, model: "beginning").0.tokens(of: 0)[
        0]
      let own = try requests(line, in: folder, model: "beginning").0.tokens(of: 0)[0]
      let given = try requests(line, in: folder, special: .before([7, 8])).0.tokens(of: 0)[0]
      #expect(own.input == [0] + none.input && given.input == [7, 8] + none.input)
      #expect(own.targets == none.targets && given.targets == none.targets)
    }
  }

  /// Shots stand before the context as if they were part of it.
  @Test func shotsAreReadBeforeTheContext() throws {
    try inTemporaryFolder { folder in
      let header = #"{"task": "t", "shots": ["All is", "That was"]}"#
      let item = #"{"context": "Who", "choices": ["went"], "gold": 0}"#
      let whole = #"{"context": "All is\n\nThat was\n\nWho", "choices": ["went"], "gold": 0}"#
      let shots = try requests(header + "\n" + item, in: folder).0.tokens(of: 0)
      #expect(try requests(whole, in: folder).0.tokens(of: 0) == shots)
    }
  }

  @Test(
    arguments: [
      (#"{"context": "  ", "choices": ["a"], "gold": 0}"#, "white space only"),
      (#"{"context": "", "choices": ["</s>"], "gold": 0, "delimiter": ""}"#, "it has no tokens"),
      (#"{"context": "a", "choices": [""], "gold": 0, "delimiter": ""}"#, "adds no token"),
      (
        #"{"context": "a", "choices": ["b", "qzqzqzqzqzqzqzqzqzqzqzqzqz"], "gold": 0}"#,
        "line 1: choice 2: its"
      ),
    ])
  func whatCannotBeScoredIsAnError(_ text: String, _ expected: String) throws {
    try inTemporaryFolder { folder in
      do {
        let found = try requests(text, in: folder, limit: 8)
        Issue.record("\(found.0.tokens(of: 0))")
      } catch { #expect("\(error)".contains(expected), "\(error)") }
    }
  }

  @Test func aTaskOfOneItemHasNoStandardErrorAndGroupsTheirOwn() throws {
    try inTemporaryFolder { folder in
      let (found, loaded) = try requests(Self.text, in: folder)
      let scores = try found.scores(
        of: loaded.decoder, on: Compute(threads: 1, precision: .f32)
      ) { _, _ in }
      let result = TaskResult(found.task, scores)
      #expect(result.groups == ["a", "b"] && result.perplexity == nil)
      let (a, b) = (result.accuracy(.acc, of: "a"), result.accuracy(.acc, of: "b"))
      #expect(b.standardError == nil && a.standardError != nil)
      #expect(abs(result.accuracy(.acc).value - (2 * a.value + b.value) / 3) < 1e-15)
      #expect(result.credit(of: 2, .accNorm) == 1, "every choice is right")
      let json = result.json(of: 0)
      #expect(json["characters"] == [8, 7, 12] && json["bytes"] == [8, 7, 12])
      #expect(json["scores"]?.array?.count == 3 && json["id"] == "1" && json["group"] == "a")
      #expect(result.json["groups"]?.array?.count == 2)
    }
  }
}

@Suite struct FlipsTests {
  private static func task(_ choices: Int, _ count: Int) -> EvaluationTask {
    EvaluationTask(
      name: "t", preamble: "", metric: .acc,
      items: (0..<count).map { index in
        TaskItem(
          place: .line(index + 1), id: "\(index)", group: nil,
          requests: (0..<choices).map { .init(context: "c", continuation: " \($0)") },
          texts: (0..<choices).map { "\($0)" },
          answer: .choice(credits: (0..<choices).map { $0 == 0 ? 1 : 0 }))
      })
  }

  private static func answers(_ picks: [Int], margins: [Double]) -> TaskResult {
    let scores = zip(picks, margins).map { pick, margin in
      TaskScores(
        sums: (0..<3).map { $0 == pick ? -1 : -1 - margin }, greedy: [false, false, false],
        tokens: [1, 1, 1])
    }
    return TaskResult(task(3, picks.count), scores)
  }

  @Test func flipsAreCountedAndMarginsCompared() {
    let margins = [0.5, 2, 2, 1, 7, 3]
    let flips = Flips(
      of: Self.answers([0, 1, 2, 0, 1, 0], margins: margins),
      against: Self.answers([0, 0, 1, 2, 0, 0], margins: [1, 2, 3, 0.5, 0.5, 9]))
    #expect(flips.items == 6 && flips.lost == 2 && flips.won == 1 && flips.changed == 4)
    #expect(abs(flips.accuracyChange + 1.0 / 6) < 1e-15 && flips.pValue == 1)
    // scipy 1.17.1: spearmanr([.5, 2, 2, 1, 7, 3], [1, 2, 3, .5, .5, 9])
    #expect(abs((flips.marginCorrelation ?? 0) - 0.17647058823529413) < 1e-12)
    let same = Flips(
      of: Self.answers([0, 1], margins: [1, 2]), against: Self.answers([0, 1], margins: [1, 2]))
    #expect(same.changed == 0 && same.pValue == 1 && same.marginCorrelation == 1)
    let flat = Flips(
      of: Self.answers([0, 1], margins: [1, 1]), against: Self.answers([0, 1], margins: [1, 2]))
    #expect(flat.marginCorrelation == nil)
  }

  /// scipy 1.17.1: `binomtest(min(a, b), a + b, 0.5).pvalue`.
  @Test(
    arguments: [
      (0, 0, 1), (3, 9, 0.14599609375), (10, 10, 1), (40, 70, 0.005447429511444476),
      (0, 6, 0.03125), (600, 700, 0.0060157938610449395),
    ])
  func mcNemarAgreesWithScipy(_ lost: Int, _ won: Int, _ expected: Double) {
    #expect(abs(Flips.mcNemar(lost, won) / expected - 1) < 1e-10)
    #expect(Flips.mcNemar(lost, won) == Flips.mcNemar(won, lost))
  }
}
