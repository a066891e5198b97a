/// Current state of a pull.
public struct PullProgress: Hashable, Sendable {
  public enum Activity: Hashable, Sendable {
    /// An earlier run left the complete file, with the right checksum.
    case kept
    /// An earlier run left this many bytes of the file.
    case resuming(from: Int)
    case fetching
    /// The transfer failed for a temporary reason.
    case retrying(reason: String, delay: Duration)
    case finished
  }

  public var activity: Activity
  public var file: String
  /// Number of the file among `files`, from 1.
  public var number: Int
  public var files: Int
  /// Bytes of this file on disk.
  public var fileBytes: Int
  /// Size of this file; nil when the hub does not state it.
  public var fileSize: Int?
  /// Bytes of all files on disk.
  public var bytes: Int
  /// Size of all files; nil unless the hub states each.
  public var totalBytes: Int?
}

/// Result of a finished pull.
public struct PullReport: Hashable, Sendable {
  public var folder: String
  public var repository: String
  /// The commit that the files come from, or the revision when the hub names no commit.
  public var commit: String
  public var files: [String]
  public var bytes: Int
}
