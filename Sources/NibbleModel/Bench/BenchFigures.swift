public import NibbleFormats
import NibbleTensor

/// Figures that one process measured for one model, or the medians of several processes.
public struct BenchFigures: Hashable, Sendable {
  /// Prefill speed, tokens per second.
  public var prefill: Double
  /// Decode speed, tokens per second.
  public var decode: Double
  /// Seconds from the start of the process to the token after the prompt; nil when a program does
  /// not report it.
  public var firstToken: Double?
  /// Seconds of it until the model was loaded.
  public var loading: Double?
  /// Peak resident bytes; nil when the system does not report them.
  public var peakBytes: Int?
  /// Nil for a program that does not report it.
  public var work: DecoderWork?

  public init(
    prefill: Double, decode: Double, firstToken: Double? = nil, loading: Double? = nil,
    peakBytes: Int? = nil, work: DecoderWork? = nil
  ) {
    self.prefill = prefill
    self.decode = decode
    self.firstToken = firstToken
    self.loading = loading
    self.peakBytes = peakBytes
    self.work = work
  }

  /// The median of each figure, taken separately.
  public init(medianOf rounds: [BenchFigures]) {
    precondition(!rounds.isEmpty, "no rounds")
    prefill = Self.median(rounds.map(\.prefill)) ?? 0
    decode = Self.median(rounds.map(\.decode)) ?? 0
    firstToken = Self.median(rounds.compactMap(\.firstToken))
    loading = Self.median(rounds.compactMap(\.loading))
    peakBytes = Self.median(rounds.compactMap { $0.peakBytes.map(Double.init) }).map { Int($0) }
    work = rounds[0].work
  }

  /// The middle value, or the mean of the two in the middle; nil for an empty array.
  static func median(_ values: [Double]) -> Double? {
    guard !values.isEmpty else { return nil }
    let sorted = values.sorted()
    return (sorted[(values.count - 1) / 2] + sorted[values.count / 2]) / 2
  }
}

extension BenchFigures {
  /// For the parent process that started the round.
  public var json: JSON {
    var json: JSON = [
      "prefill_tokens_per_second": .number(prefill), "decode_tokens_per_second": .number(decode),
      "time_to_first_token_seconds": firstToken.map { .number($0) } ?? .null,
      "loading_seconds": loading.map { .number($0) } ?? .null,
      "peak_rss_bytes": peakBytes.map { JSON($0) } ?? .null,
    ]
    guard let work else { return json }
    json.set("weight_bytes", JSON(work.weightBytes))
    json.set("cache_bytes_per_position", .number(work.cacheBytesPerPosition))
    json.set("block_operations", .number(work.blockOperations))
    json.set("head_operations", .number(work.headOperations))
    json.set("attention_operations", .number(work.attentionOperations))
    json.set("arithmetic", .string(work.arithmetic.rawValue))
    return json
  }

  /// Nil when a figure is missing.
  init?(_ json: JSON) {
    guard let prefill = json["prefill_tokens_per_second"]?.double,
      let decode = json["decode_tokens_per_second"]?.double
    else { return nil }
    self.init(
      prefill: prefill, decode: decode, firstToken: json["time_to_first_token_seconds"]?.double,
      loading: json["loading_seconds"]?.double, peakBytes: json["peak_rss_bytes"]?.int)
    guard let weightBytes = json["weight_bytes"]?.int,
      let cache = json["cache_bytes_per_position"]?.double,
      let block = json["block_operations"]?.double, let head = json["head_operations"]?.double,
      let attention = json["attention_operations"]?.double,
      let arithmetic = json["arithmetic"]?.string.flatMap(MachineLimits.Arithmetic.init)
    else { return }
    work = DecoderWork(
      weightBytes: weightBytes, cacheBytesPerPosition: cache, blockOperations: block,
      headOperations: head, attentionOperations: attention, arithmetic: arithmetic)
  }
}

extension DecoderWork {
  init(
    weightBytes: Int, cacheBytesPerPosition: Double, blockOperations: Double,
    headOperations: Double, attentionOperations: Double, arithmetic: MachineLimits.Arithmetic
  ) {
    self.weightBytes = weightBytes
    self.cacheBytesPerPosition = cacheBytesPerPosition
    self.blockOperations = blockOperations
    self.headOperations = headOperations
    self.attentionOperations = attentionOperations
    self.arithmetic = arithmetic
  }
}
