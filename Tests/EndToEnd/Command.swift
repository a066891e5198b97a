import Foundation
import NibbleFormats
import Testing
import TinyModel

/// What one call of the built `nibble` gave.
struct Outcome {
  var status: Int32
  /// The signal that ended it, if one did.
  var signal: Int32?
  var output: String
  var errors: String

  /// Standard output as the one JSON object it should be.
  func json() throws -> JSON { try JSON(parsing: Array(output.utf8)) }
}

/// A call of `nibble` that may still run.
final class Call {
  private let process = Process()
  private let folder: String

  /// - Parameter output: where standard output goes instead of a file that is read back.
  init(_ arguments: [String], input: String = "", output: String? = nil) throws {
    folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString).path
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    for (name, text) in [("in", input), ("out", ""), ("err", "")] {
      try Data(text.utf8).write(to: URL(fileURLWithPath: folder + "/" + name))
    }
    process.executableURL = try Self.executable()
    process.arguments = arguments
    process.standardInput = FileHandle(forReadingAtPath: folder + "/in")
    process.standardOutput = FileHandle(forWritingAtPath: output ?? folder + "/out")
    process.standardError = FileHandle(forWritingAtPath: folder + "/err")
    // The threads that run tests block signals, and a child inherits what is blocked.
    var none = sigset_t()
    var before = sigset_t()
    unsafe sigemptyset(&none)
    unsafe pthread_sigmask(SIG_SETMASK, &none, &before)
    defer { unsafe pthread_sigmask(SIG_SETMASK, &before, nil) }
    try process.run()
  }

  deinit { try? FileManager.default.removeItem(atPath: folder) }

  /// What it has said on standard error so far.
  var errors: String {
    (try? String(contentsOfFile: folder + "/err", encoding: .utf8)) ?? ""
  }

  var isRunning: Bool { process.isRunning }

  func send(_ signal: Int32) { if process.isRunning { kill(process.processIdentifier, signal) } }

  func wait() throws -> Outcome {
    process.waitUntilExit()
    let text = try String(contentsOfFile: folder + "/out", encoding: .utf8)
    let status = process.terminationStatus
    let wasSignalled = process.terminationReason == .uncaughtSignal
    return Outcome(
      status: wasSignalled ? -1 : status, signal: wasSignalled ? status : nil, output: text,
      errors: errors)
  }

  /// The products folder holds both the tests and the command.
  static func executable() throws -> URL {
    let folders =
      CommandLine.arguments.filter { $0.contains(".xctest") || $0 == CommandLine.arguments[0] }
      .map { URL(fileURLWithPath: $0) } + [Bundle.main.bundleURL]
    for var folder in folders {
      for _ in 0..<4 {
        folder.deleteLastPathComponent()
        let candidate = folder.appendingPathComponent("nibble")
        var isFolder: ObjCBool = false
        let exists = unsafe FileManager.default.fileExists(
          atPath: candidate.path, isDirectory: &isFolder)
        if exists, !isFolder.boolValue,
          FileManager.default.isExecutableFile(atPath: candidate.path)
        {
          return candidate
        }
      }
    }
    throw CocoaError(.fileNoSuchFile, userInfo: ["looked in": folders])
  }
}

func nibble(
  _ arguments: String..., input: String = "", output: String? = nil
) throws -> Outcome {
  try Call(arguments, input: input, output: output).wait()
}

/// A folder that is gone after `body`.
func inTemporaryFolder<Result>(_ body: (String) throws -> Result) throws -> Result {
  let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
  try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(at: folder) }
  return try body(folder.path)
}

func files(_ folder: String) throws -> [String: Data] {
  var files: [String: Data] = [:]
  for name in try FileManager.default.contentsOfDirectory(atPath: folder) {
    files[name] = try Data(contentsOf: URL(fileURLWithPath: folder + "/" + name))
  }
  return files
}

func exists(_ path: String) -> Bool { FileManager.default.fileExists(atPath: path) }

func write(_ text: String, _ path: String) throws {
  try Data(text.utf8).write(to: URL(fileURLWithPath: path))
}
