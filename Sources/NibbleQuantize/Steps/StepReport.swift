public import NibbleModel

/// The change that a step made at one site.
public struct StepReport: Codable, Hashable, Sendable {
  public var step: String
  public var block: Int
  public var site: Site
  public var result: String
}
