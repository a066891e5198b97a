/// A version of an engine: numbers between dots, compared one by one. `0.10` is newer than `0.9`.
public struct EngineVersion: Hashable, Sendable {
  /// At most four numbers.
  public let numbers: [Int]

  /// Nil for text that is no version.
  public init?(_ text: String) {
    let parts = text.split(separator: ".", omittingEmptySubsequences: false)
    let numbers = parts.compactMap { part in
      part.utf8.allSatisfy { (0x30...0x39).contains($0) } ? Int(part) : nil
    }
    guard (1...4).contains(parts.count), numbers.count == parts.count else { return nil }
    self.numbers = numbers
  }
}

extension EngineVersion: Comparable {
  public static func < (left: Self, right: Self) -> Bool {
    left.numbers.lexicographicallyPrecedes(right.numbers)
  }
}

extension EngineVersion: CustomStringConvertible {
  public var description: String { numbers.map { "\($0)" }.joined(separator: ".") }
}

/// The versions from the first to the last. The last stands for all its patches: `0.6...0.10` holds
/// `0.10.2`.
struct VersionRange: Hashable {
  var first: EngineVersion
  var last: EngineVersion

  /// - Parameter text: `0.6...0.32`, or one version.
  init?(_ text: String) {
    guard let gap = text.firstRange(of: "...") else {
      guard let version = EngineVersion(text) else { return nil }
      (first, last) = (version, version)
      return
    }
    guard let first = EngineVersion(String(text[..<gap.lowerBound])),
      let last = EngineVersion(String(text[gap.upperBound...]))
    else { return nil }
    (self.first, self.last) = (first, last)
  }

  func contains(_ version: EngineVersion) -> Bool {
    version >= first && (version <= last || version.numbers.starts(with: last.numbers))
  }
}
