/// Static quantization range of a layer's inputs, from calibration: `value = (code - zero) *
/// scale`.
///
/// int8: `code = clamp(round(x / scale) + zero, -128, 127)`, half to even. fp8: zero is 0 and
/// `code = e4m3(x / scale)`, clamped to 448.
public struct InputRange: Hashable, Sendable {
  /// Above zero, finite.
  public let scale: Float
  /// In -128...127.
  public let zero: Int32

  public init(scale: Float, zero: Int32 = 0) {
    precondition(scale > 0 && scale.isFinite, "an input scale is \(scale)")
    precondition((-128...127).contains(zero), "an input zero point is \(zero)")
    self.scale = scale
    self.zero = zero
  }
}

/// Activation quantization of one layer: the scheme, and its range if the scheme is static.
public struct InputRounding: Hashable, Sendable {
  public let scheme: ActivationScheme
  /// Non-nil exactly when the scheme is static.
  public let range: InputRange?

  /// - Precondition: there is a range exactly when the scheme is static, and a zero point only when
  ///   it is asymmetric.
  public init(_ scheme: ActivationScheme, range: InputRange? = nil) {
    precondition((range != nil) == scheme.isStatic, "\(scheme), range \(range as Any)")
    precondition(
      scheme == .staticAsymmetric || range?.zero ?? 0 == 0, "\(scheme), range \(range as Any)")
    self.scheme = scheme
    self.range = range
  }
}
