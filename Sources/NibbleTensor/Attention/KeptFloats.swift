/// The keys and values that a cache with groups of tokens keeps in float: those of the first group,
/// and the most recent ones.
@safe final class KeptFloats {
  /// Tokens per group.
  private static let group = KeyValueStore.group
  /// Number of recent positions.
  static let recent = 2 * group
  /// Rows `[d]` of one head, each for keys and for values: the first group, the recent positions, and
  /// those that stood before the latest ones in their group.
  private static let rows = group + recent + group

  static func bytes(_ attention: Attention) -> Int {
    2 * 4 * attention.keyHeads * attention.headSize * rows
  }

  private let heads: Int
  private let d: Int
  private let memory: UnsafeMutablePointer<Float>
  /// The recent positions.
  private(set) var kept = 0..<0

  init(_ attention: Attention) {
    (heads, d) = (attention.keyHeads, attention.headSize)
    let count = Self.bytes(attention) / 4
    unsafe memory = .allocate(capacity: count)
    // Rows that no token has filled are multiplied by zero, so they must be finite.
    unsafe memory.initialize(repeating: 0, count: count)
  }

  deinit { unsafe memory.deallocate() }

  private func row(_ row: Int, _ head: Int, isKey: Bool) -> UnsafeMutablePointer<Float> {
    unsafe memory + ((2 * head + (isKey ? 0 : 1)) * Self.rows + row) * d
  }

  /// Keys of the first group, `[d, 32]`.
  func firstKeys(_ head: Int) -> UnsafeMutablePointer<Float> { unsafe row(0, head, isKey: true) }

  /// Values of the first group, `[32, d]`.
  func firstValues(_ head: Int) -> UnsafeMutablePointer<Float> { unsafe row(0, head, isKey: false) }

  /// The row `[d]` of a recent position; rows of a group are contiguous.
  func recent(_ position: Int, _ head: Int, isKey: Bool) -> UnsafeMutablePointer<Float> {
    unsafe row(Self.group + position % Self.recent, head, isKey: isKey)
  }

  /// The row `[d]` of a position before the latest ones, in the group where these begin.
  func earlier(_ position: Int, _ head: Int, isKey: Bool) -> UnsafeMutablePointer<Float> {
    unsafe row(Self.group + Self.recent + position % Self.group, head, isKey: isKey)
  }

  /// The largest count up to `count` after which a text can go on as if later tokens had never been
  /// stored: `count` if its group is the first or lies among the recent positions, or else the
  /// beginning of its group.
  func resumable(_ count: Int) -> Int {
    let start = count / Self.group * Self.group
    return start == 0 || kept.contains(start) && count <= kept.upperBound ? count : start
  }

  /// Adds keys and values `[t, heads · d]` of positions `position...`, after the groups that they
  /// complete have been quantized.
  func append(
    _ keys: UnsafePointer<Float>, _ values: UnsafePointer<Float>, at position: Int, tokens t: Int
  ) {
    for head in 0..<heads {
      unsafe append(keys, head, isKey: true, at: position, tokens: t)
      unsafe append(values, head, isKey: false, at: position, tokens: t)
    }
    let isContinued = kept.contains(position) || position == kept.upperBound
    kept = max(isContinued ? kept.lowerBound : position, position + t - Self.recent)..<position + t
  }

  private func append(
    _ rows: UnsafePointer<Float>, _ head: Int, isKey: Bool, at position: Int, tokens t: Int
  ) {
    if t > Compute.stepTokens {
      let start = position / Self.group * Self.group
      unsafe earlier(start, head, isKey: isKey).update(
        from: recent(start, head, isKey: isKey), count: (position - start) * d)
    }
    for at in max(position, position + t - Self.recent)..<position + t {
      unsafe recent(at, head, isKey: isKey).update(
        from: rows + ((at - position) * heads + head) * d, count: d)
    }
  }
}
