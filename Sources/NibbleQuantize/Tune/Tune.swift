/// Learns the scales and norms of a quantized model from end to end; codes stay as they are. The loss
/// is the KL divergence of its next-token distributions from the source's.
///
/// Each vector is its start value times a factor near 1, and the factors are learned with Adam at one
/// rate, which falls to zero in equal steps. Every `checkEvery` steps, and at the end, the divergence
/// is measured on windows that nothing was learned from, with all values as they will be stored. The
/// factors with the least divergence are kept.
///
/// Sources: mlx-lm's DWQ (distilled weight quantization: KL, codes frozen) and EfficientQAT, arXiv
/// 2407.11062, section 3.3 (scales alone, from end to end). Ours: factors, and the choice on windows
/// kept out.
public struct Tune: Sendable, Hashable, Codable {
  public var steps = 32
  /// Tokens per step: as many windows as have that many.
  public var tokens = 1024
  /// What Adam moves a factor by in the first steps.
  public var rate: Float = 0.0004
  /// T of the loss `T² KL(softmax(p / T) ‖ softmax(q / T))`. The divergence that is measured has 1.
  public var temperature: Float = 1
  public var checkEvery = 8

  public init() {}

  /// The factors stay in this range.
  package static let factors: ClosedRange<Float> = 0.5...2
}
