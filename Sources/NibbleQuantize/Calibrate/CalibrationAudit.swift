public import NibbleText

/// Contents of the calibration windows, for reports.
public struct CalibrationAudit: Hashable, Sendable, Codable {
  /// Number of documents that the windows come from.
  public var documents: Int
  public var windows: Int
  public var tokens: Int
  /// Characters (Unicode scalars) of each kind in the windows' text; white space is not counted.
  public var characters: [TextScript: Int] = [:]

  public init(_ windows: [[Int]], documents: Int, tokenizer: Tokenizer) {
    self.documents = documents
    self.windows = windows.count
    tokens = windows.reduce(0) { $0 + $1.count }
    for window in windows {
      for scalar in tokenizer.decode(window, skipSpecialTokens: true).unicodeScalars {
        if let script = TextScript(scalar) { characters[script, default: 0] += 1 }
      }
    }
  }

  /// Each kind's share of the characters, largest first; equal shares in the order of `TextScript`.
  public var shares: [(script: TextScript, share: Double)] {
    let total = characters.values.reduce(0, +)
    let present = TextScript.allCases.filter { characters[$0] != nil }
    return present.enumerated()
      .sorted {
        let (a, b) = (characters[$0.element] ?? 0, characters[$1.element] ?? 0)
        return (b, $0.offset) < (a, $1.offset)
      }
      .map { ($0.element, Double(characters[$0.element] ?? 0) / Double(total)) }
  }
}

extension CalibrationAudit: CustomStringConvertible {
  /// One line: the counts, and the shares that round to 1 % or more.
  public var description: String {
    let shares = shares.filter { $0.share >= 0.005 }
      .map { "\($0.script.rawValue) \(Int((100 * $0.share).rounded())) %" }
    return "\(windows) window\(windows == 1 ? "" : "s"), \(tokens) tokens of \(documents) "
      + "document\(documents == 1 ? "" : "s"): \(shares.joined(separator: ", "))"
  }
}
