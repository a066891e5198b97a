public import NibbleFormats
public import NibbleModel

/// What rounding costs the model where it is done: one group of layers after the other.
public struct Sensitivity: Hashable, Sendable {
  /// Layers that read one input and that engines fuse: they stay float together or not at all.
  public struct Group: Hashable, Sendable {
    public var block: Int
    public var site: Site
    /// Module paths.
    public var paths: [String]
    /// Values in their weights.
    public var weights: Int
    /// Mean KL divergence from the source when these layers alone are rounded to nearest, nats a token.
    public var kl: Double
    /// Signal to quantization noise of the least exact weight, dB; nil when nothing was lost.
    public var signalToNoise: Double?
  }

  /// By falling KL, the earlier block first among equals.
  public let groups: [Group]
  /// Tokens that the KL is a mean over.
  public let tokens: Int

  public init(_ groups: [Group], tokens: Int) {
    self.groups = groups.enumerated().sorted {
      ($1.element.kl, $0.offset) < ($0.element.kl, $1.offset)
    }.map(\.element)
    self.tokens = tokens
  }

  /// The sum of all effects: an estimate of the KL of rounding everything, which holds while errors are
  /// small and independent.
  public var estimate: Double { groups.reduce(0) { $0 + max(0, $1.kl) } }

  /// Groups in the order in which they should stay float: by falling KL a weight.
  private var byValue: [Group] {
    groups.enumerated().sorted { a, b in
      let (x, y) = (a.element, b.element)
      let (left, right) = (x.kl * Double(y.weights), y.kl * Double(x.weights))
      return (right, a.offset) < (left, b.offset)
    }.map(\.element)
  }

  /// The groups that buy most for at most `share` of all weights of the linear layers, 0...1.
  public func kept(share: Double) -> [Group] {
    let total = groups.reduce(0) { $0 + $1.weights }
    var room = share * Double(total)
    return byValue.filter { group in
      guard group.kl > 0, Double(group.weights) <= room else { return false }
      room -= Double(group.weights)
      return true
    }
  }

  /// The first groups that bring the estimate to `maxKL` or below.
  public func kept(maxKL: Double) -> [Group] {
    var left = estimate
    return byValue.filter { group in
      guard left > maxKL, group.kl > 0 else { return false }
      left -= group.kl
      return true
    }
  }

  /// What their weights are of all, 0...1.
  public func share(of kept: [Group]) -> Double {
    Double(kept.reduce(0) { $0 + $1.weights })
      / Double(max(1, groups.reduce(0) { $0 + $1.weights }))
  }

  public var json: JSON {
    [
      "tokens": JSON(tokens), "estimated_kl": .number(estimate),
      "groups": .array(
        groups.map {
          [
            "paths": .array($0.paths.map { .string($0) }), "kl": .number($0.kl),
            "sqnr_db": $0.signalToNoise.map { .number($0) } ?? .null, "weights": JSON($0.weights),
          ]
        }),
    ]
  }
}

extension Recipe {
  /// The recipe with some layers kept float.
  public func keeping(_ paths: [String]) -> Recipe {
    var recipe = self
    recipe.exceptions =
      paths.map { Exception(pattern: $0, scheme: nil) } + exceptions
    return recipe
  }
}
