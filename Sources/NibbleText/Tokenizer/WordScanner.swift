/// Splits text into words as the patterns of the best-known byte-level tokenizers do, without a
/// pattern engine. Every scalar belongs to exactly one word.
enum WordScanner: Hashable, Sendable {
  /// GPT-2: contractions, then letters, numbers or other scalars, each with one space before them.
  case gpt2
  /// GPT-4, Llama 3 (`digits` 3) and Qwen2 (`digits` 1): numbers in short groups, line ends apart.
  case gpt4(digits: Int)

  static let gpt2Pattern =
    #"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#

  static func gpt4Pattern(_ number: String) -> String {
    #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"# + number
      + #"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
  }

  /// GPT-4's own spelling: possessive, and one line end in place of several. The scalars before and
  /// after a possessive step exclude each other, and the white space before the last line end of a
  /// run is taken either way, so it finds the same words.
  static func possessivePattern(_ number: String) -> String {
    #"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|"# + number
      + #"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"#
  }

  /// The scanner with the same result as `pattern`, when the pattern is a known one.
  init?(pattern: String) {
    switch pattern {
    case Self.gpt2Pattern: self = .gpt2
    case Self.gpt4Pattern(#"\p{N}{1,3}"#), Self.possessivePattern(#"\p{N}{1,3}"#):
      self = .gpt4(digits: 3)
    case Self.gpt4Pattern(#"\p{N}"#), Self.possessivePattern(#"\p{N}"#): self = .gpt4(digits: 1)
    default: return nil
    }
  }

  /// Appends the words of `range`, in order; they cover it.
  func split(_ text: borrowing Span<UInt8>, _ range: Range<Int>, into words: inout [Range<Int>]) {
    var at = range.lowerBound
    while at < range.upperBound {
      let end =
        switch self {
        case .gpt2: Self.gpt2Word(text, at, range.upperBound)
        case .gpt4(let digits): Self.gpt4Word(text, at, range.upperBound, digits: digits)
        }
      words.append(at..<end)
      at = end
    }
  }

  private static func gpt2Word(_ text: borrowing Span<UInt8>, _ start: Int, _ end: Int) -> Int {
    let byte = text[start]
    if byte == UInt8(ascii: "'") {
      let length = contraction(text, start, end, anyCase: false)
      if length > 0 { return start + length }
    }
    let body = byte == UInt8(ascii: " ") ? start + 1 : start
    guard body < end else { return end }
    let first = text.scalar(at: body)
    let kind = ScalarClass(first.value)
    if kind.isSpace { return spaces(text, start, end) }
    if kind.isLetter {
      return run(text, body + first.length, end) { $0.isLetter }
    }
    if kind.isNumber {
      return run(text, body + first.length, end) { $0.isNumber }
    }
    return run(text, body + first.length, end) { !$0.isSpace && !$0.isLetter && !$0.isNumber }
  }

  private static func gpt4Word(
    _ text: borrowing Span<UInt8>, _ start: Int, _ end: Int, digits: Int
  ) -> Int {
    if text[start] == UInt8(ascii: "'") {
      let length = contraction(text, start, end, anyCase: true)
      if length > 0 { return start + length }
    }
    let first = text.scalar(at: start)
    let kind = ScalarClass(first.value)
    let second = start + first.length
    if kind.isLetter { return run(text, second, end) { $0.isLetter } }
    if kind.isNumber {
      var at = second
      var left = digits - 1
      while left > 0, at < end {
        let next = text.scalar(at: at)
        guard ScalarClass(next.value).isNumber else { break }
        at += next.length
        left -= 1
      }
      return at
    }
    let following = second < end ? text.scalar(at: second) : nil
    let followingKind = following.map { ScalarClass($0.value) }
    if let following, let followingKind, followingKind.isLetter, first.value != 0x0A,
      first.value != 0x0D
    {
      return run(text, second + following.length, end) { $0.isLetter }
    }
    var body: Int?
    if !kind.isSpace {
      body = second
    } else if first.value == 0x20, let following, let followingKind, !followingKind.isSpace,
      !followingKind.isNumber
    {
      body = second + following.length
    }
    guard let body else { return linesOrSpaces(text, start, end) }
    var at = run(text, body, end) { !$0.isSpace && !$0.isLetter && !$0.isNumber }
    while at < end, text[at] == 0x0A || text[at] == 0x0D { at += 1 }
    return at
  }

  @inline(__always)
  private static func run(
    _ text: borrowing Span<UInt8>, _ start: Int, _ end: Int, _ belongs: (ScalarClass) -> Bool
  ) -> Int {
    var at = start
    while at < end {
      let scalar = text.scalar(at: at)
      guard belongs(ScalarClass(scalar.value)) else { break }
      at += scalar.length
    }
    return at
  }

  /// `\s+(?!\S)|\s+`: white space up to the text's end, or all but the last scalar of the run.
  private static func spaces(_ text: borrowing Span<UInt8>, _ start: Int, _ end: Int) -> Int {
    let stop = run(text, start, end) { $0.isSpace }
    guard stop < end else { return stop }
    let last = stop - text.scalar(before: stop).length
    return last > start ? last : stop
  }

  /// `\s*[\r\n]+|\s+(?!\S)|\s+`: up to the last line end of the run, else as `spaces`.
  private static func linesOrSpaces(
    _ text: borrowing Span<UInt8>, _ start: Int, _ end: Int
  ) -> Int {
    var at = start
    var line: Int?
    while at < end {
      let scalar = text.scalar(at: at)
      guard ScalarClass(scalar.value).isSpace else { break }
      at += scalar.length
      if scalar.value == 0x0A || scalar.value == 0x0D { line = at }
    }
    return line ?? spaces(text, start, end)
  }

  /// The length of `'s 't 're 've 'm 'll 'd` at `start`, 0 when there is none. Without regard to
  /// case, U+017F (long s) counts as an s.
  private static func contraction(
    _ text: borrowing Span<UInt8>, _ start: Int, _ end: Int, anyCase: Bool
  ) -> Int {
    guard start + 1 < end else { return 0 }
    let fold: UInt8 = anyCase ? 0x20 : 0
    let first = text[start + 1]
    if anyCase, first == 0xC5, start + 2 < end, text[start + 2] == 0xBF { return 3 }
    guard first < 0x80 else { return 0 }
    let second = start + 2 < end ? text[start + 2] | fold : 0
    switch first | fold {
    case UInt8(ascii: "s"), UInt8(ascii: "t"), UInt8(ascii: "m"), UInt8(ascii: "d"): return 2
    case UInt8(ascii: "r"), UInt8(ascii: "v"): return second == UInt8(ascii: "e") ? 3 : 0
    case UInt8(ascii: "l"): return second == UInt8(ascii: "l") ? 3 : 0
    default: return 0
    }
  }
}
