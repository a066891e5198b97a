import Foundation
import NibbleTensor

/// The SHA-256 of every file of an output, as its report stores them under `files`.
public struct FileChecksums: Sendable {
  public let files: [(name: String, sha256: String)]

  package init(_ files: [(name: String, sha256: String)]) { self.files = files }

  /// The checksums in a report; nil when it has none.
  public init?(report: JSON) {
    guard let object = report["files"]?.object else { return nil }
    var files: [(name: String, sha256: String)] = []
    for (name, value) in object {
      guard let sha256 = value.string else { return nil }
      files.append((name, sha256))
    }
    self.files = files
  }

  package var json: JSON {
    var object = JSONObject()
    for file in files { object[file.name] = .string(file.sha256) }
    return .object(object)
  }

  /// One sentence per file that is missing or has changed.
  public func faults(in folder: String) -> [String] {
    files.compactMap { file in
      guard !file.name.hasPrefix("/"), !file.name.split(separator: "/").contains("..") else {
        return "nibble_report.json: \(shown(file.name)) leaves the folder"
      }
      guard let mapped = try? MappedFile(path: folder + "/" + file.name) else {
        return "\(file.name): it is missing, and nibble_report.json lists it"
      }
      return Bytes(mapped, 0..<mapped.count).sha256() == file.sha256
        ? nil
        : "\(file.name): its bytes changed since it was written (SHA-256). Copy it again, or quantize again"
    }
  }
}
