import Foundation

/// The folders `part0-of-4`, `part1-of-4` ... of a compressed model, one per rank.
public enum AscendParts {
  static func name(_ rank: Int, of count: Int) -> String { "part\(rank)-of-\(count)" }

  /// The folders of all ranks, in order; empty unless all are present.
  public static func folders(of path: String) -> [String] {
    let manager = FileManager.default
    let names = (try? manager.contentsOfDirectory(atPath: path)) ?? []
    guard let first = names.filter({ $0.hasPrefix("part0-of-") }).sorted().first,
      let count = Int(first.dropFirst("part0-of-".count)), (1...4096).contains(count)
    else { return [] }
    let folders = (0..<count).map { path + "/" + name($0, of: count) }
    return folders.allSatisfy { manager.fileExists(atPath: $0) } ? folders : []
  }
}
