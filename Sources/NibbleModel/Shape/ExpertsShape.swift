/// A mixture of experts: a router sends each token through some of many feed-forward units, whose
/// results are added in the shares that it gives them.
public struct ExpertsShape: Hashable, Sendable {
  /// How the outputs of a router become the shares of the units that it chose. Of equal outputs the
  /// first is chosen.
  public enum Shares: Hashable, Sendable {
    /// Softmax over all outputs, then the largest; where it `normalizes`, divided by their sum.
    case softmaxOfAll(normalizes: Bool)
    /// The largest outputs, then softmax over those.
    case softmaxOfChosen
  }

  /// A unit that every token passes.
  public struct Shared: Hashable, Sendable {
    public var unit: FeedForwardShape
    /// `[1, hidden]`: the unit's result is multiplied by `sigmoid(x · gate)`; nil adds it as it is.
    public var gate: LinearShape?

    public init(_ unit: FeedForwardShape, gate: LinearShape?) {
      self.unit = unit
      self.gate = gate
    }
  }

  /// `[experts, hidden]`; stays float.
  public var router: LinearShape
  /// Units that a token passes.
  public var chosen: Int
  public var shares: Shares
  /// All of one width.
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

  /// Channels between the linears of a unit.
  public var width: Int { units.first?.width ?? 0 }

  /// What reads the branch's input and can be rounded.
  var inputs: [LinearShape] { units.flatMap(\.inputs) + (shared?.unit.inputs ?? []) }

  /// What reads the branch's input and stays float.
  var floats: [LinearShape] { [router] + [shared?.gate].compactMap(\.self) }

  var linears: [LinearShape] {
    units.flatMap(\.linears) + (shared?.unit.linears ?? []) + floats
  }

  /// The share of all tokens that read a linear: a unit's is that of its choice.
  func use(of linear: LinearID) -> Double {
    units.contains { unit in unit.linears.contains { $0.id == linear } }
      ? Double(chosen) / Double(max(1, units.count)) : 1
  }
}
