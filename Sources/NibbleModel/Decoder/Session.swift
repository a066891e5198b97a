public import NibbleTensor

/// A decoder with the KV cache of one conversation. Not copyable, since copies would write into the
/// same cache.
public struct Session: ~Copyable {
  public let decoder: Decoder
  /// The blocks and the head, packed for products of a few tokens.
  private let blocks: [Block]
  private let head: OutputHead
  private var pass: ForwardPass
  private var cache: KeyValueCache
  private var logits: [Float] = []

  /// - Parameters:
  ///   - capacity: the largest number of tokens in the conversation.
  ///   - format: the number format of the KV cache.
  ///   - scales: static scales of the KV cache from calibration, one entry per block with attention.
  public init(
    _ decoder: Decoder, capacity: Int, keeping format: CacheFormat = .f32,
    scales: [KeyValueScales]? = nil, on compute: Compute
  ) throws(ModelError) {
    self.decoder = decoder
    pass = try ForwardPass(decoder.shape, positions: capacity, on: compute)
    cache = KeyValueCache(decoder.shape, capacity: capacity, format: format, scales: scales)
    blocks = decoder.blocks.map {
      var block = $0
      block.packForSteps(on: compute)
      return block
    }
    head = OutputHead(decoder.ends, on: compute)
  }

  public var count: Int { cache.count }
  public var capacity: Int { cache.capacity }
  /// Number format of the KV cache.
  public var format: CacheFormat { cache.format }

  /// Removes the tokens from `count` on, or more: `self.count` says from which token on the text must be
  /// appended again. A decoder with recurrent blocks removes all. An int4 or int3 cache removes up
  /// to 31 more when 33 or more tokens are taken back.
  public mutating func truncate(to count: Int) { cache.truncate(to: count) }

  /// Appends tokens and returns the logits `[vocabulary]` after the last one.
  ///
  /// - Throws: for a token or a length that does not fit, and when a logit is not finite.
  public mutating func append(_ tokens: [Int]) throws(ModelError) -> [Float] {
    precondition(!tokens.isEmpty, "no tokens")
    let states = try advance(tokens)
    var last: [Float] = []
    withLogits(states, tokens.count - 1..<tokens.count) { last = $0 }
    guard last.areFinite else { throw .nonFiniteLogits(place: "after token \(cache.count)") }
    return last
  }

  /// Appends tokens and returns the hidden states `[t, hidden]` after the last block.
  public mutating func states(after tokens: [Int]) throws(ModelError) -> [Float] {
    try advance(tokens)
  }

  /// Computes logits `[rows.count, vocabulary]` of some rows of hidden states. The next
  /// call reuses the array's memory.
  public mutating func withLogits(
    _ states: [Float], _ rows: Range<Int>, _ body: ([Float]) -> Void
  ) {
    let width = decoder.shape.hidden
    let count = rows.count * decoder.shape.vocabulary
    if logits.count != count { logits = [Float](repeating: 0, count: count) }
    pass.logits(
      Array(states[rows.lowerBound * width..<rows.upperBound * width]), head, into: &logits)
    body(logits)
  }

  /// Cross-entropy loss `-log p(target)` of some rows of hidden states, in nats.
  public func losses(_ states: [Float], _ rows: Range<Int>, targets: [Int]) -> [Double] {
    let width = decoder.shape.hidden
    return pass.losses(
      Array(states[rows.lowerBound * width..<rows.upperBound * width]), head, targets: targets)
  }

  private mutating func advance(_ tokens: [Int]) throws(ModelError) -> [Float] {
    guard cache.count + tokens.count <= cache.capacity else {
      throw .tooManyTokens(
        cache.count + tokens.count, limit: cache.capacity, what: "the cache holds")
    }
    var states = try decoder.ends.states(of: tokens, from: cache.count, on: pass.compute)
    for index in decoder.blocks.indices {
      pass.run(
        blocks[index], on: &states, from: cache.count, keeping: cache.layers[index])
    }
    cache.count += tokens.count
    states.removeLast(tokens.count * decoder.shape.carriedWidth)
    return states
  }
}

extension [Float] {
  /// Whether no value is infinite or NaN.
  package var areFinite: Bool {
    // Compares bit patterns without the sign: those of infinity and NaN are the largest.
    var largest: UInt32 = 0
    for value in self { largest = Swift.max(largest, value.bitPattern & 0x7FFF_FFFF) }
    return largest < 0x7F80_0000
  }
}
