/// The most that a hub may make us store or hold.
public struct HubLimits: Hashable, Sendable {
  /// Bytes of the list of files.
  public var listing = 32 << 20
  /// Files in that list.
  public var files = 100_000
  /// Bytes of one file that is not weights.
  public var companion = 256 << 20
  /// Bytes of one file of weights.
  public var weights = 1 << 40
  /// Hosts that one request may be sent on to.
  public var redirects = 8

  public init() {}
}
