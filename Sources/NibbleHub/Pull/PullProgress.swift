/// What a pull is doing at one moment.
public struct PullProgress: Hashable, Sendable {
  public enum Activity: Hashable, Sendable {
    /// An earlier run left the whole file; its checksum holds.
    case kept
    /// An earlier run left this many bytes of the file.
    case resuming(from: Int)
    case fetching
    /// The transfer failed for a reason that may pass.
    case retrying(reason: String, delay: Duration)
    case finished
  }

  public var activity: Activity
  public var file: String
  /// Position of the file among `files`, from 1.
  public var number: Int
  public var files: Int
  /// Bytes of this file that are on disk.
  public var fileBytes: Int
  /// Size of this file, when the hub says it.
  public var fileSize: Int?
  /// Bytes of all files that are on disk.
  public var bytes: Int
  /// Size of all files, when the hub says it of each.
  public var totalBytes: Int?
}

/// What a finished pull brought.
public struct PullReport: Hashable, Sendable {
  public var folder: String
  public var repository: String
  /// The commit that the files come from, or the revision when the hub names no commit.
  public var commit: String
  public var files: [String]
  public var bytes: Int
}
