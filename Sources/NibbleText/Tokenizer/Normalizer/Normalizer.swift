internal import NibbleFormats

/// The steps that rewrite text before it is split.
struct Normalizer: Sendable {
  enum Step: Sendable {
    case form(NormalizationForm)
    case lowercase
    case strip(left: Bool, right: Bool)
    case stripAccents
    case replace(TextPattern, [UInt8])
    case prepend([UInt8])
    case charsmap(Charsmap)
    case byteLevel
  }

  var steps: [Step] = []

  init() {}

  init(_ section: TokenizerSection) throws(TokenizerError) {
    let sections = try section.flattened("normalizers")
    guard sections.count <= Self.stepLimit else {
      throw .unsupported("more than \(Self.stepLimit) steps", at: section.path)
    }
    var growth = 1
    for section in sections {
      let step = try Self.read(section)
      growth *= min(step.growth, Self.growthLimit + 1)
      guard growth <= Self.growthLimit else {
        throw .unsupported(
          "a step that may make a text more than \(Self.growthLimit) times as long, with those before it",
          at: section.path)
      }
      steps.append(step)
    }
  }

  static let stepLimit = 256
  /// Largest number of bytes that one byte may become. The steps of published tokenizers, each at
  /// its worst, multiply to about 1,500.
  static let growthLimit = 2048

  private static func read(_ step: TokenizerSection) throws(TokenizerError) -> Step {
    switch try step.string("type") {
    case "NFC": .form(.nfc)
    case "NFD": .form(.nfd)
    case "NFKC": .form(.nfkc)
    case "NFKD": .form(.nfkd)
    case "Lowercase": .lowercase
    case "Strip":
      .strip(
        left: try step.bool("strip_left", default: true),
        right: try step.bool("strip_right", default: true))
    case "StripAccents": .stripAccents
    case "Replace":
      .replace(try TextPattern(step, "pattern"), Array(try step.string("content").utf8))
    case "Prepend": .prepend(Array(try step.string("prepend").utf8))
    case "Precompiled":
      .charsmap(
        try Charsmap(
          base64: step.string("precompiled_charsmap"), path: "\(step.path).precompiled_charsmap"))
    case "ByteLevel": .byteLevel
    case let other: throw .unsupported("the normalizer \(other)", at: step.path)
    }
  }

  func normalize(_ text: [UInt8]) -> [UInt8] {
    var text = text
    for step in steps { text = step.apply(to: text) }
    return text
  }

  /// Also returns whether the beginning of the text was kept. In Hugging Face's code text whose
  /// beginning was removed no longer counts as the start of the input.
  func normalizeFromStart(_ text: [UInt8]) -> (text: [UInt8], keepsStart: Bool) {
    guard !text.isEmpty else { return (text, true) }
    var text = text
    /// The first scalar after the steps so far, by itself.
    var head = Array(text[..<text.span.scalar(at: 0).length])
    var keepsStart = true
    for step in steps {
      if step.dropsStart(of: text, head: head) { keepsStart = false }
      if case .prepend = step {} else { head = step.apply(to: head) }
      text = step.apply(to: text)
    }
    return (text, keepsStart)
  }
}

extension Normalizer.Step {
  /// Largest number of bytes that one byte may become in this step.
  ///
  /// Source for the forms: Unicode Standard Annex 15, table of expansion factors in UTF-8.
  var growth: Int {
    switch self {
    case .form(let form): form == .nfc || form == .nfd ? 3 : 11
    case .lowercase, .byteLevel: 2
    case .strip, .stripAccents: 1
    case .replace(.literal(let wanted), let content):
      max(1, (content.count + wanted.count - 1) / wanted.count)
    // A match may be empty, before each character and at the end.
    case .replace(.expression, let content): 1 + 2 * content.count
    case .prepend(let prefix): 1 + prefix.count
    case .charsmap(let map): max(1, map.longestReplacement)
    }
  }

  func apply(to text: [UInt8]) -> [UInt8] {
    switch self {
    case .form(let form): form.apply(to: text)
    case .lowercase: Self.lowercase(text)
    case .strip(let left, let right): Self.strip(text, left: left, right: right)
    case .stripAccents: Self.stripMarks(text)
    case .replace(let pattern, let content): pattern.replacing(in: text, with: content)
    case .prepend(let prefix): text.isEmpty ? text : prefix + text
    case .charsmap(let map): map.apply(to: text)
    case .byteLevel: ByteLevel.encode(text)
    }
  }

  /// Whether the step removes the beginning of the text and puts nothing in its place.
  fileprivate func dropsStart(of text: [UInt8], head: [UInt8]) -> Bool {
    guard !text.isEmpty else { return false }
    let first = text.span.scalar(at: 0)
    switch self {
    case .strip(let left, _): return left && Self.strip(head, left: true, right: false).isEmpty
    case .stripAccents: return NormalizationData.isMark(first.value)
    case .replace(let pattern, let content):
      guard content.isEmpty else { return false }
      let match = pattern.matches(in: text.span, 0..<text.count).first
      return match?.lowerBound == 0 && match?.isEmpty == false
    case .charsmap(let map): return map.apply(to: Array(text[..<first.length])).isEmpty
    case .form, .lowercase, .prepend, .byteLevel: return false
    }
  }

  /// Scalar by scalar: the lower case of a letter does not depend on its neighbours.
  private static func lowercase(_ text: [UInt8]) -> [UInt8] {
    var result: [UInt8] = []
    result.reserveCapacity(text.count)
    for scalar in String(decoding: text, as: UTF8.self).unicodeScalars {
      if scalar.isASCII {
        let byte = UInt8(scalar.value)
        result.append(byte >= 0x41 && byte <= 0x5A ? byte | 0x20 : byte)
      } else {
        result += scalar.properties.lowercaseMapping.utf8
      }
    }
    return result
  }

  private static func strip(_ text: [UInt8], left: Bool, right: Bool) -> [UInt8] {
    let span = text.span
    var (start, end) = (0, text.count)
    while left, start < end {
      let scalar = span.scalar(at: start)
      guard ScalarClass(scalar.value).isSpace else { break }
      start += scalar.length
    }
    while right, end > start {
      let scalar = span.scalar(before: end)
      guard ScalarClass(scalar.value).isSpace else { break }
      end -= scalar.length
    }
    return Array(text[start..<end])
  }

  private static func stripMarks(_ text: [UInt8]) -> [UInt8] {
    let span = text.span
    var result: [UInt8] = []
    var at = 0
    while at < text.count {
      let scalar = span.scalar(at: at)
      if !NormalizationData.isMark(scalar.value) { result += text[at..<at + scalar.length] }
      at += scalar.length
    }
    return result
  }
}
