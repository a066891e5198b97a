/// An int8 weight `[n, k]` cut into fractals of 16 outputs x 32 inputs, grouped into blocks of up
/// to 8 x 8 fractals: the storage order of Ascend's compressed weights.
///
/// Fractals are padded with zeros beyond the weight. Consecutive blocks go along the inputs first.
public struct FractalGrid: Hashable, Sendable {
  /// Fractals along each side of a full block.
  public static let side = 8
  static let outputsOfFractal = 16
  static let inputsOfFractal = 32

  public let outputs: Int
  public let inputs: Int

  public init(outputs: Int, inputs: Int) {
    precondition(outputs > 0 && inputs > 0, "[\(outputs), \(inputs)] is no weight")
    self.outputs = outputs
    self.inputs = inputs
  }

  var outputFractals: Int { (outputs + 15) / Self.outputsOfFractal }
  var inputFractals: Int { (inputs + 31) / Self.inputsOfFractal }

  /// Blocks along the outputs and along the inputs.
  public var outputBlocks: Int { (outputFractals + 7) / Self.side }
  public var inputBlocks: Int { (inputFractals + 7) / Self.side }
  public var blocks: Int { outputBlocks * inputBlocks }

  /// Bytes of all fractals, padding included.
  var paddedBytes: Int { outputFractals * inputFractals * 512 }

  /// Whether the last band of blocks overlaps the one before it: the last blocks are then full and
  /// repeat rows of their neighbours, as the consuming kernel reads them.
  public var tailOverlaps: Bool {
    outputFractals > Self.side && !outputFractals.isMultiple(of: Self.side)
  }

  struct Block {
    /// First output and input.
    var output: Int
    var input: Int
    var outputFractals: Int
    var inputFractals: Int
    /// How many of its first outputs the block above it holds too.
    var knownOutputs: Int

    var bytes: Int { outputFractals * inputFractals * 512 }
  }

  func block(_ index: Int) -> Block {
    let (band, column) = (index / inputBlocks, index % inputBlocks)
    let first = min(band * Self.side, max(0, outputFractals - Self.side))
    return Block(
      output: first * Self.outputsOfFractal,
      input: column * Self.side * Self.inputsOfFractal,
      outputFractals: min(Self.side, outputFractals),
      inputFractals: min(Self.side, inputFractals - column * Self.side),
      knownOutputs: band * Self.side * Self.outputsOfFractal)
  }
}
