import Foundation
import NibbleFormats
import Synchronization

/// Standard output is the result, standard error is progress.
enum Terminal {
  static let isInteractive = isatty(STDERR_FILENO) == 1

  /// Writes a part of the result unchanged.
  static func write(_ text: String) {
    do { try FileHandle.standardOutput.write(contentsOf: Data(text.utf8)) } catch {
      Self.error("cannot write to standard output: \(error.localizedDescription)")
      exit(Failure.cannotWrite)
    }
  }

  static func print(_ line: String) { write(line + "\n") }

  static func print(_ json: JSON) { print(json.text()) }

  static func note(_ line: String) {
    log((isInteractive ? "\r\u{1B}[K" : "") + line + "\n")
  }

  /// A line that the next one replaces on a terminal, and a separate line elsewhere.
  static func progress(_ line: String) {
    log(isInteractive ? "\r\u{1B}[K" + line : line + "\n")
  }

  /// A failure to write progress does not stop the program.
  private static func log(_ text: String) {
    try? FileHandle.standardError.write(contentsOf: Data(text.utf8))
  }

  /// Prompts for a line of input.
  static func ask() { log("> ") }

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

  /// Opens /dev/null for standard input, output and error that were closed, so that no file opened
  /// later gets their descriptors and receives output.
  static func openClosedDescriptors() {
    for descriptor: Int32 in 0...2 where fcntl(descriptor, F_GETFD) < 0 {
      _ = unsafe open("/dev/null", O_RDWR)
    }
  }

  static func number(_ value: Double, _ digits: Int = 4) -> String {
    String(format: "%.\(digits)f", value)
  }
}

/// Set by the first interrupt (Ctrl-C) or SIGTERM; a second one ends the program at once.
enum Interrupt {
  private static let seen = Atomic<Bool>(false)

  static var isRequested: Bool { seen.load(ordering: .relaxed) }

  /// Handles both signals from now on.
  ///
  /// Handlers run on a separate stack: oneDNN's generated products use the stack pointer for other
  /// data, and a signal's frame would overwrite their memory.
  static func watch() {
    useOwnStack()
    for number in [SIGINT, SIGTERM] {
      var action = sigaction()
      unsafe action.__sigaction_handler.sa_handler = { number in
        if Interrupt.seen.exchange(true, ordering: .relaxed) { _exit(128 + number) }
      }
      action.sa_flags = SA_ONSTACK | Int32(bitPattern: UInt32(SA_RESTART))
      unsafe sigaction(number, &action, nil)
    }
  }

  /// Gives the calling thread a signal stack if it has none; the system prefers this thread for
  /// signals of the process.
  private static func useOwnStack() {
    var stack = unsafe stack_t()
    guard unsafe sigaltstack(nil, &stack) == 0, unsafe stack.ss_flags & Int32(SS_DISABLE) != 0
    else {
      return
    }
    // Never freed.
    let size = 1 << 16
    unsafe stack.ss_sp = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 16)
    unsafe stack.ss_size = size
    unsafe stack.ss_flags = 0
    unsafe sigaltstack(&stack, nil)
  }
}
