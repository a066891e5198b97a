import Foundation
import NibbleFormats
import NibbleText
import Testing

/// What transformers renders, recorded by `Fixtures/chat/make.py` (its versions stand in the files).
struct ChatOracle {
  struct Case {
    var name: String
    var template: String
    var variables: JSON
    var expected: Expected
  }

  enum Expected: Equatable {
    case output(String)
    case raised(String)
    case refused
  }

  var cases: [Case] = []
  var now: Date

  static let folder = Bundle.module.resourceURL!.appending(path: "Fixtures/chat")

  init(_ name: String) throws {
    let file = try Data(contentsOf: Self.folder.appending(path: name))
    let json = try JSON(parsing: Array(file))
    let parts = try #require(json["now"]?.array).compactMap(\.int)
    now = try #require(
      Calendar(identifier: .gregorian).date(
        from: DateComponents(
          year: parts[0], month: parts[1], day: parts[2], hour: parts[3], minute: parts[4],
          second: parts[5])))
    for entry in try #require(json["cases"]?.array) {
      let expected: Expected =
        if let output = entry["output"]?.string {
          .output(output)
        } else if let message = entry["raised"]?.string { .raised(message) } else { .refused }
      cases.append(
        Case(
          name: try #require(entry["name"]?.string),
          template: try #require(entry["template"]?.string),
          variables: try #require(entry["variables"] ?? json["variables"]), expected: expected))
    }
  }

  /// What Nibble does with a case, and the error behind a refusal.
  static func outcome(
    _ template: String, _ variables: JSON, now: Date
  ) -> (Expected, ChatTemplateError?) {
    do throws(ChatTemplateError) {
      let template = try ChatTemplate(template)
      return (.output(try template.render(variables, now: now, limits: .init())), nil)
    } catch {
      if case .raised(let message) = error { return (.raised(message), error) }
      return (.refused, error)
    }
  }
}

@Suite struct ChatTemplateOracleTests {
  @Test func conversationsRenderAsInTransformers() throws {
    let oracle = try ChatOracle("conversations.json")
    #expect(oracle.cases.count > 700)
    for item in oracle.cases {
      let source = try String(
        contentsOf: ChatOracle.folder.appending(path: "templates/\(item.template)"),
        encoding: .utf8)
      let (outcome, error) = ChatOracle.outcome(source, item.variables, now: oracle.now)
      #expect(
        Self.same(outcome, item.expected),
        "\(item.name): \(error?.description ?? "") got \(outcome), expected \(item.expected)")
    }
  }

  @Test func expressionsAndStatementsRenderAsInJinja() throws {
    let oracle = try ChatOracle("expressions.json")
    #expect(oracle.cases.count > 3000)
    for item in oracle.cases where !Self.refused.contains(item.template) {
      let (outcome, error) = ChatOracle.outcome(item.template, item.variables, now: oracle.now)
      #expect(
        Self.same(outcome, item.expected),
        "\(item.template): \(error?.description ?? "") got \(outcome), expected \(item.expected)")
    }
  }

  /// What Jinja takes and Nibble refuses on purpose.
  static let refused = [
    "{% for a in l recursive %}{{ a }}{% endfor %}", "{% block a %}x{% endblock %}", "{% raw %}",
  ]

  @Test(arguments: refused) func whatIsLeftOutIsAnErrorThatNamesIt(_ template: String) throws {
    let error = try #require(throws: ChatTemplateError.self) { try ChatTemplate(template) }
    #expect(["recursive", "block", "raw"].contains { error.description.contains($0) })
    #expect(error.description.contains("line 1"))
  }

  /// Equal by code points: Swift's own equality would pass a composed letter for a decomposed one.
  private static func same(_ left: ChatOracle.Expected, _ right: ChatOracle.Expected) -> Bool {
    switch (left, right) {
    case (.output(let a), .output(let b)), (.raised(let a), .raised(let b)):
      a.utf8.elementsEqual(b.utf8)
    default: left == right
    }
  }
}
