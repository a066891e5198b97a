public import NibbleTensor

/// A feed-forward unit: `down(act(gate x) · up x)`, or `down(act(up x))`.
public struct FeedForwardShape: Hashable, Sendable {
  /// The gated unit of gpt-oss, which clamps large values: `(u + 1) · g · sigmoid(slope · g)` in
  /// place of `act(gate) · up`, with `g = min(gate, limit)` and `u = clamp(up, ±limit)`. Source:
  /// gpt-oss, transformers `modeling_gpt_oss.py`.
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
  /// Replaces the activation function; nil for none.
  public var clamp: Clamp?
  /// The gate and up projections, or the one linear that fuses them. Without a gate, up alone.
  public var inputs: [LinearShape]
  public var down: LinearShape

  public init(_ activation: Activation, isGated: Bool, inputs: [LinearShape], down: LinearShape) {
    self.activation = activation
    self.isGated = isGated
    self.inputs = inputs
    self.down = down
  }

  /// Channels of the activation that down reads.
  public var width: Int { down.inputs }

  var linears: [LinearShape] { inputs + [down] }

  /// Whether it computes `silu(gate) · up`, which has fused kernels.
  var isSiLUGated: Bool { isGated && activation == .silu && clamp == nil }
}
