internal import NibbleFormats

/// A SentencePiece `tokenizer.model`: its pieces, and the settings that determine how text is split
/// into pieces.
///
/// Fields for training are skipped. Source: `sentencepiece_model.proto` of SentencePiece 0.2.
struct SentencePieceModel: Sendable {
  enum Kind: Int, Sendable {
    case unigram = 1
    case bytePairs = 2
    case words = 3
    case characters = 4
  }

  struct Piece: Sendable {
    enum Kind: Int, Sendable {
      case normal = 1
      case unknown = 2
      case control = 3
      case userDefined = 4
      case unused = 5
      case byte = 6
    }

    var text = ""
    var score: Float = 0
    var kind = Kind.normal
  }

  let file: String
  /// By id, each text different and none empty.
  private(set) var pieces: [Piece] = []
  private(set) var kind = Kind.unigram
  private(set) var fallsBackToBytes = false
  private(set) var charsmap: [UInt8] = []
  /// Whether a space is put before a text.
  private(set) var addsDummyPrefix = true
  private(set) var removesExtraSpaces = true
  private(set) var unknown = 0
  /// The pieces for begin, end and padding; nil where the model has none.
  private(set) var begin: String? = "<s>"
  private(set) var end: String? = "</s>"
  private(set) var padding: String?

  private var escapesSpaces = true
  private var putsSpacesBehind = false
  private var unknownID = 0
  private var ids = (begin: 1, end: 2, padding: -1)
  private var names = (unknown: "<unk>", begin: "<s>", end: "</s>", padding: "<pad>")

  /// - Parameter file: the file's name in errors.
  init(_ bytes: [UInt8], file: String = "tokenizer.model") throws(TokenizerError) {
    self.file = file
    var reader = ProtobufReader(file: file, bytes)
    while let field = try reader.next() {
      switch field.number {
      case 1:
        guard pieces.count < Vocabulary.idLimit else {
          throw .tooLong(
            "the list of pieces", length: pieces.count + 1, limit: Vocabulary.idLimit)
        }
        pieces.append(try Self.piece(reader, field))
      case 2: try readTraining(reader, field)
      case 3: try readNormalizer(reader, field)
      case 4: _ = try reader.range(field)
      case 5: try checkDenormalizer(reader, field)
      default:
        throw reader.bad(field.at, "the model has a field \(field.number), which is not known")
      }
    }
    try check()
  }

  private static func piece(
    _ outer: ProtobufReader, _ field: ProtobufReader.Field
  ) throws(TokenizerError) -> Piece {
    var reader = ProtobufReader(file: outer.file, outer.bytes, try outer.range(field))
    var piece = Piece()
    while let field = try reader.next() {
      switch field.number {
      case 1: piece.text = try reader.text(field)
      case 2: piece.score = try reader.float(field)
      case 3:
        guard let kind = Piece.Kind(rawValue: try reader.integer(field)) else {
          throw reader.bad(field.at, "a piece of a type that is not known")
        }
        piece.kind = kind
      default:
        throw reader.bad(field.at, "a piece has a field \(field.number), which is not known")
      }
    }
    guard !piece.text.isEmpty else { throw outer.bad(field.at, "a piece is empty") }
    return piece
  }

  private mutating func readTraining(
    _ outer: ProtobufReader, _ field: ProtobufReader.Field
  ) throws(TokenizerError) {
    var reader = ProtobufReader(file: file, outer.bytes, try outer.range(field))
    while let field = try reader.next() {
      switch field.number {
      case 3:
        guard let kind = Kind(rawValue: try reader.integer(field)) else {
          throw reader.bad(field.at, "a model of a type that is not known")
        }
        self.kind = kind
      case 24: putsSpacesBehind = try reader.flag(field)
      case 35: fallsBackToBytes = try reader.flag(field)
      case 40: unknownID = try reader.integer(field)
      case 41: ids.begin = try reader.integer(field)
      case 42: ids.end = try reader.integer(field)
      case 43: ids.padding = try reader.integer(field)
      case 45: names.unknown = try reader.text(field)
      case 46: names.begin = try reader.text(field)
      case 47: names.end = try reader.text(field)
      case 48: names.padding = try reader.text(field)
      default: break
      }
    }
  }

  private mutating func readNormalizer(
    _ outer: ProtobufReader, _ field: ProtobufReader.Field
  ) throws(TokenizerError) {
    var reader = ProtobufReader(file: file, outer.bytes, try outer.range(field))
    while let field = try reader.next() {
      switch field.number {
      case 1: _ = try reader.text(field)
      case 2: charsmap = Array(reader.bytes[try reader.range(field)])
      case 3: addsDummyPrefix = try reader.flag(field)
      case 4: removesExtraSpaces = try reader.flag(field)
      case 5: escapesSpaces = try reader.flag(field)
      case 6: _ = try reader.range(field)
      default:
        throw reader.bad(field.at, "the normalizer has a field \(field.number), not known")
      }
    }
  }

  /// Decoding must only reverse the escaping of spaces; a denormalizer with rules of its own is
  /// refused.
  private func checkDenormalizer(
    _ outer: ProtobufReader, _ field: ProtobufReader.Field
  ) throws(TokenizerError) {
    var reader = ProtobufReader(file: file, outer.bytes, try outer.range(field))
    while let field = try reader.next() {
      guard field.number == 2 else { continue }
      guard try reader.range(field).isEmpty else {
        throw .unknownKind(file: file, reason: "Nibble does not apply its denormalizer's rules")
      }
    }
  }

  private mutating func check() throws(TokenizerError) {
    guard !pieces.isEmpty else {
      throw .badFile(file, reason: "it holds no pieces, so it is no SentencePiece model")
    }
    guard kind == .unigram || kind == .bytePairs else {
      throw .unknownKind(file: file, reason: "Nibble does not run its model of \(kind)")
    }
    guard escapesSpaces, !putsSpacesBehind else {
      throw .unknownKind(
        file: file, reason: "Nibble puts the mark of a space before a word, not behind it")
    }
    var known: Set<UTF8Key> = []
    for (id, piece) in pieces.enumerated() where !known.insert(UTF8Key(piece.text)).inserted {
      throw .badFile(file, reason: "piece \(id), \"\(shown(piece.text))\", stands twice")
    }
    let unknowns = pieces.indices.filter { pieces[$0].kind == .unknown }
    guard unknowns.count == 1 else {
      throw .badFile(file, reason: "\(unknowns.count) pieces stand for unknown text, not one")
    }
    unknown = unknowns[0]
    func named(_ id: Int, _ name: String) -> String? {
      id >= 0 && known.contains(UTF8Key(name)) ? name : nil
    }
    begin = named(ids.begin, names.begin)
    end = named(ids.end, names.end)
    padding = named(ids.padding, names.padding)
  }
}
