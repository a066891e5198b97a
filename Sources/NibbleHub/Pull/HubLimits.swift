/// Limits of what a hub can make us store or hold in memory.
public struct HubLimits: Hashable, Sendable {
  /// Bytes of the file list.
  public var listing = 32 << 20
  /// Files in that list.
  public var files = 100_000
  /// Bytes of one file that is not weights.
  public var companion = 256 << 20
  /// Bytes of one file of weights.
  public var weights = 1 << 40
  /// Redirects per request.
  public var redirects = 8

  public init() {}
}
