public import NibbleModel

/// Quantization of the KV cache in a recipe.
public struct KeyValueScheme: Hashable, Sendable, Codable {
  public var format: KeyValueFormat
  /// Number of tensor-parallel ranks to write scale files for, beside the weights, for an old
  /// engine that reads them; nil writes none.
  public var ranks: Int?

  public init(_ format: KeyValueFormat, ranks: Int? = nil) {
    self.format = format
    self.ranks = ranks
  }

  /// The reason why the files for `ranks` cannot be written; nil when they can.
  func fault(keyHeads: Int) -> String? {
    guard let ranks else { return nil }
    guard format != .int4 else {
      return "--kv-ranks: no engine reads scales of an int4 cache from files. Leave it out, or use "
        + "--kv int8."
    }
    guard ranks > 0, keyHeads.isMultiple(of: ranks) || ranks.isMultiple(of: keyHeads) else {
      return "--kv-ranks \(ranks): the model's \(keyHeads) key heads do not divide into as many "
        + "ranks. Use a divisor or a multiple of \(keyHeads)."
    }
    return nil
  }
}
