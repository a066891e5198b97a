import Foundation
import NibbleTensor

/// Rotary position embedding of a block: which channels rotate, their frequencies, and how these
/// are scaled for longer contexts.
///
/// The `dynamic` and `long` scalings depend on the sequence length. Engines disagree on when to
/// switch. Here the frequencies are fixed by the largest length possible: the capacity of a
/// session, or the length of a calibration window. Source: transformers 5.23
/// `modeling_rope_utils.py`; Llama 3.1's `use_scaled_rope`.
public struct RotaryShape: Hashable, Sendable {
  public enum Scaling: Hashable, Sendable {
    case none
    /// `f / factor`
    case linear(factor: Double)
    /// For sequences of `n > M` positions, replaces theta by
    /// `theta · (factor · n / M - (factor - 1))^(D / (D - 2))`.
    case dynamic(factor: Double)
    /// Divides the frequencies of long wavelengths by the factor, keeps those of short ones, and
    /// interpolates between.
    case llama3(factor: Double, low: Double, high: Double, original: Double)
    /// Interpolates over the pairs between `f` and `f / factor`. Source: YaRN, arXiv 2309.00071.
    case yarn(factor: Double, fast: Double, slow: Double, original: Double, rounds: Bool)
    /// `f / short`, or `f / long` for sequences above `original` positions. Source: LongRoPE, arXiv
    /// 2402.13753.
    case long(short: [Float], long: [Float], original: Int)
    /// Pairs span the whole head. The first `share` of them rotate, by `f / factor` (Gemma 4).
    case proportional(share: Double, factor: Double)
  }

  /// D: channels per head that rotate. The others are unchanged.
  public var dimension: Int
  public var theta: Double
  public var scaling = Scaling.none
  /// Factor of cosines and sines.
  public var amplitude: Float = 1
  /// Whether pairs are neighbouring channels; else channels `i` and `i + D / 2`.
  public var isInterleaved = false
  /// M: context length that the frequencies were trained for.
  public var context: Int

  public init(dimension: Int, theta: Double, context: Int) {
    self.dimension = dimension
    self.theta = theta
    self.context = context
  }

  /// Number of channel pairs, each with one frequency.
  public var pairs: Int { (dimension + 1) / 2 }

  /// `[pairs]`, radians per position, for sequences of up to `positions` tokens.
  public func frequencies(positions: Int) -> [Float] {
    let plain = Self.plain(theta, dimension)
    switch scaling {
    case .none: return plain
    case .linear(let factor): return plain.map { $0 / Float(factor) }
    case .dynamic(let factor):
      guard positions > context, dimension > 2 else { return plain }
      let stretch = factor * Double(positions) / Double(context) - (factor - 1)
      return Self.plain(theta * pow(stretch, Double(dimension) / Double(dimension - 2)), dimension)
    case .llama3(let factor, let low, let high, let original):
      return plain.map { frequency in
        let wavelength = 2 * Float.pi / frequency
        if wavelength < Float(original) / Float(high) { return frequency }
        if wavelength > Float(original) / Float(low) { return frequency / Float(factor) }
        let smooth = (Float(original) / wavelength - Float(low)) / (Float(high) - Float(low))
        return (1 - smooth) * frequency / Float(factor) + smooth * frequency
      }
    case .yarn(let factor, let fast, let slow, let original, let rounds):
      func place(_ turns: Double) -> Double {
        Double(dimension) * log(original / (2 * .pi * turns)) / (2 * log(theta))
      }
      let low = max(0, rounds ? place(fast).rounded(.down) : place(fast))
      var high = min(Double(dimension - 1), rounds ? place(slow).rounded(.up) : place(slow))
      if low == high { high += 0.001 }
      return plain.enumerated().map { index, frequency in
        let ramp = Float(min(1, max(0, (Double(index) - low) / (high - low))))
        return ramp * frequency / Float(factor) + (1 - ramp) * frequency
      }
    case .long(let short, let long, let original):
      return zip(plain, positions > original ? long : short).map { $0 / $1 }
    case .proportional(let share, let factor):
      let turning = Int(share * Double(dimension)) / 2
      return plain.enumerated().map { $0.offset < turning ? $0.element / Float(factor) : 0 }
    }
  }

  /// Cosines and sines of positions `0..<positions`.
  func table(positions: Int) -> RotaryTable {
    RotaryTable(
      frequencies: frequencies(positions: positions), amplitude: amplitude,
      isInterleaved: isInterleaved, positions: 0..<positions)
  }

  /// `f[i] = theta^(-2i/D)`, computed in float as transformers does.
  private static func plain(_ theta: Double, _ dimension: Int) -> [Float] {
    (0..<(dimension + 1) / 2).map {
      1 / powf(Float(theta), Float(2 * $0) / Float(dimension))
    }
  }
}
