public import NibbleModel

/// The extremes of each key head of one block's keys and values: where the scales of a cache come from.
public struct KeyValueRanges: Hashable, Sendable, Codable {
  /// `[keyHeads]`.
  public struct Heads: Hashable, Sendable, Codable {
    public var low: [Float]
    public var high: [Float]

    public init(low: [Float], high: [Float]) {
      self.low = low
      self.high = high
    }

    /// The largest magnitude of each head.
    public var peaks: [Float] { zip(low, high).map { max(-$0, $1) } }
  }

  public var keys: Heads
  public var values: Heads
  /// The largest magnitude of each channel, `[keyHeads · d]`.
  public var keyChannels: [Float]
  public var valueChannels: [Float]

  /// - Throws: when a head said nothing: a scale that was not measured is no scale.
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

  /// `scale = absmax / largest code`, of all heads or of each.
  ///
  /// No scale is subnormal. Source: AutoFP8 for fp8, lmdeploy 0.2.6 `kv_qparams` for int8.
  public func scales(_ format: KeyValueFormat) -> KeyValueScales? {
    func scales(_ peaks: [Float]) -> [Float] {
      let peaks = format.isPerHead ? peaks : [peaks.max() ?? 0]
      return peaks.map { max($0 / format.largestCode, .leastNormalMagnitude) }
    }
    return KeyValueScales(format, keys: scales(keys.peaks), values: scales(values.peaks))
  }

  /// The heads of one of `ranks` tensor-parallel ranks; ranks share heads when there are more of them.
  public func heads(ofRank rank: Int, of ranks: Int) -> Range<Int> {
    let count = keys.low.count
    guard ranks <= count else {
      let head = rank / (ranks / count)
      return head..<head + 1
    }
    return rank * (count / ranks)..<(rank + 1) * (count / ranks)
  }
}
