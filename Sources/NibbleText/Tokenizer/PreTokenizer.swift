internal import NibbleFormats

/// The steps that split text into words before the model sees it.
struct PreTokenizer: Sendable {
  enum Step: Sendable {
    /// Splits by GPT-2's pattern when `splits`; writes bytes as printable characters unless the
    /// model takes raw bytes.
    case byteLevel(prefixesSpace: Bool, splits: Bool)
    case scan(WordScanner)
    case split(TextPattern, SplitBehavior, inverted: Bool)
    /// Splits around each scalar of a set.
    case cut(ScalarSet, SplitBehavior, inverted: Bool)
    /// Keeps runs of `\w` and runs of characters that are neither `\w` nor `\s`.
    case words
    case metaspace(Metaspace)
  }

  var steps: [Step] = []

  init() {}

  init(_ section: TokenizerSection) throws(TokenizerError) {
    for step in try section.flattened("pretokenizers") { steps += try Self.read(step) }
  }

  /// Whether words are byte-level encoded at the very end, and nowhere before.
  var endsByteLevel: Bool {
    let places = steps.indices.filter { if case .byteLevel = steps[$0] { true } else { false } }
    return places == [steps.count - 1]
  }

  private static func read(_ step: TokenizerSection) throws(TokenizerError) -> [Step] {
    let numbers = ScalarSet(members: [.categories(Category.number)])
    let space = ScalarSet(members: [.space])
    switch try step.string("type") {
    case "ByteLevel":
      return [
        .byteLevel(
          prefixesSpace: try step.bool("add_prefix_space", default: true),
          splits: try step.bool("use_regex", default: true))
      ]
    case "Split": return [try split(step)]
    case "Digits":
      let each = try step.bool("individual_digits", default: false)
      return [.cut(numbers, each ? .isolated : .contiguous, inverted: false)]
    case "Metaspace": return [.metaspace(try Metaspace(step))]
    case "Whitespace": return [.words]
    case "WhitespaceSplit": return [.cut(space, .removed, inverted: false)]
    case "CharDelimiterSplit":
      let delimiter = try step.scalar("delimiter", default: " ").value
      return [.cut(.range(delimiter...delimiter), .removed, inverted: false)]
    case "Punctuation":
      let behavior = try SplitBehavior(step, "behavior", default: .isolated)
      return [.cut(punctuation, behavior, inverted: false)]
    case "BertPreTokenizer":
      return [
        .cut(space, .removed, inverted: false), .cut(punctuation, .isolated, inverted: false),
      ]
    case let other: throw .unsupported("the pre-tokenizer \(other)", at: step.path)
    }
  }

  private static let punctuation = ScalarSet(members: [.punctuation])

  private static func split(_ step: TokenizerSection) throws(TokenizerError) -> Step {
    let behavior = try SplitBehavior(step, "behavior")
    let inverted = try step.bool("invert", default: false)
    // A known scanner leaves nothing between its words, so these behaviors all split in the same
    // way.
    let keepsAll = behavior == .isolated && !inverted || behavior == .removed && inverted
    if keepsAll, let pattern = step.optional("pattern")?["Regex"]?.string,
      let scanner = WordScanner(pattern: pattern)
    {
      return .scan(scanner)
    }
    return .split(try TextPattern(step, "pattern"), behavior, inverted: inverted)
  }
}
