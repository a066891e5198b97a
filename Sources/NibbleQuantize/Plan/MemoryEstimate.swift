import NibbleFormats
import NibbleModel
import NibbleTensor

/// The largest resident memory of a run, in bytes, from sizes alone.
public struct MemoryEstimate: Sendable, Hashable, Codable {
  /// The program, its tokenizer and its tables.
  public var program: Int
  /// The largest unit: its source pages and the codes made of them.
  public var weights: Int
  /// Intermediate results of one window, its keys and values, and scratch of the products.
  public var activations: Int
  /// The states of both streams.
  public var states: Int
  /// Logits of both streams.
  public var logits: Int

  public var total: Int { program + max(weights + activations, activations + logits) + states }

  init(_ units: [Plan.Unit], decoder: DecoderConfig?, windows: [Int], isMapped: Bool) {
    program = 64 << 20
    // A block is held whole; what stands outside the blocks passes in pieces.
    let blockBytes = units.filter { $0.block != nil }.map { unit in
      unit.layers.reduce(0) { $0 + $1.sourceBytes + 2 * $1.outputBytes }
    }
    let largestMatrix = units.flatMap(\.layers).map { $0.inputs * $0.outputs }.max() ?? 0
    weights = (blockBytes.max() ?? 0) + largestMatrix
    guard let decoder, !windows.isEmpty else {
      activations = 16 << 20
      states = 0
      logits = 0
      return
    }
    let longest = windows.max() ?? 0
    let attention = decoder.attention
    let width =
      5 * decoder.hidden + 2 * decoder.intermediate
      + 2 * (attention.heads + 4 * attention.keyHeads) * attention.headSize
    let products = 2 * (16 << 20) + 4 * longest * max(decoder.hidden, decoder.intermediate)
    activations = 4 * longest * width + products
    states = 2 * 4 * windows.reduce(0, +) * decoder.hidden
    // The head's mapped pages are in memory while it multiplies.
    logits = 2 * 4 * logitRows * decoder.vocabulary + 2 * decoder.vocabulary * decoder.hidden
    if !isMapped {
      // The embedding is widened once more for each use, and the tokenizer is made and written.
      program += (64 << 20) + 4 * decoder.vocabulary * decoder.hidden
    }
  }
}
