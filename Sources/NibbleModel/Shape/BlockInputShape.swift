public import NibbleTensor

/// A branch that reads inputs of its own block besides the states: `output(act(gate x) · input)`
/// (Gemma 4's per-layer embeddings).
public struct BlockInputShape: Hashable, Sendable {
  public var gate: LinearShape
  public var output: LinearShape
  public var activation: Activation
  /// The columns of the block's input among the carried values.
  public var columns: Range<Int>

  public init(
    gate: String, output: String, hidden: Int, width: Int, _ activation: Activation,
    columns: Range<Int>
  ) {
    self.gate = LinearShape(.gate, gate, outputs: width, inputs: hidden)
    self.output = LinearShape(.down, output, outputs: hidden, inputs: width)
    self.activation = activation
    self.columns = columns
  }

  var linears: [LinearShape] { [gate, output] }
}
