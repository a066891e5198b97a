import Foundation

/// One run of another program.
struct Tool: Sendable {
  let name: String
  let arguments: [String]

  init(_ name: String, _ arguments: [String]) {
    self.name = name
    self.arguments = arguments
  }

  /// Runs the program to its end. Both outputs go to `log`, whose last lines are quoted in errors.
  /// Cancelling the task ends the program.
  func run(log: URL) async throws(HubError) {
    try FileStore.perform(log) { try Data().write(to: log) }
    let output = try FileStore.perform(log) { try FileHandle(forWritingTo: log) }
    defer { try? output.close() }
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = [name] + arguments
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = output
    process.standardError = output
    let (ended, end) = AsyncStream.makeStream(of: Int32.self)
    process.terminationHandler = { process in
      end.yield(process.terminationStatus)
      end.finish()
    }
    do { try process.run() } catch { throw .missingTool(name) }
    let status = await withTaskCancellationHandler {
      // A separate task, so that the program's end is awaited even when this task is cancelled.
      await Task { await ended.first { _ in true } ?? -1 }.value
    } onCancel: {
      process.terminate()
    }
    if Task.isCancelled { throw .cancelled }
    guard status != 0 else { return }
    let text = (try? String(contentsOf: log, encoding: .utf8)) ?? ""
    if status == 127 { throw .missingTool(name) }
    if text.contains("No module named pip") { throw .missingTool("pip (python3 -m pip)") }
    let tail = text.split(separator: "\n").suffix(5).joined(separator: "\n")
    let command = ([name] + arguments).joined(separator: " ")
    throw .toolFailed(command: command, status: Int(status), output: tail)
  }
}
