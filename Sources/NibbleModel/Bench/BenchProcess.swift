import Foundation

/// A finished program: its output and its peak memory.
struct BenchProcess {
  let output: String
  /// Nil where the system does not report it.
  let peakBytes: Int?

  /// - Parameter shouldStop: called while the program runs; true ends it.
  init(
    _ program: String, _ arguments: [String], shouldStop: () -> Bool
  ) throws(ModelError) {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent(
      "nibble-bench-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: folder) }
    let files = ["out", "err"].map { folder.appendingPathComponent($0) }
    let process = Process()
    var peak: Int?
    do {
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
      for file in files { try Data().write(to: file) }
      process.executableURL = URL(fileURLWithPath: program)
      process.arguments = arguments
      process.standardInput = FileHandle.nullDevice
      process.standardOutput = try FileHandle(forWritingTo: files[0])
      process.standardError = try FileHandle(forWritingTo: files[1])
      try process.run()
    } catch {
      throw .unsupported("\(program) cannot be started: \(error.localizedDescription)")
    }
    while process.isRunning {
      if shouldStop() { process.terminate() }
      peak = Self.peakBytes(of: process.processIdentifier) ?? peak
      Thread.sleep(forTimeInterval: 0.02)
    }
    process.waitUntilExit()
    let texts = files.map { (try? String(contentsOf: $0, encoding: .utf8)) ?? "" }
    guard process.terminationReason == .exit, process.terminationStatus == 0 else {
      let last = texts[1].split(separator: "\n").suffix(5).joined(separator: "\n")
      throw .unsupported(
        "\(program) ended with status \(process.terminationStatus): \(last)")
    }
    output = texts[0]
    peakBytes = peak
  }

  /// Peak resident bytes of a process that still runs.
  private static func peakBytes(of process: Int32) -> Int? {
    guard
      let status = try? String(contentsOfFile: "/proc/\(process)/status", encoding: .utf8),
      let line = status.split(separator: "\n").first(where: { $0.hasPrefix("VmHWM:") }),
      let kilobytes = line.split(separator: " ").dropFirst().first.flatMap({ Int($0) })
    else { return nil }
    return kilobytes * 1024
  }
}
