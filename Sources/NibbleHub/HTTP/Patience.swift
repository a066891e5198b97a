/// How often a request is sent again, and how long to wait before: `delay · 2^n`, or what the
/// server asks for.
public struct Patience: Hashable, Sendable {
  /// Failures in a row that are forgiven. A transfer that brought more bytes starts a new row.
  public var retries: Int
  /// The wait before the first retry.
  public var delay: Duration

  public init(retries: Int = 5, delay: Duration = .seconds(1)) {
    precondition((0...30).contains(retries), "\(retries) retries, not 0 to 30")
    self.retries = retries
    self.delay = delay
  }

  /// - Parameter failures: how many have come in a row, from 1.
  func wait(after failures: Int) -> Duration { delay * (1 << min(failures - 1, 5)) }
}
