internal import NibbleFormats

/// The steps that turn tokens back into text.
struct TokenDecoder: Sendable {
  enum Step: Sendable {
    case byteLevel
    case byteFallback
    case fuse
    case strip([UInt8], start: Int, stop: Int)
    case replace(TextPattern, [UInt8])
    /// `dropsFirst`: marks in the first token are dropped, not turned into spaces.
    case metaspace(mark: [UInt8], dropsFirst: Bool)
    /// The end-of-word suffix becomes a space, or nothing in the last token.
    case wordSuffix([UInt8])
  }

  /// nil when the file names no decoder: tokens are then joined by spaces.
  var steps: [Step]?

  init(_ section: TokenizerSection?) throws(TokenizerError) {
    guard let section else { return }
    var read: [Step] = []
    for step in try section.flattened("decoders") { read.append(try Self.read(step)) }
    steps = read
  }

  private static func read(_ step: TokenizerSection) throws(TokenizerError) -> Step {
    switch try step.string("type") {
    case "ByteLevel": return .byteLevel
    case "ByteFallback": return .byteFallback
    case "Fuse": return .fuse
    case "Strip":
      var content: [UInt8] = []
      content.append(try step.scalar("content", default: " "))
      return .strip(
        content, start: max(try step.integer("start"), 0), stop: max(try step.integer("stop"), 0))
    case "Replace":
      return .replace(try TextPattern(step, "pattern"), Array(try step.string("content").utf8))
    case "Metaspace":
      let metaspace = try Metaspace(step)
      return .metaspace(mark: metaspace.mark, dropsFirst: metaspace.prepend != .never)
    case "BPEDecoder":
      let suffix = try step.optionalString("suffix") ?? "</w>"
      return .wordSuffix(Array(suffix.utf8))
    case let other: throw .unsupported("the decoder \(other)", at: step.path)
    }
  }

  /// The text of tokens, as bytes that may be invalid UTF-8 where a step leaves them so.
  func decode(_ tokens: [[UInt8]]) -> [UInt8] {
    guard let steps else { return Array(tokens.joined(separator: [0x20])) }
    var tokens = tokens
    for step in steps { tokens = Self.apply(step, to: tokens) }
    return Array(tokens.joined())
  }

  private static func apply(_ step: Step, to tokens: [[UInt8]]) -> [[UInt8]] {
    switch step {
    case .byteLevel:
      let raw = tokens.flatMap { ByteLevel.decode($0[...]) ?? $0 }
      return [Array(String(decoding: raw, as: UTF8.self).utf8)]
    case .byteFallback: return joinBytes(tokens)
    case .fuse: return [Array(tokens.joined())]
    case .strip(let content, let start, let stop):
      return tokens.map { strip($0, content, start: start, stop: stop) }
    case .replace(let pattern, let content):
      return tokens.map { pattern.replacing(in: $0, with: content) }
    case .metaspace(let mark, let dropsFirst):
      let pattern = TextPattern.literal(mark)
      return tokens.enumerated().map { index, token in
        pattern.replacing(in: token, with: index == 0 && dropsFirst ? [] : [0x20])
      }
    case .wordSuffix(let suffix):
      guard !suffix.isEmpty else { return tokens }
      let pattern = TextPattern.literal(suffix)
      return tokens.enumerated().map { index, token in
        pattern.replacing(in: token, with: index == tokens.count - 1 ? [] : [0x20])
      }
    }
  }

  /// Runs of byte tokens become text when they are valid UTF-8, else one U+FFFD for each byte.
  private static func joinBytes(_ tokens: [[UInt8]]) -> [[UInt8]] {
    var result: [[UInt8]] = []
    var run: [UInt8] = []
    func flush() {
      guard !run.isEmpty else { return }
      if String(validating: run, as: UTF8.self) != nil {
        result.append(run)
      } else {
        result += run.map { _ in Array("\u{FFFD}".utf8) }
      }
      run = []
    }
    for token in tokens {
      if let byte = ByteFallback.byte(of: token) {
        run.append(byte)
      } else {
        flush()
        result.append(token)
      }
    }
    flush()
    return result
  }

  static func strip(_ token: [UInt8], _ content: [UInt8], start: Int, stop: Int) -> [UInt8] {
    var rest = token[...]
    for _ in 0..<start {
      guard rest.starts(with: content) else { break }
      rest = rest.dropFirst(content.count)
    }
    for _ in 0..<stop {
      guard rest.suffix(content.count).elementsEqual(content) else { break }
      rest = rest.dropLast(content.count)
    }
    return Array(rest)
  }
}
