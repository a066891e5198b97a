public import NibbleFormats
public import NibbleTensor

/// Medians of a bench, compared with the limits of the machine.
public struct BenchReport: Hashable, Sendable {
  public var settings: BenchSettings
  public var rounds: Int
  public var threads: Int
  /// This program's, then the peer's.
  public var sides: [BenchFigures]
  public var limits: MachineLimits

  public var ours: BenchFigures { sides[0] }
  public var other: BenchFigures? { sides.count > 1 ? sides[1] : nil }

  /// Bytes of weights, keys and values read per second during decode.
  public func bytesPerSecond(_ figures: BenchFigures) -> Double? {
    figures.work.map {
      (Double($0.weightBytes) + $0.cacheBytes(settings)) * figures.decode
    }
  }

  /// Operations per second during prefill.
  public func operationsPerSecond(_ figures: BenchFigures) -> Double? {
    figures.work.map {
      $0.operations(prompt: settings.promptTokens) / Double(settings.promptTokens)
        * figures.prefill
    }
  }

  /// Decode speed as a share of the read bandwidth.
  public func bandwidthShare(_ figures: BenchFigures) -> Double? {
    bytesPerSecond(figures).map { $0 / limits.readBandwidth }
  }

  /// Prefill speed as a share of the peak of its own arithmetic.
  public func arithmeticShare(_ figures: BenchFigures) -> Double? {
    guard let work = figures.work, let peak = limits.peak[work.arithmetic] else { return nil }
    return operationsPerSecond(figures).map { $0 / peak }
  }

  public var json: JSON {
    var json = object(ours)
    json.set("prompt_tokens", JSON(settings.promptTokens))
    json.set("decode_tokens", JSON(settings.decodeTokens))
    json.set("context", JSON(settings.context))
    json.set("rounds", JSON(rounds))
    json.set("threads", JSON(threads))
    json.set("instruction_set", .string(InstructionSet.current.name))
    json.set("read_bandwidth_bytes_per_second", .number(limits.readBandwidth))
    var peaks: JSON = [:]
    for (arithmetic, peak) in limits.peak.sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
      peaks.set(arithmetic.rawValue, .number(peak))
    }
    json.set("peak_operations_per_second", peaks)
    if let other {
      json.set("against", object(other))
      json.set("prefill_ratio", .number(ours.prefill / other.prefill))
      json.set("decode_ratio", .number(ours.decode / other.decode))
    }
    return json
  }

  private func object(_ figures: BenchFigures) -> JSON {
    var json = figures.json
    for (name, value) in [
      ("decode_bytes_per_second", bytesPerSecond(figures)),
      ("prefill_operations_per_second", operationsPerSecond(figures)),
      ("bandwidth_share", bandwidthShare(figures)),
      ("arithmetic_share", arithmeticShare(figures)),
    ] { json.set(name, value.map { .number($0) } ?? .null) }
    return json
  }
}
