internal import Foundation

/// A vocabulary in tiktoken's format: per line a token in base64, a space and its rank.
struct TiktokenFile {
  /// By rank, each different; ranks run from 0 without a gap.
  private(set) var tokens: [[UInt8]] = []

  /// - Parameter file: the file's name in errors.
  init(_ bytes: [UInt8], file: String) throws(TokenizerError) {
    var ranked: [(token: [UInt8], rank: Int)] = []
    let lines = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
    for (number, line) in lines.enumerated() {
      let line = line.last == UInt8(ascii: "\r") ? line.dropLast() : line
      if line.isEmpty { continue }
      func bad(_ reason: String) -> TokenizerError {
        .badFile(file, reason: "line \(number + 1) \(reason)")
      }
      let parts = line.split(separator: UInt8(ascii: " "), omittingEmptySubsequences: false)
      guard parts.count == 2 else { throw bad("is not a token and its rank") }
      guard let token = Data(base64Encoded: Data(parts[0])), !token.isEmpty else {
        throw bad("holds no token in base64")
      }
      guard let rank = Self.rank(parts[1]) else {
        throw bad("holds no rank in 0..<\(Vocabulary.idLimit)")
      }
      ranked.append(([UInt8](token), rank))
    }
    guard !ranked.isEmpty else { throw .badFile(file, reason: "it holds no tokens") }
    ranked.sort { $0.rank < $1.rank }
    var known = ByteTable()
    for (place, entry) in ranked.enumerated() {
      guard entry.rank == place else {
        throw .badFile(
          file,
          reason: entry.rank < place
            ? "two tokens have the rank \(entry.rank)" : "no token has the rank \(place)")
      }
      guard known.insert(entry.token.span, place) else {
        throw .badFile(file, reason: "the token of rank \(place) stands twice")
      }
      tokens.append(entry.token)
    }
    for byte in UInt8.min...UInt8.max where known.value(for: [byte].span) == nil {
      throw .badFile(file, reason: "the byte \(byte) is no token of its own")
    }
  }

  private static func rank(_ digits: ArraySlice<UInt8>) -> Int? {
    guard !digits.isEmpty, digits.count <= 7 else { return nil }
    var rank = 0
    for digit in digits {
      guard (0x30...0x39).contains(digit) else { return nil }
      rank = rank * 10 + Int(digit - 0x30)
    }
    return rank < Vocabulary.idLimit ? rank : nil
  }
}
