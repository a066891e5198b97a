import ArgumentParser
import Foundation

/// Sizes as people write them: 700MB, 2GB, 1.5GiB; powers of ten all.
enum ByteSize {
  static func bytes(_ text: String, _ option: String) throws -> Int {
    let units: [(String, Double)] = [
      ("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("KB", 1e3), ("B", 1), ("", 1),
    ]
    let upper = text.uppercased().replacingOccurrences(of: "I", with: "")
    for (suffix, factor) in units where upper.hasSuffix(suffix) {
      let number = Double(upper.dropLast(suffix.count)) ?? -1
      if number > 0, number * factor < 1e18 { return Int(number * factor) }
      break
    }
    throw ValidationError("\(option) is \(text); use a size such as 700MB or 2GB.")
  }
}
