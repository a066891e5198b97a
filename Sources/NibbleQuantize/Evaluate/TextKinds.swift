public import NibbleText

/// The kind of text that each token of some windows belongs to, such as code.
public struct TextKinds: Sendable, Hashable {
  /// In the order of the text.
  public let names: [String]
  /// Per window, the index in `names` of each token.
  public let windows: [[Int]]

  /// - Parameters:
  ///   - text: index in `names` of each token of the text.
  ///   - ranges: the tokens of each window.
  ///   - beginning: number of tokens before each window; they get the kind of its first one.
  init(_ names: [String], of text: [Int], in ranges: [Range<Int>], beginning: Int) {
    self.names = names
    windows = ranges.map { range in
      [Int](repeating: text[range.lowerBound], count: beginning) + text[range]
    }
  }
}

extension BuiltinText {
  /// The kinds of the tokens of ``heldOut``, for windows cut from its tokens.
  ///
  /// The kinds end where the tokens of the text so far do, counted without the rest.
  ///
  /// - Parameters:
  ///   - ranges: the tokens of each window; not empty, and within the text.
  ///   - beginning: number of tokens before each window.
  public static func heldOutKinds(
    of ranges: [Range<Int>], beginning: Int, with tokenizer: Tokenizer
  ) -> TextKinds {
    let total = max(tokenizer.encode(heldOut).count, ranges.map(\.upperBound).max() ?? 0)
    var kinds: [Int] = []
    for index in heldOutParts.indices {
      let text = heldOutParts[...index].map(\.text).joined(separator: "\n")
      let end =
        index == heldOutParts.count - 1 ? total : min(total, tokenizer.encode(text).count)
      kinds += [Int](repeating: index, count: max(0, end - kinds.count))
    }
    return TextKinds(heldOutParts.map(\.kind), of: kinds, in: ranges, beginning: beginning)
  }
}
