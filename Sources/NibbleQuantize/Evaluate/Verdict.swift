public import NibbleFormats

/// Quality lost by quantization, measured against the source on held-out text.
public struct Verdict: Sendable, Hashable, Codable {
  /// Mean Kullback-Leibler divergence of the quantized model from the source, nats per token.
  public var kl: Double
  /// Share of tokens on which both models rank the same token first.
  public var top1: Double
  /// exp of the mean of -log p over the scored tokens.
  public var perplexity: Double
  public var sourcePerplexity: Double
  /// Number of tokens scored.
  public var tokens: Int
  /// How the distributions differ; nil in a verdict of a version that did not measure it.
  public var divergence: Divergence?

  init?(_ meter: LossMeter) {
    guard let comparison = meter.comparison else { return nil }
    kl = comparison.kl
    top1 = comparison.top1
    perplexity = meter.perplexity
    sourcePerplexity = comparison.basePerplexity
    tokens = meter.count
    divergence = comparison.divergence
  }

  /// The numbers with their definitions.
  ///
  /// - Parameter bound: the largest KL divergence that is accepted; nil for none.
  public func json(bound: Double?) -> JSON {
    var json: JSON = [
      "kl": .number(kl), "kl_bound": bound.map { .number($0) } ?? .null,
      "within_bound": bound.map { .bool(kl <= $0) } ?? .null,
      "top1": .number(top1), "perplexity": .number(perplexity),
      "source_perplexity": .number(sourcePerplexity), "tokens": JSON(tokens),
      "definition": .string(Self.definition),
    ]
    json.set("divergence", divergence?.json)
    return json
  }

  public static let definition =
    "held-out windows, each on its own; every token but a window's first is scored; kl = mean of "
    + "sum p (log p - log q) in nats, p the source; top1 = share of equal first choices; perplexity "
    + "= exp of the mean of -log p"
}
