import Foundation
public import NibbleFormats

/// Marks of the windows that a model was calibrated on. A text in which one of them occurs was partly
/// learned, so that measurements on it say less about other texts.
///
/// A mark is the hash of a window's last tokens.
public struct CalibrationMarks: Hashable, Sendable {
  /// Tokens per mark. Shorter windows have none.
  public static let length = 32

  private let hashes: Set<UInt64>

  public var isEmpty: Bool { hashes.isEmpty }
  public var count: Int { hashes.count }

  public init(_ windows: [[Int]]) {
    hashes = Set(
      windows.filter { $0.count >= Self.length }.map { Self.hash($0.suffix(Self.length)) })
  }

  /// Reads those in a model's report. Empty if there are none, or if they are not readable.
  public init(report: JSON) {
    let texts = report["calibration_marks"]?.array ?? []
    hashes = Set(texts.compactMap { $0.string.flatMap { UInt64($0, radix: 16) } })
  }

  private init(_ hashes: Set<UInt64>) { self.hashes = hashes }

  /// These, and those of more windows.
  package func adding(_ windows: [[Int]]) -> CalibrationMarks {
    CalibrationMarks(hashes.union(CalibrationMarks(windows).hashes))
  }

  /// As they are written in a report.
  package var json: JSON {
    .array(
      hashes.sorted().map { hash in
        let digits = String(hash, radix: 16)
        return .string(String(repeating: "0", count: 16 - digits.count) + digits)
      })
  }

  /// Number of windows that occur in a text.
  public func occurrences(in tokens: [Int]) -> Int {
    guard !isEmpty, tokens.count >= Self.length else { return 0 }
    var found: Set<UInt64> = []
    for first in 0...tokens.count - Self.length {
      let hash = Self.hash(tokens[first..<first + Self.length])
      if hashes.contains(hash) { found.insert(hash) }
    }
    return found.count
  }

  /// FNV-1a of the tokens.
  private static func hash(_ tokens: ArraySlice<Int>) -> UInt64 {
    tokens.reduce(0xcbf2_9ce4_8422_2325) {
      ($0 ^ UInt64(truncatingIfNeeded: $1)) &* 0x100_0000_01b3
    }
  }
}
