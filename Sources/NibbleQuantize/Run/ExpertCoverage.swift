public import NibbleFormats

/// Number of calibration tokens that reached each expert of a model.
public struct ExpertCoverage: Sendable, Hashable {
  public struct Block: Sendable, Hashable {
    public var block: Int
    /// One entry per expert.
    public var tokens: [Int]
  }

  public var blocks: [Block]

  /// Nil if tokens were not counted.
  init?(_ entries: [JournalEntry], _ plan: Plan) {
    blocks = entries.compactMap { entry in
      guard let tokens = entry.expertTokens, let block = plan.units[entry.unit].block else {
        return nil
      }
      return Block(block: block, tokens: tokens)
    }
    if blocks.isEmpty { return nil }
  }

  /// Number of experts, in all blocks together.
  public var experts: Int { blocks.reduce(0) { $0 + $1.tokens.count } }
  /// Smallest number of tokens of any expert.
  public var least: Int { blocks.flatMap(\.tokens).min() ?? 0 }
  public var mean: Double {
    Double(blocks.reduce(0) { $0 + $1.tokens.reduce(0, +) }) / Double(max(1, experts))
  }
  /// Experts that no token reached, as `block.expert`. Their weights were rounded without
  /// calibration.
  public var starved: [String] {
    blocks.flatMap { block in
      block.tokens.indices.filter { block.tokens[$0] == 0 }.map { "\(block.block).\($0)" }
    }
  }

  public var json: JSON {
    [
      "least": JSON(least), "mean": .number(mean),
      "without_tokens": .array(starved.map { .string($0) }),
      "tokens": .array(
        blocks.map {
          ["block": JSON($0.block), "experts": .array($0.tokens.map { JSON($0) })]
        }),
    ]
  }
}
