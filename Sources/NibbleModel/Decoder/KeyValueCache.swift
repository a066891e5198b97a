public import NibbleTensor

/// Keys and values of the tokens seen so far, for every block. Not copyable: its stores are shared.
public struct KeyValueCache: ~Copyable, Sendable {
  public let format: CacheFormat
  public let capacity: Int
  /// Tokens stored.
  public internal(set) var count = 0
  let layers: [KeyValueStore]

  /// - Parameter scales: from calibration, for each block; used when they were measured for `format`.
  ///   Otherwise each token has its own.
  public init(
    _ config: DecoderConfig, capacity: Int, format: CacheFormat = .f32,
    scales: [KeyValueScales]? = nil
  ) {
    self.capacity = capacity
    self.format = format
    layers = (0..<config.blocks).map {
      KeyValueStore(
        config.attention, capacity: capacity, format: format, calibrated: scales?[$0])
    }
  }

  /// Bytes that a token takes: its keys and values in each block, and its rows of the rotary table.
  static func bytesPerToken(_ config: DecoderConfig, format: CacheFormat) -> Int {
    config.blocks * format.bytesPerToken(config.attention)
      + RotaryTable.bytesPerPosition(headSize: config.attention.headSize)
  }

  /// Tokens that fit in so many bytes: whole pages.
  static func tokens(in bytes: Int, _ config: DecoderConfig, format: CacheFormat) -> Int {
    let page =
      config.blocks * format.bytesPerPage(config.attention)
      + KeyValueStore.page * RotaryTable.bytesPerPosition(headSize: config.attention.headSize)
    return max(0, bytes) / max(1, page) * KeyValueStore.page
  }

  /// Forgets the tokens from `count` on.
  public mutating func truncate(to count: Int) {
    precondition(count <= self.count, "\(count) of \(self.count) tokens")
    self.count = count
  }
}

extension KeyValueStore {
  /// - Parameter calibrated: used when they were measured for `format`. Otherwise each token has its
  ///   own scales.
  public convenience init(
    _ attention: Attention, capacity: Int, format: CacheFormat, calibrated: KeyValueScales?
  ) {
    self.init(
      attention, capacity: capacity, format: format,
      scales: calibrated?.expanded(to: format, heads: attention.keyHeads))
  }
}

extension KeyValueFormat {
  /// How a cache of this format is kept.
  public var cache: CacheFormat {
    switch self {
    case .fp8: .fp8
    case .int8: .int8
    case .int4: .int4
    }
  }
}

extension KeyValueScales {
  /// A scale for each head; nil when they belong to another format.
  fileprivate func expanded(to kept: CacheFormat, heads: Int) -> CacheScales? {
    guard kept == format.cache else { return nil }
    func each(_ scales: [Float]) -> [Float] {
      scales.count == heads ? scales : Array(repeating: scales[0], count: heads)
    }
    return CacheScales(keys: each(keys), values: each(values))
  }
}
