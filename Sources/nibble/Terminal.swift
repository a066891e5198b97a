import Foundation
import NibbleFormats
import Synchronization

/// Standard output is the result, standard error is progress.
enum Terminal {
  static let isInteractive = isatty(STDERR_FILENO) == 1

  /// Writes text of the result as it is.
  static func write(_ text: String) { FileHandle.standardOutput.write(Data(text.utf8)) }

  static func print(_ line: String) { write(line + "\n") }

  static func print(_ json: JSON) { print(json.text()) }

  static func note(_ line: String) {
    FileHandle.standardError.write(Data(((isInteractive ? "\r\u{1B}[K" : "") + line + "\n").utf8))
  }

  /// A line that the next one replaces on a terminal, and that stands on its own elsewhere.
  static func progress(_ line: String) {
    let text = isInteractive ? "\r\u{1B}[K" + line : line + "\n"
    FileHandle.standardError.write(Data(text.utf8))
  }

  static func error(_ message: String) { note("error: " + message) }

  static func bytes(_ count: Int) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"]
    var value = Double(count)
    var unit = 0
    while value >= 999.5, unit < units.count - 1 {
      value /= 1000
      unit += 1
    }
    return unit == 0
      ? "\(count) B" : String(format: value < 9.995 ? "%.2f %@" : "%.0f %@", value, units[unit])
  }

  static func number(_ value: Double, _ digits: Int = 4) -> String {
    String(format: "%.\(digits)f", value)
  }
}

/// Set by the first interrupt (Ctrl-C) or TERM; a second one ends the program at once.
enum Interrupt {
  private static let seen = Atomic<Bool>(false)

  static var isRequested: Bool { seen.load(ordering: .relaxed) }

  static func watch() {
    for number in [SIGINT, SIGTERM] {
      signal(number) { number in
        if Interrupt.seen.exchange(true, ordering: .relaxed) { _exit(128 + number) }
      }
    }
  }
}
