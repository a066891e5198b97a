import CNibble

/// This machine's memory bandwidth and peak arithmetic, which limit decode and prefill of a model.
public struct MachineLimits: Hashable, Sendable {
  /// Format of a product's factors; sums are float, or int32 for int8.
  public enum Arithmetic: String, Sendable, Hashable, CaseIterable {
    case f32
    case bf16
    case int8
  }

  /// Bytes per second, all threads together.
  public var readBandwidth: Double
  /// Operations per second, all threads together; a multiply-add counts as two. Formats without an
  /// instruction on this processor are missing.
  public var peak: [Arithmetic: Double]

  public init(readBandwidth: Double, peak: [Arithmetic: Double]) {
    self.readBandwidth = readBandwidth
    self.peak = peak
  }

  /// Measures both. The best of `sweeps` counts, since disturbances only slow a sweep down.
  ///
  /// - Parameter bytes: bytes read per sweep; several times the last-level cache.
  public static func measure(
    on compute: Compute, bytes: Int = 512 << 20, sweeps: Int = 5
  ) -> MachineLimits {
    var peak: [Arithmetic: Double] = [:]
    for arithmetic in Arithmetic.allCases {
      peak[arithmetic] = products(arithmetic, on: compute.pool, sweeps: sweeps)
    }
    return MachineLimits(
      readBandwidth: bandwidth(on: compute.pool, bytes: bytes, sweeps: sweeps), peak: peak)
  }

  private static func bandwidth(on pool: ThreadPool, bytes: Int, sweeps: Int) -> Double {
    let parts = 16 * pool.threads
    let words = max(1, bytes / 8 / parts)
    let buffer = UnsafeMutablePointer<UInt64>.allocate(capacity: words * parts)
    defer { unsafe buffer.deallocate() }
    unsafe ProcessMemory.useLargePages(buffer, bytes: 8 * words * parts)
    // Written once: pages that were never written all map to one zero page.
    pool.run(parts) { part, _ in
      unsafe (buffer + part * words).initialize(repeating: UInt64(part), count: words)
    }
    let seen = UnsafeMutablePointer<UInt64>.allocate(capacity: parts)
    defer { unsafe seen.deallocate() }
    let seconds = fastest(of: sweeps) {
      pool.run(parts) { part, _ in
        unsafe seen[part] = nibble_read_stream(buffer + part * words, words)
      }
    }
    return Double(8 * words * parts) / seconds
  }

  private static func products(
    _ arithmetic: Arithmetic, on pool: ThreadPool, sweeps: Int
  ) -> Double? {
    let loop: @Sendable (Int) -> Double =
      switch arithmetic {
      case .f32: { nibble_peak_f32($0) }
      case .bf16: { nibble_peak_bf16($0) }
      case .int8: { nibble_peak_int8($0) }
      }
    let (parts, rounds) = (8 * pool.threads, 200_000)
    let operations = loop(1) * Double(rounds * parts)
    guard operations > 0 else { return nil }
    let seconds = fastest(of: sweeps) { pool.run(parts) { _, _ in _ = loop(rounds) } }
    return operations / seconds
  }

  private static func fastest(of sweeps: Int, _ body: () -> Void) -> Double {
    let clock = ContinuousClock()
    return (0..<max(1, sweeps)).map { _ in clock.measure(body) / .seconds(1) }.min() ?? 0
  }
}
