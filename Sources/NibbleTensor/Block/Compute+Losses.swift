import CNibble
import Foundation

/// Compares the next-token distributions of two models at one position.
public struct TokenComparison: Sendable, Hashable {
  /// `-log p(target)` of each model, in nats.
  public var loss: Double
  public var baseLoss: Double
  /// KL divergence `Σ p (log p - log q)` in nats; p is the base model's.
  public var divergence: Double
  /// Whether both rank the same token first; the lower id wins ties.
  public var agrees: Bool
  /// Share of the base model's five likeliest tokens that are among the other's five, 0...1. With
  /// fewer than five tokens, of as many as there are.
  public var top5: Double

  /// `p(target)` of the model minus that of the base.
  public var probabilityChange: Double { exp(-loss) - exp(-baseLoss) }
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

  /// `-log softmax(x · Wᵀ)[target]` of each row of x `[t, k]`, in nats.
  ///
  /// Computes 2048 columns of the logits at a time, for all rows.
  ///
  /// - Parameters:
  ///   - head: `[vocabulary, k]`.
  ///   - targets: `[t]`, below `vocabulary`.
  public func losses(_ x: Span<Float>, head: PreparedWeight, targets: [Int]) -> [Double] {
    let (t, vocabulary) = (targets.count, head.weight.rows)
    precondition(x.count == t * head.weight.columns, "\(x.count) values for \(t) targets")
    guard t > Self.stepTokens else {
      var logits = [Float](repeating: 0, count: t * vocabulary)
      var span = logits.mutableSpan
      head.multiply(x, into: &span, on: self)
      return losses(logits.span, targets: targets)
    }
    var sums = [Double](repeating: -.infinity, count: t)
    var chosen = [Double](repeating: 0, count: t)
    unsafe x.withUnsafeBufferPointer { x in
      let inputs = unsafe ProductInputs(x.baseAddress!, tokens: t, for: head.weight, on: self)
      for start in stride(from: 0, to: vocabulary, by: 2048) {
        let part = start..<min(start + 2048, vocabulary)
        let logits = unsafe scratch.take(.hidden, t * part.count * 4)
          .assumingMemoryBound(to: Float.self)
        unsafe head.multiply(
          inputs, part, into: logits, stride: part.count, on: self)
        unsafe sums.withUnsafeMutableBufferPointer { sums in
          unsafe chosen.withUnsafeMutableBufferPointer { chosen in
            ranges(of: t, grain: 16) { rows, _ in
              for row in rows {
                let line = unsafe logits + row * part.count
                let sum = unsafe nibble_log_sum_exp(line, part.count)
                let distance = unsafe abs(sum - sums[row])
                unsafe sums[row] = max(sum, sums[row]) + log1p(exp(-distance))
                if part.contains(targets[row]) {
                  unsafe chosen[row] = Double(line[targets[row] - start])
                }
              }
            }
          }
        }
      }
    }
    return zip(sums, chosen).map { $0 - $1 }
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
            let (best, baseBest) = unsafe (Self.best(x, width), Self.best(p, width))
            unsafe (rows.baseAddress! + row).initialize(
              to: TokenComparison(
                loss: sum - Double(x[targets[row]]), baseLoss: baseSum - Double(p[targets[row]]),
                divergence: nibble_kl(p, x, baseSum, sum, width),
                agrees: best[0] == baseBest[0],
                top5: Double(baseBest.count { best.contains($0) }) / Double(best.count)))
          }
          initialized = targets.count
        }
      }
    }
  }

  /// Indices of the five largest values of a row, or of all of fewer; the largest first.
  private static func best(_ row: UnsafePointer<Float>, _ width: Int) -> [Int] {
    let count = min(5, width)
    return unsafe [Int](unsafeUninitializedCapacity: count) { best, initialized in
      unsafe nibble_top(row, width, best.baseAddress!, count)
      initialized = count
    }
  }
}
