public import NibbleTensor

/// A feed-forward unit: `down(act(gate x) · up x)`, or `down(act(up x))`.
public struct FeedForwardShape: Hashable, Sendable {
  /// A gated unit that clamps large values: with `g = min(gate, limit)` and `u = clamp(up, ±limit)`,
  /// `(u + 1) · g · sigmoid(slope · g)` in place of `act(gate) · up`. Source: gpt-oss, transformers
  /// `modeling_gpt_oss.py`.
  public struct Clamp: Hashable, Sendable {
    public var limit: Float
    public var slope: Float

    public init(limit: Float, slope: Float) {
      self.limit = limit
      self.slope = slope
    }
  }

  public var activation: Activation
  public var isGated: Bool
  /// In place of the activation.
  public var clamp: Clamp?
  /// Gate and up, or what holds them; up alone in a unit without a gate.
  public var inputs: [LinearShape]
  public var down: LinearShape

  public init(_ activation: Activation, isGated: Bool, inputs: [LinearShape], down: LinearShape) {
    self.activation = activation
    self.isGated = isGated
    self.inputs = inputs
    self.down = down
  }

  /// Channels between the linears.
  public var width: Int { down.inputs }

  var linears: [LinearShape] { inputs + [down] }
}
