import NibbleTensor

/// One transformer layer: branches that read the residual stream and add to it.
public struct BlockShape: Hashable, Sendable {
  public enum Residual: Hashable, Sendable {
    /// Each branch reads the residual stream as the previous branch left it.
    case sequential
    /// All branches read the residual stream as it entered the block.
    case parallel
  }

  /// `x = closing(x + scale · after(inner(body(before(x)))))`. Each norm may be missing.
  public struct Branch: Hashable, Sendable {
    public enum Body: Hashable, Sendable {
      case attention(AttentionShape)
      case feedForward(FeedForwardShape)
      case experts(ExpertsShape)
      case mixer(MixerShape)
      case blockInput(BlockInputShape)
    }

    /// Norm of the branch's input. Two parallel branches with the same norm share one activation.
    public var before: NormShape?
    public var body: Body
    /// Norm of the body's result, before that of the previous branch joins it.
    public var inner: NormShape?
    /// Whether the result joins that of the next branch, which reads the same states.
    public var joinsNext: Bool
    public var after: NormShape?
    public var closing: NormShape?
    public var scale: Float

    public init(
      before: NormShape?, _ body: Body, inner: NormShape? = nil, joinsNext: Bool = false,
      after: NormShape? = nil, closing: NormShape? = nil, scale: Float = 1
    ) {
      self.before = before
      self.body = body
      self.inner = inner
      self.joinsNext = joinsNext
      self.after = after
      self.closing = closing
      self.scale = scale
    }
  }

  /// Module path, such as `model.layers.3`.
  public var path: String
  public var residual: Residual
  public var branches: [Branch]
  /// Whether a branch adds its result to its normed input instead of the residual stream (BLOOM).
  public var addsToNormed = false
  /// Name of a tensor `[1]` below the block that multiplies the states behind the last branch; nil
  /// for none.
  public var factor: String?
  /// Tensors below the block that may be stored and are not read.
  public var unread: [String] = []

  public init(_ path: String, _ residual: Residual = .sequential, _ branches: [Branch]) {
    self.path = path
    self.residual = residual
    self.branches = branches
  }

  /// Full path of a module of this block.
  public func path(of linear: LinearID) -> String { "\(path).\(linear.rawValue)" }
  public func path(of norm: NormShape) -> String { "\(path).\(norm.path)" }

  public var attention: AttentionShape? {
    for case .attention(let shape) in branches.lazy.map(\.body) { return shape }
    return nil
  }

  public var feedForward: FeedForwardShape? {
    for case .feedForward(let shape) in branches.lazy.map(\.body) { return shape }
    return nil
  }

  public var experts: ExpertsShape? {
    for case .experts(let shape) in branches.lazy.map(\.body) { return shape }
    return nil
  }

  public var mixer: MixerShape? {
    for case .mixer(let shape) in branches.lazy.map(\.body) { return shape }
    return nil
  }

  public var blockInput: BlockInputShape? {
    for case .blockInput(let shape) in branches.lazy.map(\.body) { return shape }
    return nil
  }

  /// All linears, in the order in which the block computes them.
  public var linears: [LinearShape] {
    branches.flatMap { branch in
      switch branch.body {
      case .attention(let shape): shape.inputs + [shape.output]
      case .feedForward(let shape): shape.linears
      case .experts(let shape): shape.linears
      case .mixer(let shape): shape.linears
      case .blockInput(let shape): shape.linears
      }
    }
  }

  /// Full names of the tensors that stack the linears of all experts, once each.
  public var stackedTensors: [String] {
    var names: [String] = []
    for stack in linears.compactMap(\.stack) {
      let name = "\(path).\(stack.tensor)"
      if !names.contains(name) { names.append(name) }
    }
    return names
  }

  public func linear(_ id: LinearID) -> LinearShape? { linears.first { $0.id == id } }

  /// The linear that holds the outputs of a role, and which of its outputs they are.
  public func linear(holding role: Role) -> (LinearShape, LinearShape.Part)? {
    for linear in linears { if let part = linear.part(role) { return (linear, part) } }
    return nil
  }

  /// Norms over `hidden` channels, each once, in the order of the forward pass.
  public var norms: [NormShape] {
    var norms: [NormShape] = []
    for norm in branches.flatMap({ [$0.before, $0.inner, $0.after, $0.closing] }).compactMap(\.self)
    where !norms.contains(norm) { norms.append(norm) }
    return norms
  }

  /// A tensor of a block that is neither a linear nor a norm over `hidden` channels.
  package struct Parameter: Hashable, Sendable {
    /// Below the block.
    package var name: String
    package var shape: [Int]
  }

  /// The parameters that stay float in every recipe, besides linears, norms over `hidden` channels
  /// and norms of queries and keys.
  package var parameters: [Parameter] {
    var found: [Parameter] = []
    if let attention, let sinks = attention.sinks {
      found.append(Parameter(name: sinks, shape: [attention.core.heads]))
    }
    if let factor { found.append(Parameter(name: factor, shape: [1])) }
    if let experts {
      if let input = experts.routerInput {
        found.append(Parameter(name: input.factors, shape: [experts.router.inputs]))
      }
      if let factors = experts.shareFactors {
        found.append(Parameter(name: factors, shape: [experts.units.count]))
      }
    }
    if let mixer {
      let net = mixer.core
      found += [
        Parameter(name: mixer.convolution, shape: [net.channels, 1, net.kernel]),
        Parameter(name: mixer.logRates, shape: [net.valueHeads]),
        Parameter(name: mixer.stepBias, shape: [net.valueHeads]),
        Parameter(name: mixer.norm.path + ".weight", shape: [net.valueSize]),
      ]
    }
    return found
  }

  /// Norms of queries and keys.
  public var headNorms: [AttentionShape.HeadNorm] {
    [attention?.queryNorm, attention?.keyNorm, attention?.valueNorm].compactMap(\.self)
  }
}
