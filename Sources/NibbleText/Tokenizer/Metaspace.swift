internal import NibbleFormats

/// SentencePiece's handling of spaces: each is replaced by a visible mark, `▁`.
struct Metaspace: Sendable {
  /// When a mark is put before text that does not begin with one.
  enum Prepend: String, Sendable {
    case first
    case always
    case never
  }

  var mark: [UInt8]
  var prepend: Prepend
  var splits: Bool

  init(_ step: TokenizerSection) throws(TokenizerError) {
    mark = []
    mark.append(try step.scalar("replacement", default: "\u{2581}"))
    splits = try step.bool("split", default: true)
    let legacy = try step.bool("add_prefix_space", default: true)
    if let name = try step.optionalString("prepend_scheme") {
      guard let scheme = Prepend(rawValue: name) else {
        throw .unsupported("the prepend scheme \(name)", at: step.path)
      }
      guard legacy || scheme == .never else {
        throw .unsupported("both add_prefix_space false and \(name)", at: step.path)
      }
      prepend = scheme
    } else {
      prepend = legacy ? .always : .never
    }
  }

  /// - Parameter isFirst: whether the piece begins the whole text.
  func apply(_ piece: borrowing Span<UInt8>, isFirst: Bool) -> [UInt8] {
    var text: [UInt8] = []
    text.reserveCapacity(piece.count + mark.count)
    for at in piece.indices {
      if piece[at] == 0x20 { text += mark } else { text.append(piece[at]) }
    }
    let wanted = prepend == .always || (prepend == .first && isFirst)
    return wanted && !text.starts(with: mark) ? mark + text : text
  }
}
