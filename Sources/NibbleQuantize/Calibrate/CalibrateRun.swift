import Foundation
public import NibbleModel
public import NibbleTensor

/// Runs text through a model once and stores statistics of its activations, for every later recipe.
public struct CalibrateRun {
  /// Checks of the calibration, computed from the statistics of one site.
  public struct Audit: Sendable, Hashable, Codable {
    public var block: Int
    public var site: Site
    /// Tokens that reached the site: all, or for an expert those that were routed to it.
    public var tokens: Int
    /// Largest magnitude; 0 without tokens.
    public var peak: Float
    /// Channels that are zero for every token.
    public var deadChannels: Int
    /// Channels whose largest magnitude is over 20 times that of the median channel.
    public var outlierChannels: Int
    /// Share of channels whose largest magnitude grew by more than a tenth in the second half of
    /// the windows. A high share means that more text is needed. Nil with one window.
    public var stillGrowing: Double?
  }

  let checkpoint: Checkpoint
  let windows: [[Int]]
  let compute: Compute

  public init(_ checkpoint: Checkpoint, windows: [[Int]], on compute: Compute) {
    self.checkpoint = checkpoint
    self.windows = windows
    self.compute = compute
  }

  /// Writes the statistics of `windows` to `path`; returns one audit per block and site.
  public func run(
    to path: String, progress: (_ done: Int, _ of: Int) -> Void, shouldStop: () -> Bool = { false }
  ) throws(QuantizeError) -> [Audit] {
    let identities = Set(windows.map(WindowIdentity.init))
    guard identities.count == windows.count else {
      throw .statistics(path: path, reason: "the calibration text repeats a window")
    }
    do {
      let config = try checkpoint.decoderShape()
      let ends = try DecoderEnds(config, from: checkpoint)
      var streams = try StateStreams(
        calibration: windows, heldOut: [], needs: .statistics, config: config, ends: ends,
        in: URL(fileURLWithPath: path).deletingLastPathComponent().path, on: compute)
      ends.embedding.release()
      let writer = try StatisticsWriter(
        config, model: StatisticsFile.fingerprint(of: checkpoint),
        tokens: windows.reduce(0) { $0 + $1.count }, windows: identities, to: path)
      var audits: [Audit] = []
      for (index, shape) in config.blocks.enumerated() {
        guard !shouldStop() else {
          throw QuantizeError.interruptedWithoutTrace(work: "calibration")
        }
        let block = try Block(shape, from: checkpoint)
        let (records, halves) = try streams.recordsInHalves(of: block, index)
        block.release()
        try writer.append(streams.keyValues, index)
        for site in shape.sites {
          let record = records[site.site] ?? ActivationRecord(channels: site.width)
          try writer.append(record, index, site)
          let half =
            halves[site.site]
            ?? (halves.isEmpty ? nil : [Float](repeating: 0, count: site.width))
          audits.append(Audit(record, firstHalf: half, index, site.site))
        }
        progress(index + 1, config.blocks.count)
      }
      try writer.finish()
      return audits
    } catch { throw QuantizeError(wrapping: error) }
  }

  /// Merges several statistics files of one model into one.
  public static func merge(
    _ files: [StatisticsFile], of checkpoint: Checkpoint, to path: String
  ) throws(QuantizeError) {
    var windows: Set<WindowIdentity> = []
    for file in files {
      try file.check(checkpoint)
      guard windows.isDisjoint(with: file.windows) else {
        throw .statistics(
          path: file.path, reason: "it counts a window that another file counts too")
      }
      windows.formUnion(file.windows)
    }
    let config: DecoderShape
    do { config = try checkpoint.decoderShape() } catch { throw .model(error) }
    let writer = try StatisticsWriter(
      config, model: StatisticsFile.fingerprint(of: checkpoint),
      tokens: files.reduce(0) { $0 + $1.tokens }, windows: windows, to: path)
    for (block, shape) in config.blocks.enumerated() {
      var keyValues = KeyValueRecord()
      for file in files {
        let record = try file.keyValues(block)
        guard keyValues.tokens == 0 || keyValues.keys.low.count == record.keys.low.count else {
          throw .statistics(path: file.path, reason: "its records have other sizes")
        }
        keyValues.merge(record)
      }
      try writer.append(keyValues, block)
      for site in shape.sites {
        var merged = ActivationRecord(channels: site.width)
        for file in files {
          let record = try file.record(block, site.site)
          guard record.channels == merged.channels else {
            throw .statistics(path: file.path, reason: "its records have other sizes")
          }
          merged.merge(record)
        }
        try writer.append(merged, block, site)
      }
    }
    try writer.finish()
  }
}

extension CalibrateRun.Audit {
  init(_ record: ActivationRecord, firstHalf: [Float]?, _ block: Int, _ site: Site) {
    self.block = block
    self.site = site
    tokens = record.tokens
    let peaks = zip(record.low, record.high).map { record.tokens > 0 ? max(-$0, $1) : 0 }
    peak = peaks.max() ?? 0
    deadChannels = peaks.count { $0 == 0 }
    let median = peaks.sorted()[peaks.count / 2]
    outlierChannels = peaks.count { median > 0 && $0 > 20 * median }
    stillGrowing = firstHalf.map { half in
      Double(zip(peaks, half).count { $0 > 1.1 * $1 }) / Double(max(1, peaks.count))
    }
  }
}

extension StateStreams {
  /// The records of a block's activations, and the largest magnitudes after the first half of the
  /// windows. Advances the states.
  ///
  /// - Throws: when an activation is not finite.
  mutating func recordsInHalves(
    of block: Block, _ index: Int
  ) throws(QuantizeError) -> (records: [Site: ActivationRecord], firstHalf: [Site: [Float]]) {
    var damaged: Site?
    var window = 0
    var halves: [Site: ColumnStatistics] = [:]
    let half = calibration.count / 2
    let compute = pass.compute
    let records = records(of: block) { site, activation, channels in
      // All tokens reach the attention, which comes first; an expert may miss whole windows.
      if site == .attention { window += 1 }
      if damaged == nil, !activation.areFinite { damaged = site }
      guard window <= half else { return }
      halves[site, default: ColumnStatistics(channels: channels)].add(activation, on: compute)
    }
    if let damaged { throw .nonFiniteActivation(block: index, site: damaged) }
    for window in calibration where !source[window].areFinite {
      throw .nonFiniteActivation(block: index, site: nil)
    }
    return (records, halves.mapValues(\.peaks))
  }
}
