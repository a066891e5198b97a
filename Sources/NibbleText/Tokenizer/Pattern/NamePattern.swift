/// A regular expression over names, matched from their beginning, as Python's `re.match` does.
///
/// It takes at most as many steps as its length times the name's, whatever the expression.
package struct NamePattern: Sendable {
  private let program: PatternProgram

  /// Instructions: what matching costs for each scalar of a name.
  package var cost: Int { program.code.count }

  /// - Throws: `TokenizerError.badPattern` that says what is not known.
  package init(_ pattern: String) throws(TokenizerError) { program = try PatternProgram(pattern) }

  /// Whether it matches some beginning of `name`.
  package func matchesStart(of name: String) -> Bool {
    let text = Array(name.utf8)
    var search = PatternSearch(program)
    return search.matchesStart(of: text.span)
  }
}
