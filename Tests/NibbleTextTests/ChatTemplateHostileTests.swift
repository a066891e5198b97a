import Dispatch
import Foundation
import NibbleFormats
import NibbleText
import Testing

/// Templates come with checkpoints: whatever their text, parsing and rendering end, with a result
/// or with an error, in bounded time, memory and stack.
@Suite struct ChatTemplateHostileTests {
  private func failure(
    _ template: String, limits: ChatTemplate.Limits = .init()
  ) -> ChatTemplateError? {
    do throws(ChatTemplateError) {
      _ = try ChatTemplate(template).render(
        ["messages": [], "s": "abc"], now: nil, limits: limits)
      return nil
    } catch { return error }
  }

  private func isStepLimit(_ error: ChatTemplateError?) -> Bool {
    if case .tooManySteps = error { true } else { false }
  }

  private func isOutputLimit(_ error: ChatTemplateError?) -> Bool {
    if case .tooMuchOutput = error { true } else { false }
  }

  private func isDepthLimit(_ error: ChatTemplateError?) -> Bool {
    if case .tooDeep = error { true } else { false }
  }

  @Test(arguments: [
    "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% endfor %}{% endfor %}",
    "{% set ns = namespace(l=[1]) %}{% for a in range(99999) %}{% set ns.l = ns.l + ns.l %}{% endfor %}",
    "{% set ns = namespace(l=['x' * 1000000]) %}{% for a in range(99999) %}{% set ns.l = ns.l + [ns.l[0] ~ a] %}{% endfor %}",
    "{% set s = 'ab' * 500000 %}{% for a in range(99999) %}{{ s|length }}{% endfor %}",
    "{% set s = 'a' * 1000000 %}{% for a in range(99999) %}{{ ('a' * 99999 ~ 'b') in s }}{% endfor %}",
    "{% set ns = namespace(l=[]) %}{% for a in range(40) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l == ns.l }}",
    "{% set ns = namespace(l=()) %}{% for a in range(40) %}{% set ns.l = (ns.l, ns.l) %}{% endfor %}{{ {ns.l: 1} }}",
    "{{ [1, 2, 3] * 100000000 }}", "{{ [] * 9223372036854775807 * 9 ~ [0] * 9223372036854775807 }}",
    "{{ range(99999)|list|batch(1, 2)|list|sort|map('length')|sum ~ range(99999)|sort|sort|sort|list }}",
    "{% for a in range(99999) %}{{ raise is defined and raise or a is odd and a ** 2 % 7 }}{% endfor %}",
  ])
  func workIsBounded(_ template: String) {
    var limits = ChatTemplate.Limits()
    limits.steps = 100_000
    #expect(isStepLimit(failure(template, limits: limits)))
  }

  @Test(arguments: [
    "{{ 'a' * 10 ** 12 }}", "{{ 10 ** 12 * 'a' }}", "{{ 'ab' * 9223372036854775807 }}",
    "{% set ns = namespace(s='a' * 10000000) %}{{ ns.s ~ ns.s }}",
    "{% set ns = namespace(s='a' * 10000000) %}{{ ns.s + ns.s }}",
    "{% set ns = namespace(s='a' * 10000000) %}{{ ns.s }}{{ ns.s }}",
    "{% set ns = namespace(s='a' * 10000000) %}{{ [ns.s, ns.s] }}",
    "{% set ns = namespace(s='a' * 10000000) %}{{ [ns.s, ns.s]|tojson }}",
    "{% set ns = namespace(s='a' * 10000000) %}{{ [ns.s, ns.s]|join }}",
    "{{ 'aaaa'|replace('a', 'b' * 10000000) }}", "{{ 'a\na\na'|indent(10000000) }}",
    "{{ [1, 2]|tojson(indent=100000000000) }}", "{{ [1, [2, [3]]]|tojson(indent=9000000) }}",
    "{{ '%s%s' % ('a' * 10000000, 'a' * 10000000) }}", "{{ ('a' * 10000000).join('abc') }}",
  ])
  func textsAreBoundedBeforeTheyAreMade(_ template: String) {
    let error = failure(template)
    #expect(isOutputLimit(error), "\(String(describing: error))")
  }

  @Test func theLimitsAreTheCallers() throws {
    var limits = ChatTemplate.Limits()
    limits.outputBytes = 10
    #expect(failure("0123456789", limits: limits) == nil)
    #expect(
      failure("0123456789\n\nx", limits: limits) == .tooMuchOutput(line: 1, limit: 10))
    limits.steps = 20
    #expect(
      failure("\n{% for a in range(9) %}x{% endfor %}", limits: limits)
        == .tooManySteps(line: 2, limit: 20))
  }

  @Test(arguments: [
    "((((", "[[[[", "{{{{", "not not ", "- - - ", "1 if ", "f(f(", "a[a[", "x|default(x|default(",
    "1 if 2 else ",
  ])
  func deepExpressionsAreRefused(_ opening: String) {
    #expect(failure("{{ " + String(repeating: opening, count: 10_000) + " }}") != nil)
  }

  @Test func bracketsThatCloseAreRefusedWhenTooDeep() {
    func nested(_ count: Int) -> String {
      "{{ " + String(repeating: "(", count: count) + "1" + String(repeating: ")", count: count)
        + " }}"
    }
    #expect(failure(nested(40)) == nil)
    #expect(isDepthLimit(failure(nested(100))))
    #expect(isDepthLimit(failure(nested(100_000))))
  }

  @Test func deepStatementsAreRefused() {
    let count = 20_000
    for (open, close) in [
      ("{% if 1 %}", "{% endif %}"), ("{% for a in [1] %}", "{% endfor %}"),
      ("{% filter upper %}", "{% endfilter %}"), ("{% set a %}", "{% endset %}"),
    ] {
      let template = String(repeating: open, count: count) + String(repeating: close, count: count)
      #expect(isDepthLimit(failure(template)))
    }
    #expect(failure(String(repeating: "{% for (", count: count)) != nil)
    #expect(isDepthLimit(failure("{% for " + String(repeating: "(", count: count))))
  }

  @Test(arguments: ["+", "~", "**", " and ", " or ", " == ", " in ", "|string|", "//"])
  func longChainsAreNotDeep(_ link: String) throws {
    let tail = link == "|string|" ? "|string" : link + "1"
    let template = "{{ 1" + String(repeating: tail, count: 20_000) + " }}"
    let error = failure(template)
    #expect(error == nil || !isDepthLimit(error))
  }

  @Test(arguments: [
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% macro f(a) %}{{ f([a]) }}{% endmacro %}{{ f(1) }}",
    "{% macro f(a=f()) %}{% endmacro %}{{ f() }}",
    "{% macro f() %}{% call f() %}{{ caller() }}{% endcall %}{% endmacro %}{{ f() }}",
    "{% macro g() %}{{ f() }}{% endmacro %}{% macro f() %}{% for a in [1] %}{{ g() }}{% endfor %}{% endmacro %}{{ f() }}",
    "{% macro f() %}{{ ((((((((((f())))))))))) }}{% endmacro %}{{ f() }}",
    "{% set ns = namespace(l=[]) %}{% for a in range(999) %}{% set ns.l = [ns.l] %}{% endfor %}",
    "{% set ns = namespace(l={}) %}{% for a in range(999) %}{% set ns.l = {'a': ns.l} %}{% endfor %}",
    "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}",
    "{% set ns = namespace() %}{% for a in range(999) %}{% set ns.a = ns.a|list|map('list') %}{% set ns.a = [ns.a] %}{% endfor %}",
  ])
  func recursionIsBounded(_ template: String) {
    let error = failure(template)
    #expect(isDepthLimit(error), "\(String(describing: error))")
  }

  /// Half a mebibyte is what a secondary thread has on macOS; the limits of depth fit into it.
  @Test func theDepthLimitsFitASmallStack() {
    let templates = [
      "{% macro f(a) %}{% if a %}{{ [f([a])|first, (1 + f(a)) ~ 'x'] }}{% endif %}{% endmacro %}{{ f(1) }}",
      "{% macro f() %}{% call f() %}{{ caller() }}{% endcall %}{% endmacro %}{{ f() }}",
      "{% set ns = namespace(l=[]) %}{% for a in range(62) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}{{ ns.l|tojson }}{{ ns.l == ns.l }}",
      "{{ " + String(repeating: "[", count: 46) + String(repeating: "]", count: 46) + " }}",
      "{{ " + String(repeating: "(1 + [x|default(", count: 22) + " }}",
      String(repeating: "{% if 1 %}", count: 99),
      String(repeating: "{% for a in [1] %}", count: 44)
        + "{{ a }}" + String(repeating: "{% endfor %}", count: 44),
    ]
    let done = DispatchSemaphore(value: 0)
    let thread = Thread {
      for template in templates { _ = failure(template) }
      done.signal()
    }
    thread.stackSize = 512 << 10
    thread.start()
    done.wait()
  }

  @Test(arguments: [
    // Each leaves a long chain or a cycle of objects behind, which must be released without
    // running out of stack.
    "{% set ns = namespace() %}{% for a in range(20000) %}{% set ns.a = namespace(b=ns.a) %}{% endfor %}",
    "{% set ns = namespace() %}{% for a in range(20000) %}{% for b in [ns.l] %}{% set ns.l = loop %}{% endfor %}{% endfor %}",
    "{% set ns = namespace() %}{% for a in range(20000) %}{% macro f() %}{{ a }}{% endmacro %}{% set ns.f = f %}{% endfor %}{{ ns.f() }}",
    "{% set ns = namespace(m=1) %}{% macro w(x) %}{% macro i() %}{{ x }}{% endmacro %}{% set ns.m = i %}{% endmacro %}{% for a in range(20000) %}{{ w(ns.m) }}{% endfor %}",
    "{% set ns = namespace() %}{% set ns.a = ns %}{% set ns.b = [ns, {'x': ns}] %}",
    "{% set ns = namespace() %}{% for a in range(20000) %}{% for b in [1] %}{% set q = loop.changed(ns.l) %}{% set ns.l = loop %}{% endfor %}{% endfor %}",
  ])
  func longChainsOfObjectsAreReleased(_ template: String) {
    #expect(failure(template) == nil)
  }

  @Test(arguments: [
    "9223372036854775807 + 1", "-9223372036854775807 - 2", "9223372036854775807 * 2", "2 ** 63",
    "-(-9223372036854775807 - 1)", "(-9223372036854775807 - 1) // -1",
    "(-9223372036854775807 - 1)|abs", "10 ** 10 ** 10", "'9223372036854775808'|int", "1e300|int",
    "[9223372036854775807, 1]|sum", "1 % 0", "1 // 0", "1 / 0", "1.0 % 0", "1.0 // 0", "1.0 / 0",
    "10.0 ** 400", "range(0, 9, 0)", "s[::0]", "range(-9223372036854775807, 9223372036854775807)",
    "[1]|batch(0)", "1|round(400)", "'a'|int(base=99)",
  ])
  func numbersThatLeaveTheirRangeAreErrors(_ expression: String) {
    guard case .evaluation(line: 1, _)? = failure("{{ \(expression) }}") else {
      guard case .unsupported? = failure("{{ \(expression) }}") else {
        Issue.record("\(expression) is not refused")
        return
      }
      return
    }
  }

  @Test(arguments: [
    "(-9223372036854775807 - 1) % -1", "s[9223372036854775807]", "s[-9223372036854775807 - 1]",
    "s[-9223372036854775807 - 1:9223372036854775807:9223372036854775807]",
    "s[9223372036854775807:-9223372036854775807 - 1:-9223372036854775807 - 1]",
    "[1][9223372036854775807]", "[1][-9223372036854775807 - 1]", "1e300 * 1e300",
    "1e300 // 1e-300", "[1, 2]|batch(9223372036854775807)|list",
    "'a,b'.split(',', 9223372036854775807)", "'ab'|replace('', 'x', 9223372036854775807)",
    "range(9223372036854775806, 9223372036854775807, 9223372036854775807)|list",
    "[1e308 * 10, 1]|tojson",
  ])
  func numbersAtTheEdgeDoNotTrap(_ expression: String) {
    #expect(failure("{{ \(expression) }}") == nil)
  }

  @Test(arguments: [
    ("\n\n{% if x %}", 3), ("a\n{{ x", 2), ("{# a", 1), ("{% raw %}x", 1), ("\n{{ 'a", 2),
    ("\n\n\n{{ 1 | }}", 4), ("\n{{ 1|nofilter }}", 2),
    ("{% if 1 %}\n{{ 1 is notest }}{% endif %}", 2),
    ("\n{{ 'a'.zfill(3) }}", 2), ("\n{% include 'x' %}", 2), ("\n{{ nothing.at.all }}", 2),
    ("{%- if 1 -%}\n\n{{ 1 + 'a' }}{% endif %}", 3), ("\n{{ f(*x) }}", 2), ("{{ x.__class__ }}", 1),
    ("\n{{ lipsum() }}", 2), ("\n{{ '%5d' % 1 }}", 2), ("\n{{ strftime_now('%Q') }}", 2),
  ])
  func errorsNameTheLine(_ template: String, _ line: Int) {
    let text = failure(template)?.description ?? "no error"
    #expect(text.contains("line \(line):"), "\(template): \(text)")
  }

  @Test func whatIsMissingIsNamed() {
    for name in ["nofilter", "notest", "zfill", "include"] {
      let template =
        [
          "nofilter": "{{ 1|nofilter }}", "notest": "{{ 1 is notest }}",
          "zfill": "{{ 'a'.zfill(3) }}", "include": "{% include 'x' %}",
        ][name] ?? ""
      guard case .unsupported(_, let what)? = failure(template) else {
        Issue.record("\(template) is not refused as unsupported")
        continue
      }
      #expect(what.contains(name))
    }
  }

  @Test func mutatedTemplatesNeverTrap() throws {
    var random = SplitMix(state: 7)
    var limits = ChatTemplate.Limits()
    limits.steps = 20_000
    limits.outputBytes = 1 << 16
    let conversations = try ChatOracle("conversations.json").cases
    let expressions = try ChatOracle("expressions.json").cases
    let marks = Array("{}%#-+'\"\\()[]|.,:~*/ \n0129aein\u{0}".utf8)
    for round in 0..<6000 {
      let source: String
      let variables: JSON
      if round.isMultiple(of: 3) {
        let item = conversations[Int(random.next() % UInt64(conversations.count))]
        source = try String(
          contentsOf: ChatOracle.folder.appending(path: "templates/\(item.template)"),
          encoding: .utf8)
        variables = item.variables
      } else {
        let item = expressions[Int(random.next() % UInt64(expressions.count))]
        (source, variables) = (item.template, item.variables)
      }
      var bytes = Array(source.utf8)
      for _ in 0...(random.next() % 4) where !bytes.isEmpty {
        let at = Int(random.next() % UInt64(bytes.count))
        switch random.next() % 4 {
        case 0: bytes.remove(at: at)
        case 1: bytes[at] = UInt8(truncatingIfNeeded: random.next())
        case 2: bytes.insert(marks[Int(random.next() % UInt64(marks.count))], at: at)
        default:
          let end = min(bytes.count, at + Int(random.next() % 40))
          bytes.insert(contentsOf: bytes[at..<end], at: Int(random.next() % UInt64(bytes.count)))
        }
      }
      do throws(ChatTemplateError) {
        let template = try ChatTemplate(String(decoding: bytes, as: UTF8.self))
        _ = try template.render(variables, now: .distantPast, limits: limits)
      } catch { #expect(!error.description.isEmpty) }
    }
  }

  private struct SplitMix: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
      state &+= 0x9E37_79B9_7F4A_7C15
      var z = state
      z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
      z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
      return z ^ (z >> 31)
    }
  }
}
