import Foundation
import NibbleEngines
import NibbleFormats
import NibbleModel
import NibbleTensor
import Testing
import TinyModel

@testable import NibbleQuantize

/// The first block of a small model on disk, what enters its sites, and a plan: what steps work on.
struct StepBench {
  let checkpoint: Checkpoint
  let config: DecoderShape
  let source: Block
  let block: WorkingBlock
  let plan: Plan
  /// `[t, hidden]` of each window.
  let states: [[Float]]
  let windows: [[Int]]
  let compute = Compute(threads: 1, precision: .f32)

  /// - Parameter biases: also writes biases of query, key, value and up, as the model is stored.
  init(
    _ model: TinyModel, in folder: String, recipe: Recipe = .w8a8, biases: Bool = false,
    change: (_ name: String, _ values: inout [Float]) -> Void = { _, _ in },
    bias: (_ path: String, _ values: inout [Float]) -> Void = { _, _ in }
  ) throws {
    if !biases {
      try model.write(to: URL(fileURLWithPath: folder), change: change)
    } else {
      let keys = model.keyHeads * model.headSize
      let sizes = [
        ("self_attn.q_proj", model.heads * model.headSize), ("self_attn.k_proj", keys),
        ("self_attn.v_proj", keys), ("mlp.up_proj", model.intermediate),
      ]
      var random = SplitMix(state: 99)
      let more = (0..<model.blocks).flatMap { block in
        sizes.map { path, count in
          var values = (0..<count).map { _ in Float.random(in: -1...1, using: &random) }
          bias(path, &values)
          return (
            SafetensorsLayout.Tensor(
              name: "model.layers.\(block).\(path).bias",
              dtype: DType(rawValue: model.format.rawValue.uppercased())!, shape: [count]), values
          )
        }
      }
      try model.write(in: folder, adding: more, change: change)
    }
    checkpoint = try Checkpoint(path: folder)
    config = try checkpoint.decoderShape()
    source = try Block(config.blocks[0], from: checkpoint)
    block = WorkingBlock(source, 0, in: checkpoint, on: compute)
    plan = try Plan(
      checkpoint, recipe: recipe, exporter: CompressedTensors(),
      windows: WindowSizes(calibration: [], heldOut: []))
    windows = (0..<4).map { someTokens(24, below: model.vocabulary, seed: 30 + UInt64($0)) }
    let ends = try DecoderEnds(config, from: checkpoint)
    let compute = compute
    states = try windows.map { try ends.states(of: $0, on: compute) }
  }

  /// Applies a step to a copy of the block.
  func apply(
    _ step: some Step, to block: inout WorkingBlock, seen: [Site: ActivationStatistics],
    layers: [LinearID: Plan.Layer]
  ) throws -> [StepReport] {
    block.seen = seen
    block.layers = layers
    var context = StepContext(
      exporter: plan.exporter, compute: compute, source: source, streams: nil)
    return try step.apply(to: &block, &context)
  }

  /// The layers of the first block; all when none are named.
  func layers(_ linears: [LinearID]? = nil) -> [LinearID: Plan.Layer] {
    Dictionary(
      uniqueKeysWithValues: plan.units[0].layers.compactMap { layer in
        layer.linear.flatMap { linears?.contains($0) == false ? nil : ($0, layer) }
      })
  }

  /// The layers that let one site fold and no other.
  func layers(foldingOnly site: Site) -> [LinearID: Plan.Layer] {
    switch site {
    case .output: layers([.output, .value])
    case .down: layers([.down, .up])
    default: layers(site.linears)
    }
  }

  /// The activation that enters each site of `block`, `[t, k]`, by window.
  func activations(of block: Block) throws -> [Site: [[Float]]] {
    var pass = try ForwardPass(config, positions: 64, on: compute)
    var result: [Site: [[Float]]] = [:]
    for window in states {
      var states = window
      for site in block.shape.sites {
        let activation = pass.activation(at: site, of: block, states)
        result[site.site, default: []].append(activation)
        if site.endsBranch { pass.endBranch(of: site, block, activation, on: &states) }
      }
    }
    return result
  }

  /// What a block adds to its states, of all windows.
  func contribution(of block: Block) throws -> [Float] {
    var pass = try ForwardPass(config, positions: 64, on: compute)
    return states.flatMap { window in
      var states = window
      let store = pass.sequenceStore(of: block.shape, tokens: 24)
      pass.run(block, on: &states, from: 0, keeping: store)
      return zip(states, window).map { $0 - $1 }
    }
  }

  /// Statistics of a block's activations, every token sampled.
  func statistics(of block: Block) throws -> [Site: ActivationStatistics] {
    try activations(of: block).mapValues { activations in
      let k = activations[0].count / windows[0].count
      var record = ActivationRecord(channels: k)
      var moments = GramMatrix(channels: k)
      for (index, activation) in activations.enumerated() {
        record.add(activation, window: WindowIdentity(windows[index]), on: compute)
        moments.add(activation, on: compute)
      }
      moments.finish(on: compute)
      return ActivationStatistics(record, moments: moments)
    }
  }
}

/// `sqrt(Σ(a - b)² / Σb²)`.
func relativeError(_ a: [Float], _ b: [Float]) -> Double {
  var (error, signal) = (0.0, 0.0)
  for (x, y) in zip(a, b) {
    error += Double(x - y) * Double(x - y)
    signal += Double(y) * Double(y)
  }
  return (error / signal).squareRoot()
}
