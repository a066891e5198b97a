public import NibbleModel
public import NibbleTensor

/// Learns the weights, biases and norms of a block so that it computes, rounded, what the source's
/// block computes: the loss is the mean squared error of the hidden states behind the block, without
/// the first token of each window, which is many times larger than the others in many models.
///
/// Weights are rounded in each step as the run rounds them afterwards, and the gradient passes the
/// rounding unchanged. Scales are not learned: they follow the weights. Routers and linears that
/// stay float are not learned. Every tenth step the loss is computed on windows kept out, with
/// vectors in their storage format; the values with the least loss are kept, those of the start
/// included.
///
/// Source: ZeroQuant, arXiv 2206.01861, section 4.3 (layer-by-layer knowledge distillation) and
/// DeepSpeed's script for it. Ours: rates relative to the tensors, which fall to zero in equal steps,
/// where the script keeps them; and the choice by windows kept out.
public struct Distill: Step {
  public static let name = "distill"

  /// The hidden states that enter the block while it learns.
  public enum Inputs: String, Codable, Hashable, Sendable, CaseIterable {
    /// Those of the source, as in the paper.
    case source
    /// Those of the quantized model, so that the block also makes up for the errors before it.
    case quantized
  }

  public var steps = 50
  /// Tokens per step: as many windows as have that many.
  public var tokens = 512
  /// What AdamW moves a weight by in the first steps, as a share of the median scale of its tensor.
  public var rate: Float = 0.005
  /// The same for biases and norms, as a share of their mean magnitude.
  public var vectorRate: Float = 0.0001
  /// Weight decay of AdamW, for weights only.
  public var decay: Float = 0.01
  public var inputs = Inputs.source

  public init() {}

  public init(_ fields: RecipeFields?) throws {
    try fields?.allow(["steps", "tokens", "rate", "vector_rate", "decay", "inputs"])
    steps = try fields?.count("steps", in: 1...100_000) ?? steps
    tokens = try fields?.count("tokens", in: 1...1_000_000) ?? tokens
    rate = try fields?.number("rate", in: 0...1) ?? rate
    vectorRate = try fields?.number("vector_rate", in: 0...1) ?? vectorRate
    decay = try fields?.number("decay", in: 0...1) ?? decay
    if let text = try fields?.text("inputs") {
      guard let inputs = Inputs(rawValue: text) else {
        throw RecipeFault("inputs of distill is \(text); use source or quantized")
      }
      self.inputs = inputs
    }
  }

  public var needs: StepNeeds { inputs == .source ? [.source] : [.source, .quantized] }
  public var effects: StepEffects { .fitsNearest }

  public func fault(after earlier: [any Step], _ schemes: [LinearScheme]) -> String? {
    if earlier.contains(where: { $0 is Distill }) { return "distill comes once" }
    if let scheme = schemes.lazy.compactMap(\.activations).first(where: \.isStatic) {
      return "distill learns with inputs whose scales are found as they run, not \(scheme)"
    }
    return nil
  }

  public func fault(on block: BlockShape) -> String? {
    BlockTape.fault(block).map { "\(block.path): \($0). Use a recipe without distill." }
  }

  public func memory(of block: BlockShape, window: Int) -> Int {
    let weights = block.linears.reduce(0) { $0 + $1.outputs * $1.inputs }
    // Values, the best of them, their rounded form, their gradient of a window and of a step, and
    // two moments.
    let learned = 4 * 7 * weights
    // On the tape: what each linear reads, as floats and rounded, and what it gives, with gradients.
    let kept = block.linears.reduce(0) { $0 + 2 * $1.inputs + 2 * $1.outputs }
    return learned + 4 * 2 * window * kept
  }

  public func apply(
    to block: inout WorkingBlock, _ context: inout StepContext
  ) throws(QuantizeError) -> [StepReport] {
    let (source, exporter) = (context.source, context.exporter)
    return try context.streams?.distill(&block, from: source, self, exporter) ?? []
  }
}
