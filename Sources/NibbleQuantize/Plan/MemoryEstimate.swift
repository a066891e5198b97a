import NibbleModel
import NibbleTensor

/// Lengths, in tokens, of the token windows that run through the blocks.
public struct WindowSizes: Sendable, Hashable {
  public var calibration: [Int]
  public var heldOut: [Int]

  public init(calibration: [Int] = [], heldOut: [Int] = []) {
    self.calibration = calibration
    self.heldOut = heldOut
  }

  var longest: Int { (calibration + heldOut).max() ?? 0 }
}

/// Estimated peak resident memory of a run, in bytes. Computed from sizes alone.
public struct MemoryEstimate: Sendable, Hashable, Codable {
  /// The program, its tokenizer and its lookup tables.
  public var program: Int
  /// The largest unit: its source pages, the codes made from it, and packed copies of both.
  public var weights: Int
  /// Intermediate results of one window, its KV cache, and scratch memory of products.
  public var activations: Int
  /// Data of the calibrated steps for one block: a site's weights as floats, second moments and their
  /// factorizations, and kept activations.
  public var steps: Int
  /// Hidden states of the source stream and of the quantized stream.
  public var states: Int
  /// Logits of the source stream and of the quantized stream.
  public var logits: Int

  public var total: Int {
    program + max(weights + activations + steps, activations + logits) + states
  }

  init(
    _ units: [Plan.Unit], decoder: DecoderShape?, windows: WindowSizes, recipe: Recipe,
    isMapped: Bool
  ) {
    program = 64 << 20
    // A block is in memory as a whole. Tensors outside the blocks are processed in pieces.
    let blocks = units.filter { $0.block != nil }
    let blockBytes = blocks.map { unit in
      unit.layers.reduce(0) { $0 + $1.sourceBytes + 2 * $1.outputBytes }
        // Stacked experts are copied while their block runs.
        + unit.copies.reduce(0) { $0 + ($1.shape.count > 2 ? $1.byteCount : 0) }
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
    let attention = max(
      decoder.attentions.map { $0.core.queryWidth + 4 * $0.core.keyWidth }.max() ?? 0,
      decoder.blocks.compactMap(\.mixer).map { $0.core.channels + $0.core.valueWidth }.max() ?? 0)
    let width = 4 * decoder.hidden + decoder.stateWidth + 2 * decoder.intermediate + 2 * attention
    // Scratch: tiles with rows of three weights and two activations, up to 6 bytes per value.
    let products = 3 * (24 << 20) + 6 * longest * (decoder.hidden + decoder.intermediate)
    activations = 4 * longest * width + products
    // Packed copies of the source's block and of the quantized one. Floats are packed only where
    // products run on tiles: for both blocks, 8 bytes per value in bf16 and 12 in f32. Elsewhere
    // only codes are packed, and keep their size.
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
      ? Self.steps(blocks, decoder, windows.calibration, recipe) : 0
    // Above `heldBytes`, hidden states are on disk.
    let streams = recipe.needsCalibration ? recipe.needs.streams : 2
    let (calibrated, measured) = (
      4 * decoder.stateWidth * windows.calibration.reduce(0, +),
      4 * decoder.stateWidth * windows.heldOut.reduce(0, +)
    )
    states =
      streams * min(calibrated + measured, WindowStates.heldBytes)
      + (2 - streams) * min(measured, WindowStates.heldBytes)
    // Those behind the block, beside those that enter it.
    if recipe.needs.contains(.source) { states += min(calibrated, WindowStates.heldBytes) }
    // The head's mapped pages are in memory during its product.
    logits = 2 * 4 * logitRows * decoder.vocabulary + 2 * decoder.vocabulary * decoder.hidden
    if !isMapped {
      // Each use of the embedding widens it again, and the tokenizer is converted and written.
      program += (64 << 20) + 4 * decoder.vocabulary * decoder.hidden
    }
  }

  private static func steps(
    _ blocks: [Plan.Unit], _ decoder: DecoderShape, _ calibration: [Int], _ recipe: Recipe
  ) -> Int {
    let needs = recipe.needs
    // The linears of one site as floats, and scratch for the matrix being quantized.
    let site =
      blocks.map { unit in
        Dictionary(grouping: unit.layers, by: \.site).values.map { layers in
          layers.reduce(0) { $0 + $1.inputs * $1.outputs }
        }.max() ?? 0
      }.max() ?? 0
    let largest = blocks.flatMap(\.layers).map { $0.inputs * $0.outputs }.max() ?? 0
    var bytes = 4 * (site + 4 * largest)
    let sites = decoder.blocks.map(\.sites).max { $0.count < $1.count } ?? []
    let widths = sites.map(\.width)
    // Tokens kept in the statistics of each expert.
    let kept = ActivationRecord.sampled + ActivationRecord.loudest
    bytes += 4 * kept * sites.reduce(0) { $0 + ($1.expert == nil ? 0 : $1.width) }
    let square = (widths.max() ?? 0) * (widths.max() ?? 0)
    if needs.contains(.moments) { bytes += 4 * (widths.reduce(0) { $0 + $1 * $1 } + 2 * square) }
    if needs.contains(.quantized) {
      let kept = 4 * calibration.reduce(0, +) * (widths.max() ?? 0) * needs.streams
      bytes += min(kept, StateStreams.keptBytes * (needs.contains(.aligned) ? 2 : 1))
    }
    bytes +=
      recipe.steps.map { step in
        decoder.blocks.map { step.memory(of: $0, window: calibration.max() ?? 0) }.max() ?? 0
      }.max() ?? 0
    // Tokens buffered for the next update of second moments, and their tiles.
    bytes += 8 * 2 * GramMatrix.tokensAtOnce * (widths.max() ?? 0)
    // Those of all experts wait at the same time.
    if needs.contains(.moments) {
      bytes +=
        8 * GramMatrix.tokensAtOnce * sites.reduce(0) { $0 + ($1.expert == nil ? 0 : $1.width) }
    }
    return bytes
  }
}
