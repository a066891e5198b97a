internal import NibbleFormats

/// The ids around an encoded text when special tokens are requested.
struct PostProcessor: Sendable {
  var prefix: [Int] = []
  var suffix: [Int] = []

  init(prefix: [Int] = [], suffix: [Int] = []) {
    self.prefix = prefix
    self.suffix = suffix
  }

  init(_ section: TokenizerSection) throws(TokenizerError) {
    for step in try section.flattened("processors") {
      switch try step.string("type") {
      case "ByteLevel": break
      case "TemplateProcessing": try readTemplate(step)
      case "BertProcessing", "RobertaProcessing":
        prefix.insert(try Self.pairedId(step, "cls"), at: 0)
        suffix.append(try Self.pairedId(step, "sep"))
      case let other: throw .unsupported("the post-processor \(other)", at: step.path)
      }
    }
  }

  /// The id of `"cls": ["[CLS]", 101]`.
  private static func pairedId(_ step: TokenizerSection, _ key: String) throws(TokenizerError)
    -> Int
  {
    guard let pair = try step.required(key).array, pair.count == 2, let id = pair[1].int else {
      throw .wrongKind("\(step.path).\(key)", expected: "a token and its id")
    }
    return id
  }

  private mutating func readTemplate(_ step: TokenizerSection) throws(TokenizerError) {
    var before: [Int] = []
    var after: [Int] = []
    var seesText = false
    for piece in try step.sections("single") {
      if let sequence = piece.optional("Sequence") {
        guard !seesText, sequence["id"] == "A" else {
          throw .unsupported("a template other than one text A", at: piece.path)
        }
        seesText = true
        continue
      }
      let special = TokenizerSection(
        json: try piece.required("SpecialToken"), path: "\(piece.path).SpecialToken")
      let ids = try Self.ids(of: special.string("id"), in: step)
      if seesText { after += ids } else { before += ids }
    }
    guard seesText else { throw .unsupported("a template without the text", at: step.path) }
    prefix = before + prefix
    suffix += after
  }

  private static func ids(of name: String, in step: TokenizerSection) throws(TokenizerError)
    -> [Int]
  {
    let path = "\(step.path).special_tokens"
    guard let token = try step.required("special_tokens")[name] else {
      throw .missing("\(path)[\"\(name)\"]")
    }
    guard let values = token["ids"]?.array else {
      throw .wrongKind("\(path)[\"\(name)\"].ids", expected: "an array")
    }
    let ids = values.compactMap(\.int)
    guard ids.count == values.count else {
      throw .wrongKind("\(path)[\"\(name)\"].ids", expected: "an array of ids")
    }
    return ids
  }
}
