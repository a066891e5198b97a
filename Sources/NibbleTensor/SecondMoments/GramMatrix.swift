import CNibble

/// Second moments over tokens: `G[i, j] = Σ a[t, i] · b[t, j]`, in float.
///
/// The sum runs over slabs of `tokensAtOnce` tokens in the order in which they were added, so that it
/// does not depend on the number of threads. In bf16, where the processor has tiles, both factors are
/// rounded to bfloat16 first.
public struct GramMatrix: Sendable {
  /// Channels of `a` and of `b`.
  public let rows: Int
  public let columns: Int
  /// `[rows, columns]`
  public private(set) var values: [Float]
  /// Tokens added.
  public private(set) var tokens = 0
  private let isSymmetric: Bool
  /// Activations that wait for a whole slab, `[t, rows]` and `[t, columns]`; `others` is empty when
  /// both are the same.
  private var waiting: [Float] = []
  private var others: [Float] = []

  /// Tokens that are gathered before they are multiplied.
  public static let tokensAtOnce = 2048

  /// The moments of one activation with itself.
  public init(channels: Int) {
    (rows, columns, isSymmetric) = (channels, channels, true)
    values = [Float](repeating: 0, count: channels * channels)
  }

  /// The moments of two activations.
  public init(rows: Int, columns: Int) {
    (self.rows, self.columns, isSymmetric) = (rows, columns, false)
    values = [Float](repeating: 0, count: rows * columns)
  }

  /// Adds `Σ x[t, i] · x[t, j]`.
  public mutating func add(_ x: [Float], on compute: Compute) {
    precondition(isSymmetric && x.count.isMultiple(of: rows), "\(x.count) values for \(rows)")
    waiting += x
    tokens += x.count / rows
    if waiting.count >= Self.tokensAtOnce * rows { flush(on: compute) }
  }

  /// Adds `Σ a[t, i] · b[t, j]`.
  public mutating func add(_ a: [Float], _ b: [Float], on compute: Compute) {
    precondition(!isSymmetric && a.count / rows == b.count / columns, "\(a.count), \(b.count)")
    waiting += a
    others += b
    tokens += a.count / rows
    if waiting.count >= Self.tokensAtOnce * rows { flush(on: compute) }
  }

  /// The moments of the activation divided by `factors`.
  public func divided(by factors: [Float]) -> Self {
    precondition(isSymmetric && factors.count == rows, "\(factors.count) factors for \(rows)")
    let inverse = factors.map { 1 / $0 }
    var divided = self
    for row in 0..<rows {
      let factor = inverse[row]
      for column in 0..<columns { divided.values[row * columns + column] *= factor * inverse[column] }
    }
    return divided
  }

  /// As the matrix of a product: `x · Gᵀ`, or with `isTransposed` `x · G`.
  public func weight(isTransposed: Bool = false) -> Weight {
    var values = values
    if isTransposed && !isSymmetric {
      for row in 0..<rows {
        for column in 0..<columns {
          values[column * rows + row] = self.values[row * columns + column]
        }
      }
    }
    return .float(
      FloatMatrix(
        format: .f32, rows: isTransposed ? columns : rows, columns: isTransposed ? rows : columns,
        bytes: Bytes(FloatFormat.f32.encode(values.span))))
  }

  /// Adds what waits; to be called before `values` is read.
  public mutating func flush(on compute: Compute) {
    let count = waiting.count / max(1, rows)
    guard count > 0 else { return }
    if hasTilesHere {
      addTiles(count, parts: compute.precision == .bf16 ? 1 : 3, on: compute)
    } else {
      addFloats(count, on: compute)
    }
    if isSymmetric {
      for row in 0..<rows {
        for column in 0..<row { values[row * columns + column] = values[column * columns + row] }
      }
    }
    waiting.removeAll(keepingCapacity: true)
    others.removeAll(keepingCapacity: true)
  }

  private mutating func addTiles(_ count: Int, parts: Int, on compute: Compute) {
    let layout = TileLayout.floats(parts: parts)
    let step = layout.step(count)
    let parts = Int32(parts)
    /// The transpose of an activation as the second factor.
    func pack(_ x: [Float], _ channels: Int, _ use: Scratch.Use) -> UnsafeMutableRawPointer {
      let tiles = unsafe compute.scratch.take(use, layout.bytes(channels, count))
      unsafe x.withUnsafeBufferPointer { x in
        compute.ranges(of: count, grain: 64) { tokens, _ in
          unsafe nibble_pack_b_columns(
            x.baseAddress! + tokens.lowerBound * channels,
            tiles + layout.step(tokens.lowerBound), tokens.count, channels, step, parts)
        }
      }
      return unsafe tiles
    }
    let a = unsafe pack(waiting, rows, .activations)
    let b = unsafe isSymmetric
      ? compute.scratch.take(.weights, layout.bytes(rows, count))
      : pack(others, columns, .weights)
    compute.ranges(of: rows, grain: 16) { part, _ in
      let tiles = unsafe a + part.lowerBound / 16 * step
      if isSymmetric { unsafe (b + part.lowerBound / 16 * step).copyMemory(from: tiles, byteCount: step) }
      unsafe nibble_turn_tiles(tiles, step)
    }
    unsafe addBlocks(on: compute) { row, rows, column, columns, y, stride in
      unsafe nibble_tiles_floats(
        a + row / 16 * step, b + column / 16 * step, y, rows, columns, count, parts, parts, step, stride,
        nil, nil)
    }
  }

  private mutating func addFloats(_ count: Int, on compute: Compute) {
    func turn(_ x: [Float], _ channels: Int) -> [Float] {
      unsafe [Float](unsafeUninitializedCapacity: x.count) { turned, initialized in
        for token in 0..<count {
          for channel in 0..<channels {
            unsafe turned[channel * count + token] = x[token * channels + channel]
          }
        }
        initialized = x.count
      }
    }
    let a = turn(waiting, rows)
    let b = isSymmetric ? a : turn(others, columns)
    unsafe a.withUnsafeBufferPointer { a in
      unsafe b.withUnsafeBufferPointer { b in
        unsafe addBlocks(on: compute) { row, rows, column, columns, y, stride in
          unsafe PlainProduct.multiplyTransposed(
            a.baseAddress! + row * count, b.baseAddress! + column * count, y, rows, columns, count,
            yStride: stride)
        }
      }
    }
  }

  /// Adds blocks of the product that `body` computes; with symmetry only those that reach the
  /// diagonal or lie above it.
  private mutating func addBlocks(
    on compute: Compute,
    _ body: (
      _ row: Int, _ rows: Int, _ column: Int, _ columns: Int, _ y: UnsafeMutablePointer<Float>,
      _ stride: Int
    ) -> Void
  ) {
    let (rows, columns, isSymmetric) = (rows, columns, isSymmetric)
    let (height, width) = (128, 256)
    var blocks: [(Int, Int)] = []
    for row in stride(from: 0, to: rows, by: height) {
      for column in stride(from: 0, to: columns, by: width)
      where !isSymmetric || column + width > row { blocks.append((row, column)) }
    }
    unsafe values.withUnsafeMutableBufferPointer { values in
      compute.pool.run(blocks.count) { task, _ in
        let (row, column) = blocks[task]
        let (m, n) = (min(height, rows - row), min(width, columns - column))
        unsafe withUnsafeTemporaryAllocation(of: Float.self, capacity: m * n) { y in
          unsafe body(row, m, column, n, y.baseAddress!, n)
          for r in 0..<m {
            unsafe nibble_add(
              values.baseAddress! + (row + r) * columns + column, y.baseAddress! + r * n, n)
          }
        }
      }
    }
  }
}
