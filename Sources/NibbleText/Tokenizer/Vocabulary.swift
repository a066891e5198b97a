/// The tokens of a model by id and by their exact bytes.
struct Vocabulary: Sendable {
  /// Ids at or above this are refused, so that a file cannot make Nibble reserve memory that it
  /// never fills.
  static let idLimit = 1 << 21

  private var bytes: [UInt8] = []
  /// Range of each id's token in `bytes`; nil for an id without a token.
  private var places: [Range<Int>?] = []
  private var ids = ByteTable()

  /// Highest id + 1.
  var size: Int { places.count }

  func id(of token: borrowing Span<UInt8>) -> Int? { ids.value(for: token) }

  func id(of token: String) -> Int? {
    let bytes = Array(token.utf8)
    return ids.value(for: bytes.span)
  }

  func id(of token: [UInt8]) -> Int? { ids.value(for: token.span) }

  func token(_ id: Int) -> ArraySlice<UInt8>? {
    guard places.indices.contains(id), let place = places[id] else { return nil }
    return bytes[place]
  }

  mutating func add(_ token: [UInt8], id: Int) throws(TokenizerError) {
    func refuse(_ reason: String) -> TokenizerError {
      .badIdentifier(id, token: String(decoding: token, as: UTF8.self), reason: reason)
    }
    guard id >= 0, id < Self.idLimit else { throw refuse("is outside 0..<\(Self.idLimit)") }
    guard token.count < 1 << 20 else {
      throw .tooLong("a token in bytes", length: token.count, limit: 1 << 20)
    }
    if places.count <= id {
      places.append(contentsOf: repeatElement(nil, count: id + 1 - places.count))
    }
    guard places[id] == nil else { throw refuse("belongs to another token as well") }
    guard ids.insert(token.span, id) else { throw refuse("is a second id of that token") }
    places[id] = bytes.count..<bytes.count + token.count
    bytes += token
  }
}
