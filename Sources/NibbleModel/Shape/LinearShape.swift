/// Names a linear layer by its module path below the block, such as `self_attn.q_proj`.
public struct LinearID: RawRepresentable, Hashable, Sendable, Codable, CustomStringConvertible {
  public let rawValue: String

  public init(rawValue: String) { self.rawValue = rawValue }

  public var description: String { rawValue }
}

/// The function of some outputs of a linear layer in its block.
public enum Role: String, Hashable, Sendable, Codable {
  case query, key, value, output, gate, up, down, router
  /// Its sigmoid or SiLU multiplies the result of attention or of a mixer.
  case outputGate
  /// The share of a new value that a mixer's state takes over, before the sigmoid.
  case strength
  /// How far a mixer's state decays, before softplus.
  case step
}

/// A linear layer as stored on disk: `y = x · Wᵀ + b`.
///
/// A fused layer has several parts: one product computes the outputs of all of them.
public struct LinearShape: Hashable, Sendable {
  /// Whether the layer has a bias.
  public enum Bias: Hashable, Sendable {
    case required
    /// Has a bias if the checkpoint stores one.
    case ifStored
  }

  /// The outputs of one role, in order.
  public struct Part: Hashable, Sendable {
    public var role: Role
    /// Ranges of these outputs within the layer.
    public var rows: [Range<Int>]

    public init(_ role: Role, _ rows: [Range<Int>]) {
      self.role = role
      self.rows = rows
    }

    public var count: Int { rows.reduce(0) { $0 + $1.count } }
  }

  /// A tensor `[experts, outputs, inputs]` that stacks one matrix per expert. A layer may be only
  /// some of the outputs of its matrix.
  public struct Stack: Hashable, Sendable {
    /// Name of the tensor below the block; no `.weight` is appended.
    public var tensor: String
    /// Name of the tensor of biases, `[experts, outputs]`; nil for none.
    public var bias: String?
    public var expert: Int
    public var experts: Int
    /// Outputs of one expert's matrix.
    public var outputs: Int
    /// The layer's first output within the matrix, and the distance to its next.
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
  /// Whether the weight is stored as `[inputs, outputs]`.
  public var isTransposed = false
  /// Whether the layer stays float in every recipe, as routers do.
  public var staysFloat = false
  /// The stacked tensor that holds the layer. Nil if it has its own tensor, which `id` names.
  public var stack: Stack?

  /// A layer with one part.
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

  /// Whether its own tensor is `[inputs, outputs]`. Row-wise rounding would give one scale per
  /// input.
  package var liesInputsFirst: Bool { isTransposed && stack == nil }

  /// The role of a layer with one part; nil for a fused layer.
  public var role: Role? { parts.count == 1 ? parts[0].role : nil }
}
