public import NibbleTensor

/// What a block keeps of the tokens that it has seen.
public enum BlockStore: Sendable {
  /// The keys and values of attention.
  case keysAndValues(KeyValueStore)
  /// The keys and values of an earlier block, which has stored those of the same tokens.
  case shared(KeyValueStore)
  /// The state of a mixer.
  case state(DeltaNetState)
}

/// The KV cache or the state of every block. Not copyable, since its stores are reference types.
public struct KeyValueCache: ~Copyable, Sendable {
  public let format: CacheFormat
  public let capacity: Int
  /// Tokens stored, at most `capacity`.
  public internal(set) var count = 0
  let layers: [BlockStore]
  private let isRecurrent: Bool

  /// - Parameter scales: static scales from calibration, one entry per block with attention. Used only if
  ///   measured for `format`. Otherwise each token or group has its own scales.
  public init(
    _ shape: DecoderShape, capacity: Int, format: CacheFormat = .f32,
    scales: [KeyValueScales]? = nil
  ) {
    self.capacity = capacity
    self.format = format
    isRecurrent = shape.isRecurrent
    var layers: [BlockStore] = []
    var attentions = 0
    for block in shape.blocks {
      if let source = block.attention?.sharesCacheOf {
        guard case .keysAndValues(let store) = layers[source] else {
          preconditionFailure("\(block.path) shares the cache of block \(source)")
        }
        layers.append(.shared(store))
        attentions += 1
      } else if let attention = block.attention {
        layers.append(
          .keysAndValues(
            KeyValueStore(
              attention.core, capacity: capacity, format: format,
              calibrated: scales?[attentions])))
        attentions += 1
      } else if let mixer = block.mixer {
        layers.append(.state(DeltaNetState(mixer.core)))
      } else {
        preconditionFailure("\(block.path) has neither attention nor a mixer")
      }
    }
    self.layers = layers
  }

  /// Bytes for any number of tokens: the states of mixers, and keys and values that stay float beside
  /// quantized ones.
  static func constantBytes(_ shape: DecoderShape, format: CacheFormat) -> Int {
    let floats = caches(shape).reduce(0) { $0 + format.floatBytes($1) }
    return shape.blocks.compactMap(\.mixer).reduce(floats) { $0 + DeltaNetState.bytes($1.core) }
  }

  /// Bytes per token: its keys and values in all blocks, and its rows of the rotary tables.
  static func bytesPerToken(_ shape: DecoderShape, format: CacheFormat) -> Int {
    caches(shape).reduce(rotaryBytes(shape)) { $0 + format.bytesPerToken($1) }
  }

  /// The attention of each block with a cache of its own.
  private static func caches(_ shape: DecoderShape) -> [Attention] {
    shape.attentions.filter { $0.sharesCacheOf == nil }.map(\.core)
  }

  private static func rotaryBytes(_ shape: DecoderShape) -> Int {
    Set(shape.attentions.compactMap(\.rotary)).reduce(0) {
      $0 + RotaryTable.bytesPerPosition(pairs: $1.pairs)
    }
  }

  /// Number of tokens that fit in `bytes`, in whole pages.
  static func tokens(in bytes: Int, _ shape: DecoderShape, format: CacheFormat) -> Int {
    let page = caches(shape).reduce(KeyValueStore.page * rotaryBytes(shape)) {
      $0 + format.bytesPerPage($1)
    }
    return max(0, bytes - constantBytes(shape, format: format)) / max(1, page) * KeyValueStore.page
  }

  /// Removes the tokens from `count` on, and more where the rest needs what is no longer there: the
  /// store of a block that quantizes keys in groups of tokens may have to go back to the beginning
  /// of a group, see ``KeyValueStore``; a mixer, whose state cannot go back, removes all tokens.
  /// `self.count` is then less than `count`, and the caller reads those tokens again.
  public mutating func truncate(to count: Int) {
    precondition(count <= self.count, "\(count) of \(self.count) tokens")
    guard count < self.count else { return }
    self.count =
      isRecurrent
      ? 0
      : layers.reduce(count) { count, layer in
        guard case .keysAndValues(let store) = layer else { return count }
        return min(count, store.resumable(count))
      }
  }
}

extension KeyValueStore {
  /// - Parameter calibrated: static scales, used only if measured for `format`. Otherwise each
  ///   token has its own scales.
  public convenience init(
    _ attention: Attention, capacity: Int, format: CacheFormat, calibrated: KeyValueScales?
  ) {
    self.init(
      attention, capacity: capacity, format: format,
      scales: calibrated?.expanded(to: format, heads: attention.keyHeads))
  }
}

extension KeyValueFormat {
  /// The same format as a KV cache format.
  public var cache: CacheFormat {
    switch self {
    case .fp8: .fp8
    case .int8: .int8
    case .int4: .int4
    }
  }
}

extension KeyValueScales {
  /// One scale per key head; nil if measured for another format.
  fileprivate func expanded(to kept: CacheFormat, heads: Int) -> CacheScales? {
    guard kept == format.cache else { return nil }
    func each(_ scales: [Float]) -> [Float] {
      scales.count == heads ? scales : Array(repeating: scales[0], count: heads)
    }
    return CacheScales(keys: each(keys), values: each(values))
  }
}
