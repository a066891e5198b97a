/// How the inputs of a linear layer are rounded when it runs.
public struct ActivationScheme: Hashable, Sendable, Codable {
  public enum Format: String, Hashable, Sendable, Codable {
    /// Symmetric int8, codes -127...127.
    case int8
    /// FP8 E4M3FN.
    case e4m3
  }

  public var format: Format

  /// A scale for each token, computed when the layer runs: the token's largest magnitude over the
  /// format's largest code.
  public static func dynamicPerToken(_ format: Format) -> Self { Self(format: format) }

  private init(format: Format) { self.format = format }
}

/// How a linear layer is stored and run.
public struct LinearScheme: Hashable, Sendable, Codable {
  public var weights: WeightScheme
  /// Nil when activations stay float.
  public var activations: ActivationScheme?

  public init(weights: WeightScheme, activations: ActivationScheme? = nil) {
    self.weights = weights
    self.activations = activations
  }
}

extension LinearScheme: CustomStringConvertible {
  public var description: String {
    switch activations?.format {
    case nil: "weights \(weights); activations float"
    case .int8: "weights \(weights); activations int8, dynamic per token"
    case .e4m3: "weights \(weights); activations fp8 e4m3, dynamic per token"
    }
  }
}
