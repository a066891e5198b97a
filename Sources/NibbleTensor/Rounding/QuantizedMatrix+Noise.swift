import CNibble
import Foundation

extension QuantizedMatrix {
  /// Signal-to-quantization-noise of the codes against the float weight: `10 log10(Σw² / Σ(w - ŵ)²)`
  /// in dB, sums in double in row order; infinite when nothing was lost.
  public func signalToNoise(against weight: FloatMatrix, on compute: Compute) -> Double {
    precondition(weight.rows == rows && weight.columns == columns, "shapes differ")
    return unsafe signalToNoise(on: compute) { part, scratch in
      unsafe Weight.float(weight).widen(part, into: scratch)
      return unsafe UnsafePointer(scratch)
    }
  }

  /// The same against a float weight in memory.
  public func signalToNoise(against weight: FloatRows, on compute: Compute) -> Double {
    precondition(weight.rows == rows && weight.columns == columns, "shapes differ")
    return unsafe weight.values.withUnsafeBufferPointer { values in
      unsafe signalToNoise(on: compute) { part, _ in
        unsafe values.baseAddress! + part.lowerBound * columns
      }
    }
  }

  /// - Parameter source: returns some rows of the float weight; it may write them to `scratch`.
  private func signalToNoise(
    on compute: Compute,
    source: (Range<Int>, _ scratch: UnsafeMutablePointer<Float>) -> UnsafePointer<Float>
  ) -> Double {
    let grain = 32
    let parts = (rows + grain - 1) / grain
    var errors = [Double](repeating: 0, count: parts)
    var signals = errors
    unsafe errors.withUnsafeMutableBufferPointer { errors in
      unsafe signals.withUnsafeMutableBufferPointer { signals in
        compute.ranges(of: rows, grain: grain) { part, _ in
          let count = part.count * columns
          unsafe withUnsafeTemporaryAllocation(of: Float.self, capacity: 2 * count) { values in
            let decoded = values.baseAddress!
            unsafe decode(part, into: decoded)
            let index = part.lowerBound / grain
            unsafe nibble_error_energy(
              source(part, decoded + count), decoded, count, errors.baseAddress! + index,
              signals.baseAddress! + index)
          }
        }
      }
    }
    let (error, signal) = (errors.reduce(0, +), signals.reduce(0, +))
    return error == 0 ? .infinity : 10 * log10(signal / error)
  }
}
