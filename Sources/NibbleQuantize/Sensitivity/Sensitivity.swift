public import NibbleFormats
public import NibbleModel

/// The effect of quantizing each group of layers by itself on the model's output.
public struct Sensitivity: Hashable, Sendable {
  /// Layers that read one input and that engines fuse: they must stay float together.
  public struct Group: Hashable, Sendable {
    public var block: Int
    public var site: Site
    /// Module paths.
    public var paths: [String]
    /// Number of values in their weights.
    public var weights: Int
    /// Mean KL divergence from the source when only these layers are rounded to nearest, nats per
    /// token.
    public var kl: Double
    /// Lowest signal-to-quantization-noise of their weights, dB; nil when rounding is exact.
    public var signalToNoise: Double?
  }

  /// By falling KL; equal groups in the order of blocks.
  public let groups: [Group]
  /// Number of tokens that the KL is averaged over.
  public let tokens: Int

  public init(_ groups: [Group], tokens: Int) {
    self.groups = groups.enumerated().sorted {
      ($1.element.kl, $0.offset) < ($0.element.kl, $1.offset)
    }.map(\.element)
    self.tokens = tokens
  }

  /// The sum of all KLs. It estimates the KL of quantizing everything, as long as errors are small
  /// and independent.
  public var estimate: Double { groups.reduce(0) { $0 + max(0, $1.kl) } }

  /// Groups in the order in which they should stay float: by falling KL per weight.
  private var byValue: [Group] {
    groups.enumerated().sorted { a, b in
      let (x, y) = (a.element, b.element)
      let (left, right) = (x.kl * Double(y.weights), y.kl * Double(x.weights))
      return (right, a.offset) < (left, b.offset)
    }.map(\.element)
  }

  /// The groups with the largest KL reduction per weight, up to `share` (0...1) of all weights of
  /// the linear layers.
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

  /// Share of the weights of `kept` in all weights, 0...1.
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
