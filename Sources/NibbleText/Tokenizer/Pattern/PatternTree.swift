/// A parsed pattern.
indirect enum PatternTree: Hashable, Sendable {
  case set(ScalarSet)
  case sequence([PatternTree])
  /// The first alternative that leads to a match wins.
  case alternatives([PatternTree])
  case repeated(PatternTree, min: Int, max: Int?, lazy: Bool)
  case condition(Condition)

  /// A condition between two scalars; it consumes none.
  enum Condition: Hashable, Sendable {
    case next(ScalarSet, present: Bool)
    case previous(ScalarSet, present: Bool)
    case textStart
    case textEnd
    /// `\Z`: at the end, or before a line end that ends the text.
    case lastLineEnd
    case lineStart
    case lineEnd
    case wordBoundary(Bool)
  }
}
