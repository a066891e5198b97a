/// Holds back text that may be the start of a stop string. Texts are compared by their UTF-8 bytes,
/// so a line feed stops a text whether or not a carriage return precedes it.
struct StopFilter {
  private let stops: [[UInt8]]
  private var held: [UInt8] = []
  private(set) var isStopped = false

  init(stops: [String]) { self.stops = stops.filter { !$0.isEmpty }.map { Array($0.utf8) } }

  /// Text that can be shown now.
  mutating func append(_ piece: String) -> String {
    guard !isStopped else { return "" }
    guard !stops.isEmpty else { return piece }
    held += Array(piece.utf8)
    if let found = firstStop() {
      isStopped = true
      return String(decoding: held[..<found], as: UTF8.self)
    }
    let shown = held.dropLast(lengthOfStart())
    defer { held.removeFirst(shown.count) }
    return String(decoding: shown, as: UTF8.self)
  }

  /// The text held back, at the end of the answer.
  mutating func flush() -> String {
    defer { held = [] }
    return isStopped ? "" : String(decoding: held, as: UTF8.self)
  }

  private func firstStop() -> Int? {
    held.indices.first { start in stops.contains { held[start...].starts(with: $0) } }
  }

  /// Number of bytes at the end of `held` that begin a stop string: whole scalars, since a stop is
  /// valid UTF-8.
  private func lengthOfStart() -> Int {
    let longest = stops.map(\.count).max() ?? 0
    return stride(from: min(longest, held.count), to: 0, by: -1).first { length in
      stops.contains { $0.starts(with: held.suffix(length)) }
    } ?? 0
  }
}
