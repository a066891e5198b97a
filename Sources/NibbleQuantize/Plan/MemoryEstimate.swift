import NibbleModel
import NibbleTensor

/// Lengths of the token windows that run through the blocks.
public struct WindowSizes: Sendable, Hashable {
  public var calibration: [Int]
  public var heldOut: [Int]

  public init(calibration: [Int] = [], heldOut: [Int] = []) {
    self.calibration = calibration
    self.heldOut = heldOut
  }

  var longest: Int { (calibration + heldOut).max() ?? 0 }
}

/// The largest resident memory of a run, in bytes, from sizes alone.
public struct MemoryEstimate: Sendable, Hashable, Codable {
  /// The program, its tokenizer and its tables.
  public var program: Int
  /// The largest unit: its source pages and the codes made of them.
  public var weights: Int
  /// Intermediate results of one window, its keys and values, and scratch of the products.
  public var activations: Int
  /// What the steps learn of a block: its parameters as floats, second moments and their factors,
  /// activations that are kept.
  public var steps: Int
  /// The states of both streams.
  public var states: Int
  /// Logits of both streams.
  public var logits: Int

  public var total: Int {
    program + max(weights + activations + steps, activations + logits) + states
  }

  init(
    _ units: [Plan.Unit], decoder: DecoderShape?, windows: WindowSizes, recipe: Recipe,
    isMapped: Bool
  ) {
    program = 64 << 20
    // A block is held whole; what stands outside the blocks passes in pieces.
    let blocks = units.filter { $0.block != nil }
    let blockBytes = blocks.map { unit in
      unit.layers.reduce(0) { $0 + $1.sourceBytes + 2 * $1.outputBytes }
    }
    let largestMatrix = units.flatMap(\.layers).map { $0.inputs * $0.outputs }.max() ?? 0
    weights = (blockBytes.max() ?? 0) + largestMatrix
    let longest = windows.longest
    guard let decoder, longest > 0 else {
      activations = 16 << 20
      steps = 0
      states = 0
      logits = 0
      return
    }
    let attention =
      decoder.attentions.map { $0.core.queryWidth + 4 * $0.core.keyWidth }.max() ?? 0
    let width = 5 * decoder.hidden + 2 * decoder.intermediate + 2 * attention
    // Scratch: rows of three weights and two activations in tiles, up to 6 bytes a value.
    let products = 3 * (24 << 20) + 6 * longest * (decoder.hidden + decoder.intermediate)
    activations = 4 * longest * width + products
    // The source's block and the quantized one, packed for all windows. Floats are packed only where
    // products run on tiles: 2 bytes per value of each block in bf16, up to 6 in f32. Codes are packed
    // in their own size.
    let packed = blocks.map { unit in
      unit.layers.reduce(0) { sum, layer in
        let values = layer.inputs * layer.outputs
        guard Compute.tiles != .none else { return sum + values * layer.scheme.weights.bits / 8 }
        return sum + values * (layer.modelFormat == .bf16 ? 8 : 12)
      }
    }
    weights += packed.max() ?? 0
    steps =
      recipe.needsCalibration
      ? Self.steps(blocks, decoder, windows.calibration, recipe.needs) : 0
    // Streams of more than some bytes are on disk.
    let streams = recipe.needsCalibration ? recipe.needs.streams : 2
    let (calibrated, measured) = (
      4 * decoder.hidden * windows.calibration.reduce(0, +),
      4 * decoder.hidden * windows.heldOut.reduce(0, +)
    )
    states =
      streams * min(calibrated + measured, WindowStates.heldBytes)
      + (2 - streams) * min(measured, WindowStates.heldBytes)
    // The head's mapped pages are in memory while it multiplies.
    logits = 2 * 4 * logitRows * decoder.vocabulary + 2 * decoder.vocabulary * decoder.hidden
    if !isMapped {
      // The embedding is widened once more for each use, and the tokenizer is made and written.
      program += (64 << 20) + 4 * decoder.vocabulary * decoder.hidden
    }
  }

  private static func steps(
    _ blocks: [Plan.Unit], _ decoder: DecoderShape, _ calibration: [Int], _ needs: Step.Needs
  ) -> Int {
    // The block's floats as steps change them and as they run, and one matrix on its way to codes.
    let values = blocks.map { $0.layers.reduce(0) { $0 + $1.inputs * $1.outputs } }.max() ?? 0
    let largest = blocks.flatMap(\.layers).map { $0.inputs * $0.outputs }.max() ?? 0
    var bytes = 4 * (2 * values + 4 * largest)
    let sites = decoder.blocks.map(\.sites).max { $0.count < $1.count } ?? []
    let widths = sites.map(\.width)
    // Tokens that each expert's statistics keep.
    let kept = ActivationRecord.sampled + ActivationRecord.loudest
    bytes += 4 * kept * sites.reduce(0) { $0 + ($1.expert == nil ? 0 : $1.width) }
    let square = (widths.max() ?? 0) * (widths.max() ?? 0)
    if needs.contains(.moments) { bytes += 4 * (widths.reduce(0) { $0 + $1 * $1 } + 2 * square) }
    if needs.contains(.quantized) {
      let kept = 4 * calibration.reduce(0, +) * (widths.max() ?? 0) * needs.streams
      bytes += 4 * 5 * square + min(kept, StateStreams.keptBytes)
    }
    // Tokens that wait for a whole slab of second moments, and their tiles.
    bytes += 8 * 2 * GramMatrix.tokensAtOnce * (widths.max() ?? 0)
    return bytes
  }
}
