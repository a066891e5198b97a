/// How one weight is stored: its number format, and which values share a scale.
public struct WeightScheme: Hashable, Sendable, Codable {
  public enum Format: Hashable, Sendable, Codable {
    /// Two's complement codes of 4 or 8 bits. `value = (code - zero) * scale`; zero is 0 when
    /// symmetric.
    case int(bits: Int, symmetric: Bool)
    /// FP8 E4M3FN, largest value 448. `value = code * scale`.
    case e4m3
  }

  public enum Granularity: Hashable, Sendable, Codable {
    case tensor
    /// One scale for each output (row).
    case channel
    /// One scale for each `group` neighbouring inputs of each output.
    case group(Int)
  }

  public var format: Format
  public var granularity: Granularity

  public init(format: Format, granularity: Granularity) {
    self.format = format
    self.granularity = granularity
  }

  /// Bits of one code.
  public var bits: Int {
    switch format {
    case .int(let bits, _): bits
    case .e4m3: 8
    }
  }

  /// Half the width of the code range: what the largest magnitude is divided by.
  public var largestCode: Float {
    switch format {
    case .int(let bits, _): Float((1 << bits) - 1) / 2
    case .e4m3: 448
    }
  }

  /// Whether codes carry zero points.
  public var hasZeroPoints: Bool {
    if case .int(_, symmetric: false) = format { true } else { false }
  }

  /// Whether a row of `inputs` values can be stored: groups divide it and fill whole bytes, and zero
  /// points go with channels or groups.
  public func fits(inputs: Int) -> Bool {
    let span = span(inputs: inputs)
    return span > 0 && inputs.isMultiple(of: span) && (span * bits).isMultiple(of: 8)
      && !(hasZeroPoints && granularity == .tensor)
  }

  /// Scales of one output's row of `inputs` values.
  public func scalesPerRow(inputs: Int) -> Int {
    if case .group(let size) = granularity { inputs / size } else { 1 }
  }

  /// Neighbouring inputs that share a scale.
  public func span(inputs: Int) -> Int {
    if case .group(let size) = granularity { size } else { inputs }
  }
}

extension WeightScheme: CustomStringConvertible {
  public var description: String {
    let format =
      switch format {
      case .int(let bits, let symmetric): "int\(bits)" + (symmetric ? "" : " asymmetric")
      case .e4m3: "fp8 e4m3"
      }
    let granularity =
      switch granularity {
      case .tensor: "per tensor"
      case .channel: "per channel"
      case .group(let size): "groups of \(size)"
      }
    return "\(format), \(granularity)"
  }
}
