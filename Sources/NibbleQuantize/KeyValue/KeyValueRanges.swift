public import NibbleModel

/// Minimum and maximum of each key head's keys and values in one block, from which cache scales are
/// computed.
public struct KeyValueRanges: Hashable, Sendable, Codable {
  /// `[keyHeads]`.
  public struct Heads: Hashable, Sendable, Codable {
    public var low: [Float]
    public var high: [Float]

    public init(low: [Float], high: [Float]) {
      self.low = low
      self.high = high
    }

    /// Largest magnitude of each head.
    public var peaks: [Float] { zip(low, high).map { max(-$0, $1) } }
  }

  public var keys: Heads
  public var values: Heads
  /// Largest magnitude of each channel, `[keyHeads · d]`.
  public var keyChannels: [Float]
  public var valueChannels: [Float]

  /// - Throws: when a head was never measured or was always zero, which gives no scale.
  init(_ record: KeyValueRecord, keyHeads: Int, block: Int) throws(QuantizeError) {
    func heads(
      _ range: KeyValueRecord.ChannelRange, _ what: String
    ) throws(QuantizeError) -> Heads {
      let size = range.low.count / max(1, keyHeads)
      var heads = Heads(low: [], high: [])
      for head in 0..<keyHeads {
        let channels = head * size..<(head + 1) * size
        let low = range.low[channels].min() ?? 0
        let high = range.high[channels].max() ?? 0
        guard record.tokens > 0, low.isFinite, high.isFinite, low < 0 || high > 0 else {
          throw .unmeasuredCache(block: block, what: what, head: head)
        }
        heads.low.append(low)
        heads.high.append(high)
      }
      return heads
    }
    keys = try heads(record.keys, "keys")
    values = try heads(record.values, "values")
    keyChannels = record.keys.peaks
    valueChannels = record.values.peaks
  }

  /// `scale = absmax / largest code`, one for all heads or one per head, as `format` says.
  ///
  /// No scale is subnormal. Source: AutoFP8 for fp8, lmdeploy 0.2.6 `kv_qparams` for int8.
  public func scales(_ format: KeyValueFormat) -> KeyValueScales? {
    func scales(_ peaks: [Float]) -> [Float] {
      let peaks = format.isPerHead ? peaks : [peaks.max() ?? 0]
      return peaks.map { max($0 / format.largestCode, .leastNormalMagnitude) }
    }
    return KeyValueScales(format, keys: scales(keys.peaks), values: scales(values.peaks))
  }

  /// The heads of one of `ranks` tensor-parallel ranks. With more ranks than heads, ranks share
  /// heads.
  public func heads(ofRank rank: Int, of ranks: Int) -> Range<Int> {
    let count = keys.low.count
    guard ranks <= count else {
      let head = rank / (ranks / count)
      return head..<head + 1
    }
    return rank * (count / ranks)..<(rank + 1) * (count / ranks)
  }
}
