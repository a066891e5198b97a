/// Retry policy of requests: how many retries, and the wait before each: `delay · 2^n`, or what the
/// server asks for.
public struct Patience: Hashable, Sendable {
  /// Allowed failures in a row. A transfer that brought more bytes resets the count.
  public var retries: Int
  /// The wait before the first retry.
  public var delay: Duration

  public init(retries: Int = 5, delay: Duration = .seconds(1)) {
    precondition((0...30).contains(retries), "\(retries) retries, not 0 to 30")
    self.retries = retries
    self.delay = delay
  }

  /// - Parameter failures: number of failures in a row, from 1.
  func wait(after failures: Int) -> Duration { delay * (1 << min(failures - 1, 5)) }
}
