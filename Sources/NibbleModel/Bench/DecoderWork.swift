public import NibbleTensor

/// Bytes that a decoder must read and operations that it must compute, whatever program runs it.
/// Divided by time, they are compared with the machine's limits.
public struct DecoderWork: Hashable, Sendable {
  /// Bytes of weights read per decoded token: all blocks and the head.
  public var weightBytes: Int
  /// Bytes of keys and values read per decoded token and previous position.
  public var cacheBytesPerPosition: Double
  /// Operations per token in the linear layers of the blocks; a multiply-add counts as two.
  public var blockOperations: Double
  /// Operations per row of logits.
  public var headOperations: Double
  /// Operations of a token's attention per previous position.
  public var attentionOperations: Double
  /// Number format of most products.
  public var arithmetic: MachineLimits.Arithmetic

  /// - Parameter format: format of the KV cache.
  public init(_ decoder: Decoder, keeping format: CacheFormat, precision: Precision) {
    let attentions = decoder.shape.attentions.map(\.core)
    let linears = decoder.usedLinears
    weightBytes = decoder.weightBytes
    cacheBytesPerPosition = Double(attentions.reduce(0) { $0 + format.bytesPerToken($1) })
    blockOperations = linears.reduce(0) {
      $0 + 2 * $1.use * Double($1.weight.rows) * Double($1.weight.columns)
    }
    let mixers = decoder.shape.blocks.compactMap(\.mixer)
    blockOperations += mixers.reduce(0) { $0 + 2 * Double($1.core.operations) }
    headOperations = 2 * Double(decoder.head.rows) * Double(decoder.head.columns)
    attentionOperations =
      4 * Double(attentions.reduce(0) { $0 + $1.queryWidth })
    let integers = linears.filter(\.weight.multipliesIntegers).count
    arithmetic =
      2 * integers > linears.count ? .int8 : precision == .bf16 ? .bf16 : .f32
  }

  /// Operations to read a prompt and compute the token after it.
  public func operations(prompt tokens: Int) -> Double {
    let t = Double(tokens)
    return t * blockOperations + t * (t + 1) / 2 * attentionOperations + headOperations
  }

  /// Bytes of keys and values read per token, averaged over the decoded tokens.
  public func cacheBytes(_ settings: BenchSettings) -> Double {
    cacheBytesPerPosition * (Double(settings.context) + Double(settings.decodeTokens + 1) / 2)
  }
}

extension Decoder {
  /// Bytes of weights read per decoded token: all blocks with their norms, the experts that the
  /// token is routed to, and the head.
  public var weightBytes: Int {
    let norms = (blocks.reduce(1) { $0 + $1.norms.count }) * shape.hidden
    let linears = usedLinears.reduce(0) { $0 + $1.use * Double($1.weight.storedBytes) }
    return 4 * norms + head.storedBytes + Int(linears)
  }

  /// The linears of all blocks, each with the share of tokens that use it.
  fileprivate var usedLinears: [(weight: Weight, use: Double)] {
    blocks.flatMap { block in
      let experts = block.shape.experts
      let ids = experts?.expertLinears ?? []
      return block.linears.map { id, linear in
        (linear.weight, ids.contains(id) ? experts?.use ?? 1 : 1)
      }
    }
  }
}

extension Weight {
  /// Bytes of values, or of codes, scales and zero points.
  var storedBytes: Int {
    switch self {
    case .float(let matrix): matrix.bytes.count
    case .quantized(let matrix, _):
      matrix.codes.storedCount + 4 * (matrix.scales.count + matrix.offsets.count)
        + matrix.zeroPoints.count
    }
  }
}
