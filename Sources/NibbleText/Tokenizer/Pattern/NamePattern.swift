/// A regular expression over names, matched from their beginning, as Python's `re.match` does.
///
/// It takes at most as many steps as its length times the name's, whatever the expression.
package struct NamePattern: Sendable {
  private let program: PatternProgram

  /// Number of instructions: the cost of matching, per scalar of a name.
  package var cost: Int { program.code.count }

  /// - Throws: `TokenizerError.badPattern`, which names the unsupported construct.
  package init(_ pattern: String) throws(TokenizerError) { program = try PatternProgram(pattern) }

  /// Whether it matches some prefix of `name`.
  package func matchesStart(of name: String) -> Bool {
    let text = Array(name.utf8)
    var search = PatternSearch(program)
    return search.matchesStart(of: text.span)
  }
}
