/// How matches are treated when a pattern splits text into pieces.
enum SplitBehavior: String, Sendable {
  case removed = "Removed"
  case isolated = "Isolated"
  case mergedWithPrevious = "MergedWithPrevious"
  case mergedWithNext = "MergedWithNext"
  case contiguous = "Contiguous"

  init(_ section: TokenizerSection, _ key: String, default absent: SplitBehavior? = nil)
    throws(TokenizerError)
  {
    if let absent, section.optional(key) == nil {
      self = absent
      return
    }
    let name = try section.string(key)
    guard let behavior = SplitBehavior(rawValue: name) else {
      throw .unsupported("the behavior \(name)", at: "\(section.path).\(key)")
    }
    self = behavior
  }

  /// Appends the pieces of `range`; empty ones are left out.
  ///
  /// - Parameters:
  ///   - matches: inside `range`, in order, without overlap.
  ///   - inverted: whether the text between the matches takes their place.
  func split(
    _ range: Range<Int>, at matches: [Range<Int>], inverted: Bool, into pieces: inout [Range<Int>]
  ) {
    var parts: [(range: Range<Int>, matches: Bool)] = []
    var at = range.lowerBound
    for match in matches {
      if match.lowerBound > at { parts.append((at..<match.lowerBound, inverted)) }
      parts.append((match, !inverted))
      at = match.upperBound
    }
    if at < range.upperBound { parts.append((at..<range.upperBound, inverted)) }
    switch self {
    case .removed: parts.removeAll { $0.matches }
    case .isolated: break
    case .mergedWithPrevious: parts = Self.merge(parts) { $1.matches && !$0.matches }
    case .mergedWithNext: parts = Self.mergeBackwards(parts)
    case .contiguous: parts = Self.merge(parts) { $0.matches == $1.matches }
    }
    for part in parts where !part.range.isEmpty { pieces.append(part.range) }
  }

  private typealias Part = (range: Range<Int>, matches: Bool)

  private static func merge(_ parts: [Part], when joins: (Part, Part) -> Bool) -> [Part] {
    var merged: [Part] = []
    for (index, part) in parts.enumerated() {
      if index > 0, joins(parts[index - 1], part) {
        merged[merged.count - 1].range =
          merged[merged.count - 1].range.lowerBound..<part.range.upperBound
      } else {
        merged.append(part)
      }
    }
    return merged
  }

  private static func mergeBackwards(_ parts: [Part]) -> [Part] {
    var merged: [Part] = []
    for index in parts.indices.reversed() {
      let part = parts[index]
      if index + 1 < parts.count, part.matches, !parts[index + 1].matches {
        merged[merged.count - 1].range =
          part.range.lowerBound..<merged[merged.count - 1].range.upperBound
      } else {
        merged.append(part)
      }
    }
    return merged.reversed()
  }
}
