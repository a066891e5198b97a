public import NibbleTensor

/// A gated delta net: the linears that read its input, the convolution and the recurrent state
/// between them, and the output projection. It takes the place of attention in a block, and its
/// state takes the place of a KV cache.
///
/// `output(norm(net(q, k, v; b, a)) · silu(z))`. Source: arXiv 2412.06464; transformers
/// `modeling_qwen3_5.py`.
public struct MixerShape: Hashable, Sendable {
  /// Module path below the block, such as `linear_attn`.
  public var path: String
  public var core: DeltaNet
  /// Fuses queries, keys and values, in this order: `[channels, hidden]`.
  public var mixed: LinearShape
  /// z: `[valueWidth, hidden]`.
  public var gate: LinearShape
  /// b: `[valueHeads, hidden]`. Stays float.
  public var strength: LinearShape
  /// a: `[valueHeads, hidden]`. Stays float.
  public var step: LinearShape
  public var output: LinearShape
  /// Norm of each value head, before the gate; one weight `[valueSize]` for all heads.
  public var norm: NormShape
  /// Tensors below the block: the convolution `[channels, 1, kernel]`, the logarithms of the decay
  /// rates `[valueHeads]`, and the bias of a `[valueHeads]`.
  public var convolution: String
  public var logRates: String
  public var stepBias: String

  /// A mixer with the names of Qwen3.5.
  ///
  /// - Parameter epsilon: that of the norm of value heads.
  public init(_ core: DeltaNet, path: String, hidden: Int, epsilon: Float) {
    self.path = path
    self.core = core
    func linear(_ name: String, _ outputs: Int, _ parts: [LinearShape.Part]) -> LinearShape {
      LinearShape("\(path).\(name)", outputs: outputs, inputs: hidden, bias: false, parts: parts)
    }
    let (k, v) = (core.keyWidth, core.valueWidth)
    mixed = linear(
      "in_proj_qkv", core.channels,
      [
        LinearShape.Part(.query, [0..<k]), LinearShape.Part(.key, [k..<2 * k]),
        LinearShape.Part(.value, [2 * k..<2 * k + v]),
      ])
    gate = linear("in_proj_z", v, [LinearShape.Part(.outputGate, [0..<v])])
    strength = linear(
      "in_proj_b", core.valueHeads, [LinearShape.Part(.strength, [0..<core.valueHeads])])
    step = linear("in_proj_a", core.valueHeads, [LinearShape.Part(.step, [0..<core.valueHeads])])
    strength.staysFloat = true
    step.staysFloat = true
    output = LinearShape(.output, "\(path).out_proj", outputs: hidden, inputs: v)
    norm = NormShape("\(path).norm", width: core.valueSize, epsilon: epsilon)
    convolution = "\(path).conv1d.weight"
    logRates = "\(path).A_log"
    stepBias = "\(path).dt_bias"
  }

  /// Linears that read the branch's input and can be quantized.
  var inputs: [LinearShape] { [mixed, gate] }

  /// Linears that read the branch's input and stay float: a few rows each, whose errors add up in
  /// the state.
  var floats: [LinearShape] { [strength, step] }

  var linears: [LinearShape] { inputs + floats + [output] }
}
