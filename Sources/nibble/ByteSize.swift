import ArgumentParser
import Foundation

/// Sizes in text: KB, MB, GB and TB are powers of 1000, KiB, MiB, GiB and TiB of 1024.
enum ByteSize {
  static func bytes(_ text: String, _ option: String) throws -> Int {
    let units: [(String, Double)] = [
      ("TIB", 0x1p40), ("GIB", 0x1p30), ("MIB", 0x1p20), ("KIB", 0x1p10), ("TB", 1e12),
      ("GB", 1e9), ("MB", 1e6), ("KB", 1e3), ("B", 1), ("", 1),
    ]
    let upper = text.uppercased()
    for (suffix, factor) in units where upper.hasSuffix(suffix) {
      let number = Double(upper.dropLast(suffix.count)) ?? -1
      if number > 0, number * factor < 1e18 { return Int(number * factor) }
      break
    }
    throw ValidationError("\(option) is \(text); use a size such as 700MB, 2GB or 1.5GiB.")
  }
}
