import CNibble

/// What one position of two models says about the token that follows.
public struct TokenComparison: Sendable, Hashable {
  /// `-log p(target)` of each, nats.
  public var loss: Double
  public var baseLoss: Double
  /// `Σ p (log p - log q)`, nats, p the base.
  public var divergence: Double
  /// Whether both rank the same token first.
  public var agrees: Bool
}

extension Compute {
  /// `-log softmax(row)[target]` of each row, in nats.
  ///
  /// - Parameter logits: `[targets.count, vocabulary]`; targets below `vocabulary`.
  public func losses(_ logits: Span<Float>, targets: [Int]) -> [Double] {
    let width = logits.count / max(1, targets.count)
    precondition(logits.count == width * targets.count, "rows of \(width)")
    return unsafe logits.withUnsafeBufferPointer { logits in
      unsafe [Double](unsafeUninitializedCapacity: targets.count) { losses, initialized in
        pool.run(targets.count) { row, _ in
          let x = unsafe logits.baseAddress! + row * width
          unsafe losses[row] = nibble_log_sum_exp(x, width) - Double(x[targets[row]])
        }
        initialized = targets.count
      }
    }
  }

  /// Compares two models' logits row by row.
  ///
  /// - Parameter logits: `[targets.count, vocabulary]`; `base` likewise; targets below `vocabulary`.
  public func compare(
    _ logits: Span<Float>, to base: Span<Float>, targets: [Int]
  ) -> [TokenComparison] {
    let width = logits.count / max(1, targets.count)
    precondition(logits.count == width * targets.count && base.count == logits.count)
    return unsafe logits.withUnsafeBufferPointer { logits in
      unsafe base.withUnsafeBufferPointer { base in
        unsafe [TokenComparison](unsafeUninitializedCapacity: targets.count) { rows, initialized in
          pool.run(targets.count) { row, _ in
            let x = unsafe logits.baseAddress! + row * width
            let p = unsafe base.baseAddress! + row * width
            let (sum, baseSum) = unsafe (
              nibble_log_sum_exp(x, width), nibble_log_sum_exp(p, width)
            )
            unsafe (rows.baseAddress! + row).initialize(
              to: TokenComparison(
                loss: sum - Double(x[targets[row]]), baseLoss: baseSum - Double(p[targets[row]]),
                divergence: nibble_kl(p, x, baseSum, sum, width),
                agrees: nibble_argmax(x, width) == nibble_argmax(p, width)))
          }
          initialized = targets.count
        }
      }
    }
  }
}
