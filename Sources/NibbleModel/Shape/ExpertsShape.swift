/// A mixture of experts: a router sends each token to a few of many feed-forward units. The result
/// is the sum of their outputs, each times its routing weight.
public struct ExpertsShape: Hashable, Sendable {
  /// How the router's logits become the routing weights of the chosen experts. Ties choose the
  /// expert with the lower index.
  public enum Shares: Hashable, Sendable {
    /// Softmax over all logits, then the largest values. If `normalizes`, these are divided by
    /// their sum.
    case softmaxOfAll(normalizes: Bool)
    /// The largest logits, then a softmax over those.
    case softmaxOfChosen
  }

  /// The shared expert, which runs for every token.
  public struct Shared: Hashable, Sendable {
    public var unit: FeedForwardShape
    /// `[1, hidden]`: multiplies the unit's output by `sigmoid(x · gate)`; nil for a factor of 1.
    public var gate: LinearShape?

    public init(_ unit: FeedForwardShape, gate: LinearShape?) {
      self.unit = unit
      self.gate = gate
    }
  }

  /// What the router reads, if it is not the input of the experts: `scale · factors · x / rms(x)`.
  public struct RouterInput: Hashable, Sendable {
    /// Name of the tensor `[hidden]` below the block.
    public var factors: String
    public var scale: Float
    public var epsilon: Float

    public init(factors: String, scale: Float, epsilon: Float) {
      self.factors = factors
      self.scale = scale
      self.epsilon = epsilon
    }
  }

  /// `[experts, hidden]`. Stays float.
  public var router: LinearShape
  /// Nil if the router reads what the experts read.
  public var routerInput: RouterInput?
  /// Name of a tensor `[experts]` below the block that multiplies the routing weights; nil for
  /// none.
  public var shareFactors: String?
  /// Experts per token.
  public var chosen: Int
  public var shares: Shares
  /// One feed-forward unit per expert, all of the same width.
  public var units: [FeedForwardShape]
  public var shared: Shared?

  public init(
    router: LinearShape, chosen: Int, _ shares: Shares, units: [FeedForwardShape],
    shared: Shared? = nil
  ) {
    self.router = router
    self.chosen = chosen
    self.shares = shares
    self.units = units
    self.shared = shared
  }

  /// Channels between the linears of one expert.
  public var width: Int { units.first?.width ?? 0 }

  /// Linears that read the branch's input and can be quantized.
  var inputs: [LinearShape] { units.flatMap(\.inputs) + (shared?.unit.inputs ?? []) }

  /// Linears that read the branch's input and stay float.
  var floats: [LinearShape] {
    (routerInput == nil ? [router] : []) + [shared?.gate].compactMap(\.self)
  }

  var linears: [LinearShape] {
    units.flatMap(\.linears) + (shared?.unit.linears ?? []) + [router]
      + [shared?.gate].compactMap(\.self)
  }

  /// The linears of all experts, without the shared expert's.
  package var expertLinears: Set<LinearID> { Set(units.flatMap(\.linears).map(\.id)) }
  /// Fraction of all tokens that an expert sees on average.
  var use: Double { Double(chosen) / Double(max(1, units.count)) }
}
