/// How the inputs of a linear layer are quantized at run time: their format, and which values share
/// a scale.
///
/// A dynamic scale is the largest magnitude of the values that share it, divided by the format's
/// largest code. A static scale comes from calibration and is stored with the weight, as an
/// ``InputRange``.
public enum ActivationScheme: Hashable, Sendable, Codable {
  public enum Format: String, Hashable, Sendable, Codable, CaseIterable {
    /// Symmetric int8. Dynamic scales give codes -127...127, static ones -128...127.
    case int8
    /// FP8 E4M3FN, codes to 448.
    case e4m3
  }

  /// One scale per token, computed at run time.
  case dynamicPerToken(Format)
  /// One scale for all tokens that are multiplied together, computed at run time.
  case dynamicPerTensor(Format)
  /// One scale per group of neighbouring inputs of each token, computed at run time; the last group
  /// may be shorter. Sources: DeepSeek-V3, arXiv 2412.19437, 3.3, for FP8; llama.cpp's Q8_0
  /// activations for int8, which Nibble uses to run float activations fast and never writes.
  case dynamicPerGroup(Format, Int)
  /// One scale for all inputs and tokens, from calibration.
  case staticPerTensor(Format)
  /// int8 with one scale and one zero point for all inputs and tokens, from calibration.
  case staticAsymmetric

  public var format: Format {
    switch self {
    case .dynamicPerToken(let format), .dynamicPerTensor(let format), .staticPerTensor(let format),
      .dynamicPerGroup(let format, _):
      format
    case .staticAsymmetric: .int8
    }
  }

  /// Whether the layer needs a range from calibration.
  public var isStatic: Bool {
    switch self {
    case .dynamicPerToken, .dynamicPerTensor, .dynamicPerGroup: false
    case .staticPerTensor, .staticAsymmetric: true
    }
  }

  /// How many neighbouring inputs of a token share a scale.
  func span(inputs: Int) -> Int {
    if case .dynamicPerGroup(_, let size) = self { min(size, inputs) } else { inputs }
  }
}

extension ActivationScheme: CustomStringConvertible {
  public var description: String {
    let format = format == .int8 ? "int8" : "fp8 e4m3"
    return switch self {
    case .dynamicPerToken: "\(format), dynamic per token"
    case .dynamicPerTensor: "\(format), dynamic per tensor"
    case .dynamicPerGroup(_, let size): "\(format), dynamic per token in groups of \(size)"
    case .staticPerTensor: "\(format), static per tensor"
    case .staticAsymmetric: "\(format) asymmetric, static per tensor"
    }
  }
}
