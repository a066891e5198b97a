public import NibbleModel

/// The change that a step made at a site or to a block.
public struct StepReport: Codable, Hashable, Sendable {
  public var step: String
  public var block: Int
  /// Nil: the whole block.
  public var site: Site?
  public var result: String
  /// The loss on windows kept out, before the first step and after every tenth one; nil for steps
  /// that do not learn.
  public var losses: [Double]? = nil
}
