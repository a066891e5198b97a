import CNibble

/// Second moments of an activation over tokens, GPTQ's Hessian without its factor: `G[i, j] = Σ
/// x[t, i] · x[t, j]`, in float.
///
/// Slabs of `tokensAtOnce` tokens are summed in the order in which they were added, so the sum does
/// not depend on the number of threads. In bf16, on a processor with tiles, x is rounded to
/// bfloat16 first.
public struct GramMatrix: Sendable {
  /// Channels `k`.
  public let channels: Int
  /// `[k, k]`
  public private(set) var values: [Float]
  /// Tokens added.
  public private(set) var tokens = 0
  /// Activations that do not fill a slab yet, `[t, k]`.
  private var waiting: [Float] = []

  /// Tokens per slab.
  public static let tokensAtOnce = 2048

  public init(channels: Int) {
    self.channels = channels
    values = [Float](repeating: 0, count: channels * channels)
  }

  /// Adds `Σ x[t, i] · x[t, j]` for x `[t, k]`.
  public mutating func add(_ x: [Float], on compute: Compute) {
    precondition(x.count.isMultiple(of: channels), "\(x.count) values are not rows of \(channels)")
    waiting += x
    tokens += x.count / channels
    if waiting.count >= Self.tokensAtOnce * channels { addSlab(on: compute) }
  }

  /// The moments of the activation divided by `factors`.
  public func divided(by factors: [Float]) -> Self {
    precondition(factors.count == channels, "\(factors.count) factors for \(channels)")
    let inverse = factors.map { 1 / $0 }
    var divided = self
    for row in 0..<channels {
      let factor = inverse[row]
      for column in 0..<channels {
        divided.values[row * channels + column] *= factor * inverse[column]
      }
    }
    return divided
  }

  /// Adds the moments of other tokens, both complete.
  public mutating func add(_ other: Self) {
    precondition(other.channels == channels, "\(other.channels) channels, not \(channels)")
    for index in values.indices { values[index] += other.values[index] }
    tokens += other.tokens
  }

  /// `G + λ`, with λ a share of the mean of diag(G). Nil when G carries no information: all inputs
  /// were zero, or they overflowed.
  public func damped(by share: Float) -> [Float]? {
    let k = channels
    let mean = (0..<k).reduce(Float(0)) { $0 + values[$1 * k + $1] / Float(k) }
    guard mean > 0, mean < 1e30 else { return nil }
    var damped = values
    for j in 0..<k { damped[j * k + j] += share * mean }
    return damped
  }

  /// G as a weight, for products `x · G`.
  public var weight: Weight {
    .float(
      FloatMatrix(
        format: .f32, rows: channels, columns: channels,
        bytes: Bytes(FloatFormat.f32.encode(values.span))))
  }

  /// Adds the incomplete slab and fills the lower triangle. Call before reading `values`.
  public mutating func finish(on compute: Compute) {
    addSlab(on: compute)
    for row in 0..<channels {
      for column in 0..<row { values[row * channels + column] = values[column * channels + row] }
    }
  }

  private mutating func addSlab(on compute: Compute) {
    let count = waiting.count / max(1, channels)
    guard count > 0 else { return }
    if compute.usesTiles {
      addTiles(count, parts: compute.precision == .bf16 ? 1 : 3, on: compute)
    } else {
      addFloats(count, on: compute)
    }
    waiting.removeAll(keepingCapacity: true)
  }

  private mutating func addTiles(_ count: Int, parts: Int, on compute: Compute) {
    let layout = TileLayout.floats(parts: parts)
    let step = layout.step(count)
    let (k, parts) = (channels, Int32(parts))
    let a = unsafe compute.scratch.take(.activations, layout.bytes(k, count))
    let b = unsafe compute.scratch.take(.weights, layout.bytes(k, count))
    unsafe waiting.withUnsafeBufferPointer { x in
      compute.ranges(of: count, grain: 64) { tokens, _ in
        unsafe nibble_pack_b_columns(
          x.baseAddress! + tokens.lowerBound * k, b + layout.step(tokens.lowerBound), tokens.count,
          k, step, parts)
      }
    }
    compute.ranges(of: k, grain: 16) { part, _ in
      let offset = part.lowerBound / 16 * step
      unsafe nibble_turn_tiles(b + offset, a + offset, step)
    }
    unsafe addBlocks(on: compute) { row, rows, column, columns, y in
      unsafe nibble_tiles_floats(
        a + row / 16 * step, b + column / 16 * step, y, rows, columns, count, parts, parts, step,
        columns,
        nil, nil)
    }
  }

  private mutating func addFloats(_ count: Int, on compute: Compute) {
    let k = channels
    let x = waiting
    let turned = unsafe [Float](unsafeUninitializedCapacity: x.count) { turned, initialized in
      for token in 0..<count {
        for channel in 0..<k { unsafe turned[channel * count + token] = x[token * k + channel] }
      }
      initialized = x.count
    }
    unsafe turned.withUnsafeBufferPointer { x in
      unsafe addBlocks(on: compute) { row, rows, column, columns, y in
        unsafe PlainProduct.multiplyTransposed(
          x.baseAddress! + row * count, x.baseAddress! + column * count, y, rows, columns, count,
          yStride: columns)
      }
    }
  }

  /// Adds blocks of the product that `body` computes: those on or above the diagonal.
  private mutating func addBlocks(
    on compute: Compute,
    _ body: (
      _ row: Int, _ rows: Int, _ column: Int, _ columns: Int, _ y: UnsafeMutablePointer<Float>
    ) -> Void
  ) {
    let k = channels
    let (height, width) = (128, 256)
    var blocks: [(Int, Int)] = []
    for row in stride(from: 0, to: k, by: height) {
      for column in stride(from: 0, to: k, by: width) where column + width > row {
        blocks.append((row, column))
      }
    }
    unsafe values.withUnsafeMutableBufferPointer { values in
      compute.pool.run(blocks.count) { task, _ in
        let (row, column) = blocks[task]
        let (m, n) = (min(height, k - row), min(width, k - column))
        unsafe withUnsafeTemporaryAllocation(of: Float.self, capacity: m * n) { y in
          unsafe body(row, m, column, n, y.baseAddress!)
          for r in 0..<m {
            unsafe nibble_add(
              values.baseAddress! + (row + r) * k + column, y.baseAddress! + r * n, n)
          }
        }
      }
    }
  }
}
