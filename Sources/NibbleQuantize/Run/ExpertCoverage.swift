public import NibbleFormats

/// How many calibration tokens reached the experts of a model.
public struct ExpertCoverage: Sendable, Hashable {
  public struct Block: Sendable, Hashable {
    public var block: Int
    /// Of each expert.
    public var tokens: [Int]
  }

  public var blocks: [Block]

  /// Nil where nobody counted.
  init?(_ entries: [JournalEntry], _ plan: Plan) {
    blocks = entries.compactMap { entry in
      guard let tokens = entry.expertTokens, let block = plan.units[entry.unit].block else {
        return nil
      }
      return Block(block: block, tokens: tokens)
    }
    if blocks.isEmpty { return nil }
  }

  /// Experts of all blocks.
  public var experts: Int { blocks.reduce(0) { $0 + $1.tokens.count } }
  /// Tokens that reached the least of them.
  public var least: Int { blocks.flatMap(\.tokens).min() ?? 0 }
  public var mean: Double {
    Double(blocks.reduce(0) { $0 + $1.tokens.reduce(0, +) }) / Double(max(1, experts))
  }
  /// Those that no token reached, `block.expert`: their weights were rounded by themselves.
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
