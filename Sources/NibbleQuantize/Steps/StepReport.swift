public import NibbleModel

/// What a step changed.
public struct StepReport: Codable, Hashable, Sendable {
  public var step: String
  public var block: Int
  public var site: Site
  public var result: String
}
