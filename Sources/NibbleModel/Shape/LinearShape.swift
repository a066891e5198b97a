/// Names a linear layer within its block: its module path below the block, `self_attn.q_proj` and the
/// like.
public struct LinearID: RawRepresentable, Hashable, Sendable, Codable, CustomStringConvertible {
  public let rawValue: String

  public init(rawValue: String) { self.rawValue = rawValue }

  public var description: String { rawValue }
}

/// What some outputs of a linear layer are for its block.
public enum Role: String, Hashable, Sendable, Codable {
  case query, key, value, output, gate, up, down, router
}

/// A linear layer as it lies on disk: `y = x · Wᵀ + b`.
///
/// A fused layer holds several parts: its outputs are computed together and then dealt to them.
public struct LinearShape: Hashable, Sendable {
  /// Whether the layer has a bias.
  public enum Bias: Hashable, Sendable {
    case required
    /// Used when it is stored.
    case ifStored
  }

  /// Outputs that belong together, in their own order.
  public struct Part: Hashable, Sendable {
    public var role: Role
    /// Where they lie among the outputs of the layer.
    public var rows: [Range<Int>]

    public init(_ role: Role, _ rows: [Range<Int>]) {
      self.role = role
      self.rows = rows
    }

    public var count: Int { rows.reduce(0) { $0 + $1.count } }
  }

  /// A tensor that holds a matrix for each expert, `[experts, outputs, inputs]`, of whose outputs this
  /// layer may be some.
  public struct Stack: Hashable, Sendable {
    /// The tensor's whole name below the block.
    public var tensor: String
    /// That of the biases, `[experts, outputs]`.
    public var bias: String?
    public var expert: Int
    public var experts: Int
    /// Outputs of each matrix.
    public var outputs: Int
    /// The first output that is the layer's, and the step to the next.
    public var first: Int
    public var step: Int

    public init(
      _ tensor: String, bias: String? = nil, expert: Int, of experts: Int, outputs: Int,
      first: Int = 0, step: Int = 1
    ) {
      self.tensor = tensor
      self.bias = bias
      self.expert = expert
      self.experts = experts
      self.outputs = outputs
      self.first = first
      self.step = step
    }
  }

  public var id: LinearID
  public var outputs: Int
  public var inputs: Int
  public var bias: Bias
  public var parts: [Part]
  /// Whether the weight lies on disk as `[inputs, outputs]`.
  public var isTransposed = false
  /// Whether it stays float in any recipe, as routers do.
  public var staysFloat = false
  /// Where it lies, if not in a tensor of its own; its id names nothing on disk then.
  public var stack: Stack?

  /// A layer of one part.
  public init(_ role: Role, _ path: String, outputs: Int, inputs: Int, bias: Bool = false) {
    self.init(
      path, outputs: outputs, inputs: inputs, bias: bias, parts: [Part(role, [0..<outputs])])
  }

  public init(_ path: String, outputs: Int, inputs: Int, bias: Bool, parts: [Part]) {
    id = LinearID(rawValue: path)
    self.outputs = outputs
    self.inputs = inputs
    self.bias = bias ? .required : .ifStored
    self.parts = parts
  }

  public func part(_ role: Role) -> Part? { parts.first { $0.role == role } }

  /// Whether its own tensor holds `[inputs, outputs]`: rounded by rows, scales would belong to inputs.
  package var liesInputsFirst: Bool { isTransposed && stack == nil }

  /// The role of a layer that has one part.
  public var role: Role? { parts.count == 1 ? parts[0].role : nil }
}
