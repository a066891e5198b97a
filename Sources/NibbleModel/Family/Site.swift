/// Where an activation enters linear layers, in the order of the forward pass.
public enum Site: String, Hashable, Sendable, Codable, CaseIterable {
  /// The normed states that query, key and value read.
  case attention
  /// The heads' weighted values, which the output projection reads.
  case output
  /// The normed states that gate and up read.
  case feedForward
  /// `silu(gate) · up`, which down reads.
  case down

  /// The linears that read it.
  public var roles: [Role] {
    switch self {
    case .attention: [.query, .key, .value]
    case .output: [.output]
    case .feedForward: [.gate, .up]
    case .down: [.down]
    }
  }

  public init(of role: Role) {
    self =
      switch role {
      case .query, .key, .value: .attention
      case .output: .output
      case .gate, .up: .feedForward
      case .down: .down
      }
  }
}
