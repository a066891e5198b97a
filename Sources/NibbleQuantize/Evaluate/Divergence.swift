public import NibbleFormats

/// How far a model's next-token distributions are from those of its source, beyond the means.
///
/// All values are over the scored positions: full vocabulary, temperature 1, `p` of the source.
public struct Divergence: Sendable, Hashable, Codable {
  /// Percentiles of the KL divergence per position, nats, interpolated between the two nearest
  /// positions, as numpy does.
  public var median: Double
  public var p90: Double
  public var p99: Double
  /// The largest KL divergence of a position, nats.
  public var maximum: Double
  /// Bootstrap interval of the mean KL divergence.
  public var interval: Interval?
  /// Mean share of the source's five likeliest tokens that are among the model's five, 0...1.
  public var top5: Double
  /// Mean and root mean square of `q(token) - p(token)`, the change of the probability of the token
  /// that the text has.
  public var probabilityChange: Double
  public var probabilityChangeRMS: Double
  /// Mean loss of the model minus that of the source, nats: ln of the ratio of their perplexities.
  public var lossChange: Double
  /// Bootstrap interval of `lossChange`, from the same resamples as `interval`.
  public var lossChangeInterval: Interval?
  /// Number of windows, which the bootstrap resamples.
  public var windows: Int
  /// By index of the position in its window, counted from 0 and with a beginning-of-text token: the
  /// parts in ``positionBounds`` that were scored.
  public var byPosition: [Part]
  /// By kind of text of the predicted token; empty when the kinds are unknown.
  public var byKind: [Part]

  /// 2.5 and 97.5 percentiles over resamples of the windows.
  public struct Interval: Sendable, Hashable, Codable {
    public var lower: Double
    public var upper: Double

    public var json: JSON { [.number(lower), .number(upper)] }
  }

  /// Means over a part of the scored positions.
  public struct Part: Sendable, Hashable, Codable {
    public var name: String
    public var tokens: Int
    public var kl: Double
    public var top1: Double
  }

  /// First positions of the parts in `byPosition`.
  public static let positionBounds = [0, 64, 512]

  /// Names of the parts in `byPosition`.
  static let positionNames = positionBounds.indices.map { index in
    index == positionBounds.count - 1
      ? "\(positionBounds[index])+" : "\(positionBounds[index])-\(positionBounds[index + 1] - 1)"
  }

  /// The numbers with their definition.
  public var json: JSON {
    func parts(_ parts: [Part]) -> JSON {
      .array(
        parts.map {
          [
            "name": .string($0.name), "tokens": JSON($0.tokens), "kl": .number($0.kl),
            "top1": .number($0.top1),
          ]
        })
    }
    return [
      "kl_median": .number(median), "kl_p90": .number(p90), "kl_p99": .number(p99),
      "kl_max": .number(maximum), "kl_interval": interval?.json ?? .null, "top5": .number(top5),
      "probability_change_mean": .number(probabilityChange),
      "probability_change_rms": .number(probabilityChangeRMS),
      "ln_perplexity_ratio": .number(lossChange),
      "ln_perplexity_ratio_interval": lossChangeInterval?.json ?? .null,
      "windows": JSON(windows), "by_position": parts(byPosition), "by_kind": parts(byKind),
      "definition": .string(Self.definition),
    ]
  }

  public static let definition =
    "kl per scored position, nats; top5 = share of the source's five likeliest tokens among the "
    + "model's five; probability_change = q - p of the token in the text; ln_perplexity_ratio = mean "
    + "loss minus the source's; by_position counts positions in a window from 0, by_kind takes the "
    + "kind of the predicted token; intervals = 2.5 and 97.5 percentiles of \(Bootstrap.resamples) "
    + "paired resamples of the windows, null for one window"
}
