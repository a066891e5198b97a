internal import NibbleFormats

/// The text that a step of a tokenizer searches for: exact bytes, or a regular expression.
enum TextPattern: Sendable {
  case literal([UInt8])
  case expression(PatternProgram)

  /// Reads `{"String": ...}` or `{"Regex": ...}`.
  init(_ section: TokenizerSection, _ key: String) throws(TokenizerError) {
    let value = TokenizerSection(json: try section.required(key), path: "\(section.path).\(key)")
    if let text = try value.optionalString("String") {
      guard !text.isEmpty else { throw .unsupported("an empty pattern", at: value.path) }
      self = .literal(Array(text.utf8))
    } else {
      self = .expression(try PatternProgram(try value.string("Regex")))
    }
  }

  /// The matches inside `range`, leftmost first, without overlap.
  func matches(in text: borrowing Span<UInt8>, _ range: Range<Int>) -> [Range<Int>] {
    switch self {
    case .expression(let program):
      var search = PatternSearch(program)
      return search.matches(in: text, range)
    case .literal(let wanted): return Self.find(wanted, in: text, range)
    }
  }

  /// Knuth, Morris and Pratt: linear time for every literal.
  private static func find(
    _ wanted: [UInt8], in text: borrowing Span<UInt8>, _ range: Range<Int>
  ) -> [Range<Int>] {
    var fallbacks = [0]
    var length = 0
    for at in wanted.indices.dropFirst() {
      while length > 0, wanted[at] != wanted[length] { length = fallbacks[length - 1] }
      if wanted[at] == wanted[length] { length += 1 }
      fallbacks.append(length)
    }
    var found: [Range<Int>] = []
    length = 0
    for at in range {
      while length > 0, text[at] != wanted[length] { length = fallbacks[length - 1] }
      if text[at] == wanted[length] { length += 1 }
      if length == wanted.count {
        found.append(at + 1 - length..<at + 1)
        length = 0
      }
    }
    return found
  }

  /// The text with each match replaced.
  func replacing(in text: [UInt8], with content: [UInt8]) -> [UInt8] {
    let matches = matches(in: text.span, 0..<text.count)
    guard !matches.isEmpty else { return text }
    var result: [UInt8] = []
    result.reserveCapacity(text.count)
    var at = 0
    for match in matches {
      result += text[at..<match.lowerBound]
      result += content
      at = match.upperBound
    }
    return result + text[at...]
  }
}
