public import NibbleTensor

/// Reasons why an output's folder cannot be written. Each says where, what, and what to do next.
public enum RunFolderError: Error, Hashable, Sendable {
  case outputExists(String)
  case fileExists(String)
  case outputIsSource(String)
  case unfinishedRun(String, reason: String)
  case busy(String)
  case noSpace(String, needed: Int, free: Int)
  /// A number that JSON cannot hold.
  case notFinite
  case file(FileError)
}

extension RunFolderError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .outputExists(let path):
      "\(path) exists and is not an empty folder. Choose another -o, or remove it first."
    case .fileExists(let path): "\(path) exists. Choose another -o, or remove it first."
    case .outputIsSource(let path):
      "\(path) is the source model, or lies in it. Choose another -o."
    case .unfinishedRun(let path, let reason):
      "\(path) holds an unfinished run, but \(reason). Remove that folder to start over."
    case .busy(let path):
      "\(path) is being written by another run. Wait for it, or choose another -o."
    case .noSpace(let path, let needed, let free):
      "\(path) needs \(Self.megabytes(needed)) and the disk has \(Self.megabytes(free)) left. Free some, "
        + "or choose a -o on another disk."
    case .notFinite: "the journal cannot hold a number that is not finite"
    case .file(let error): "\(error)"
    }
  }

  private static func megabytes(_ bytes: Int) -> String { "\((bytes + 999_999) / 1_000_000) MB" }
}
