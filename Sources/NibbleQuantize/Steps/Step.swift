public import NibbleModel
public import NibbleTensor

/// One idea applied to one block while it is quantized. A recipe is a list of steps; the last one
/// rounds.
public protocol Step: Codable, Hashable, Sendable {
  /// Its key in recipe files.
  static var name: String { get }

  /// - Parameter fields: the step's settings in a recipe file; nil when it has none there.
  /// - Throws: an error that names the field and its allowed values.
  init(_ fields: RecipeFields?) throws

  /// The calibration data it uses.
  var needs: StepNeeds { get }
  /// What it does to a block that other steps must know.
  var effects: StepEffects { get }
  /// The reason why it cannot follow earlier steps or round to some schemes; nil when it can.
  func fault(after earlier: [any Step], _ schemes: [LinearScheme]) -> String?
  /// The reason why it cannot work on a block; nil when it can.
  func fault(on block: BlockShape) -> String?
  /// Memory in bytes while it works on a block, besides the weights of a site and what it `needs`.
  ///
  /// - Parameter window: tokens of the longest window.
  func memory(of block: BlockShape, window: Int) -> Int
  /// Changes the block, or rounds its weights.
  func apply(
    to block: inout WorkingBlock, _ context: inout StepContext
  ) throws(QuantizeError) -> [StepReport]
}

extension Step {
  public var needs: StepNeeds { [] }
  public var effects: StepEffects { [] }
  public func fault(after earlier: [any Step], _ schemes: [LinearScheme]) -> String? { nil }
  public func fault(on block: BlockShape) -> String? { nil }
  public func memory(of block: BlockShape, window: Int) -> Int { 0 }
  var rounds: Bool { effects.contains(.rounds) }
}

/// Calibration data that a step uses.
public struct StepNeeds: OptionSet, Sendable {
  public let rawValue: Int

  public init(rawValue: Int) { self.rawValue = rawValue }

  /// Statistics of the source's activations.
  public static let statistics = StepNeeds(rawValue: 1)
  /// Second moments of the source's activations.
  public static let moments = StepNeeds(rawValue: 2)
  /// Activations of the quantized model, site by site.
  public static let quantized = StepNeeds(rawValue: 4)
  /// Activations of the source, site by site, beside those of the quantized model.
  public static let aligned = StepNeeds(rawValue: 8)
  /// The source's hidden states at the block's input. The step moves them past the block.
  public static let source = StepNeeds(rawValue: 16)
  /// What a statistics file can provide.
  static let stored: StepNeeds = [.statistics, .moments]
  /// All data that the source's states provide.
  static let sourceStates: StepNeeds = [.statistics, .moments, .aligned, .source]

  /// Number of models that the calibration windows run through.
  var streams: Int {
    (isDisjoint(with: .sourceStates) ? 0 : 1) + (contains(.quantized) ? 1 : 0)
  }
}

/// What a step does to a block that other steps must know.
public struct StepEffects: OptionSet, Sendable {
  public let rawValue: Int

  public init(rawValue: Int) { self.rawValue = rawValue }

  /// Turns weights into codes.
  public static let rounds = StepEffects(rawValue: 1)
  /// Divides the outputs of norms.
  public static let scalesNorms = StepEffects(rawValue: 2)
  /// Subtracts centers from the outputs of norms.
  public static let shiftsNorms = StepEffects(rawValue: 4)
  /// Norms are written with a bias.
  public static let biasesNorms = StepEffects(rawValue: 8)
  /// The codes are chosen so that they compress.
  public static let compresses = StepEffects(rawValue: 16)
  /// The weights are learned for rounding to nearest with the scales of their extremes.
  public static let fitsNearest = StepEffects(rawValue: 32)
}
