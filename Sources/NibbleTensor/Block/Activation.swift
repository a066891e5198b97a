import CNibble

/// The nonlinear function of a feed-forward unit.
public enum Activation: String, Hashable, Sendable, Codable {
  /// `x / (1 + e^-x)`
  case silu
  /// `max(x, 0)`
  case relu
  /// `x (1 + erf(x / sqrt 2)) / 2`
  case gelu
  /// `x (1 + tanh(sqrt(2 / π) (x + 0.044715 x³))) / 2`
  case geluTanh

  var code: Int32 {
    switch self {
    case .silu: Int32(NIBBLE_SILU)
    case .relu: Int32(NIBBLE_RELU)
    case .gelu: Int32(NIBBLE_GELU)
    case .geluTanh: Int32(NIBBLE_GELU_TANH)
    }
  }
}
