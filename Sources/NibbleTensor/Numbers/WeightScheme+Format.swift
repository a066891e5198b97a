extension WeightScheme {
  /// What codes stand for: `value = (number - zero) * scale + offset`. Zero and offset are 0 where
  /// the format has none.
  public struct Format: Hashable, Sendable, Codable {
    /// The number of each code.
    public let numbers: NumberFormat
    /// Whether each scale has a zero point, an integer in the range of the codes. Only integers have
    /// them.
    public let hasZeroPoints: Bool
    /// Whether each scale has an offset, a float: MLX's and GGUF's minimum of a group.
    public let hasOffsets: Bool
    /// How scales are stored.
    public let scales: ScaleFormat

    private init(
      _ numbers: NumberFormat, hasZeroPoints: Bool = false, hasOffsets: Bool = false,
      scales: ScaleFormat = .float
    ) {
      self.numbers = numbers
      self.hasZeroPoints = hasZeroPoints
      self.hasOffsets = hasOffsets
      self.scales = scales
    }

    /// Two's complement codes.
    ///
    /// - Parameter bits: 2 to 8.
    public static func int(bits: Int, symmetric: Bool) -> Format {
      precondition((2...8).contains(bits), "integer codes have 2 to 8 bits, not \(bits)")
      return Format(.integer(bits: bits), hasZeroPoints: !symmetric)
    }

    /// Two's complement codes, with a float offset beside each scale.
    ///
    /// - Parameter bits: 2 to 8.
    public static func intWithOffsets(bits: Int) -> Format {
      precondition((2...8).contains(bits), "integer codes have 2 to 8 bits, not \(bits)")
      return Format(.integer(bits: bits), hasOffsets: true)
    }

    /// Codes of a floating-point format, with float scales.
    ///
    /// - Parameter format: one whose numbers are at most 2^100.
    public static func minifloat(_ format: Minifloat) -> Format {
      precondition(format.largest <= 0x1p100, "\(format) has numbers beyond 2^100")
      return Format(.minifloat(format))
    }

    /// FP8 E4M3FN, largest value 448.
    public static let e4m3 = minifloat(.e4m3)

    /// E2M1 with power-of-two scales in groups of 32. Source: OCP Microscaling Formats 1.0.
    public static let mxfp4 = Format(.minifloat(.e2m1), scales: .powerOfTwo)

    /// E2M1 with E4M3 scales in groups of 16, and one float per weight. Source: NVIDIA's NVFP4, as in
    /// compressed-tensors 0.20.
    public static let nvfp4 = Format(.minifloat(.e2m1), scales: .e4m3)

    /// Whether codes are whole numbers.
    public var isInteger: Bool { if case .integer = numbers { true } else { false } }

    /// Inputs per scale, of a format with groups of one size only.
    public var group: Int? {
      switch scales {
      case .float: nil
      case .powerOfTwo: 32
      case .e4m3: 16
      }
    }
  }

  /// How the scales of a weight are stored.
  public enum ScaleFormat: String, Hashable, Sendable, Codable {
    /// Each is a float, rounded to the format that the engine reads.
    case float
    /// Each is a power of two, stored as a byte (E8M0): `scale = 2^(byte - 127)`.
    case powerOfTwo
    /// Each is an E4M3 number, divided by one float per weight: `scale = e4m3 / divisor`.
    case e4m3
  }
}

extension WeightScheme.Format: CustomStringConvertible {
  public var description: String {
    switch (numbers, scales) {
    case (_, .powerOfTwo): "mxfp4"
    case (_, .e4m3): "nvfp4"
    case (.integer(let bits), .float):
      "int\(bits)" + (hasZeroPoints ? " asymmetric" : hasOffsets ? " with offsets" : "")
    case (.minifloat(let format), .float): self == .e4m3 ? "fp8 e4m3" : "\(format)"
    }
  }
}
