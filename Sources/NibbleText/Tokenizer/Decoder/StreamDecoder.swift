extension Tokenizer {
  /// Turns ids into text one at a time.
  ///
  /// A piece never ends inside a character: bytes are held until their scalar is complete. The
  /// pieces and the flush together equal `decode` of the same ids, except that runs of invalid
  /// bytes under byte fallback may give another number of U+FFFD, since they are not held until
  /// their end. Where a decoder needs the whole text, all of it comes with the flush.
  public struct StreamDecoder: Sendable {
    private let tokenizer: Tokenizer
    private let skipSpecialTokens: Bool
    private let plan: StreamPlan?
    /// Bytes of an incomplete scalar.
    private var pending: [UInt8] = []
    /// Every id so far, when there is no plan.
    private var waiting: [Int] = []
    private var isFirst = true
    private var stripsLeft: Int

    public init(_ tokenizer: Tokenizer, skipSpecialTokens: Bool) {
      self.tokenizer = tokenizer
      self.skipSpecialTokens = skipSpecialTokens
      plan = StreamPlan(tokenizer.decoder)
      stripsLeft = plan?.stripCount ?? 0
    }

    /// The text that this id completes; may be empty or come from several ids.
    public mutating func append(_ id: Int) -> String {
      guard let plan else {
        waiting.append(id)
        return ""
      }
      guard let token = tokenizer.decoded(id, skipSpecialTokens: skipSpecialTokens) else {
        return ""
      }
      var bytes = plan.bytes(of: token, isFirst: isFirst)
      isFirst = false
      while stripsLeft > 0, !bytes.isEmpty {
        guard bytes.starts(with: plan.stripped) else {
          stripsLeft = 0
          break
        }
        bytes.removeFirst(plan.stripped.count)
        stripsLeft -= 1
      }
      pending += bytes
      let incomplete = Self.incompleteTail(pending)
      let piece = String(decoding: pending.dropLast(incomplete), as: UTF8.self)
      pending = pending.suffix(incomplete)
      return piece
    }

    /// The remaining text, with U+FFFD in place of bytes that never became a character.
    public mutating func flush() -> String {
      defer {
        pending = []
        waiting = []
        isFirst = true
        stripsLeft = plan?.stripCount ?? 0
      }
      guard plan != nil else {
        return tokenizer.decode(waiting, skipSpecialTokens: skipSpecialTokens)
      }
      return String(decoding: pending, as: UTF8.self)
    }

    /// How many bytes at the end begin a scalar that further bytes could complete, 0...3.
    static func incompleteTail(_ bytes: [UInt8]) -> Int {
      for count in 1...3 where count <= bytes.count {
        let tail = bytes.suffix(count)
        guard let first = tail.first, first & 0xC0 != 0x80 else { continue }
        let length =
          switch first {
          case 0xC2...0xDF: 2
          case 0xE0...0xEF: 3
          case 0xF0...0xF4: 4
          default: 0
          }
        guard count < length else { return 0 }
        guard let second = tail.dropFirst().first else { return count }
        let seconds: ClosedRange<UInt8> =
          switch first {
          case 0xE0: 0xA0...0xBF
          case 0xED: 0x80...0x9F
          case 0xF0: 0x90...0xBF
          case 0xF4: 0x80...0x8F
          default: 0x80...0xBF
          }
        return seconds.contains(second) ? count : 0
      }
      return 0
    }
  }
}

/// How one token at a time is turned into bytes, for decoders whose steps allow it.
struct StreamPlan: Sendable {
  private var perToken: [TokenDecoder.Step] = []
  private var joinsByteTokens = false
  /// Bytes stripped from the start of the whole text, and how often at most.
  private(set) var stripped: [UInt8] = []
  private(set) var stripCount = 0

  /// nil when a step looks at more than one token, or at the end of the text.
  init?(_ decoder: TokenDecoder) {
    guard let steps = decoder.steps else { return nil }
    var isFused = false
    for step in steps {
      switch step {
      case .replace, .metaspace:
        guard !isFused, !joinsByteTokens else { return nil }
        perToken.append(step)
      case .byteFallback:
        guard !isFused else { return nil }
        joinsByteTokens = true
      case .byteLevel:
        guard !isFused, !joinsByteTokens else { return nil }
        perToken.append(step)
        isFused = true
      case .fuse: isFused = true
      case .strip(let content, let start, let stop):
        guard isFused, stop == 0, stripCount == 0 else { return nil }
        (stripped, stripCount) = (content, start)
      case .wordSuffix: return nil
      }
    }
  }

  func bytes(of token: [UInt8], isFirst: Bool) -> [UInt8] {
    var bytes = token
    for step in perToken {
      switch step {
      case .replace(let pattern, let content):
        bytes = pattern.replacing(in: bytes, with: content)
      case .metaspace(let mark, let dropsFirst):
        bytes = TextPattern.literal(mark).replacing(
          in: bytes, with: isFirst && dropsFirst ? [] : [0x20])
      case .byteLevel: bytes = ByteLevel.decode(bytes[...]) ?? bytes
      default: break
      }
    }
    if joinsByteTokens, let byte = ByteFallback.byte(of: bytes) { return [byte] }
    return bytes
  }
}
