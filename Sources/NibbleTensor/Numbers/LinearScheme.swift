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
    "weights \(weights); activations \(activations.map { "\($0)" } ?? "float")"
  }
}
