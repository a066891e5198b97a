import CNibble

/// The keys and values of one layer, in pages of 64 tokens.
///
/// The whole capacity is reserved; physical memory is committed as pages are written. This is a
/// reference type: copies share the memory.
///
/// **Groups of tokens** (int4, int3). Keys of 32 tokens share scales, so they are quantized when the
/// group is complete. The token at position p reads the keys and values of its own group, positions
/// `p / 32 · 32 ... p`, and of the first group, 0...31, in float, and those of other groups quantized.
/// This depends on p alone, so results do not depend on how many tokens are stored at a time.
///
/// Text may be taken back to any count that ``resumable(_:)`` returns: the beginning of a group, or
/// a position in the first group or in one that lies among the last 64 positions stored, in float.
/// What follows overwrites the codes of its group, and is what it would be in a fresh store.
@safe public final class KeyValueStore: @unchecked Sendable {
  // Sendable by hand: one caller at a time, as with `Compute`.
  public let format: CacheFormat
  public let attention: Attention
  /// Largest number of tokens.
  public let capacity: Int
  let scales: CacheScales?
  /// Of a format with groups of tokens.
  let floats: KeptFloats?
  private let memory: UnsafeMutableRawPointer
  private let pageBytes: Int

  /// Tokens per page.
  public static let page = Int(NIBBLE_CACHE_PAGE)
  /// Tokens per group.
  public static let group = Int(NIBBLE_CACHE_GROUP)

  public init(
    _ attention: Attention, capacity: Int, format: CacheFormat = .f32,
    scales: CacheScales? = nil
  ) {
    let d = attention.headSize
    precondition(d.isMultiple(of: 2), "heads of \(d)")
    self.attention = attention
    self.capacity = capacity
    self.format = format
    self.scales = scales
    floats = format.groupsTokens ? KeptFloats(attention) : nil
    pageBytes = format.bytesPerHead(attention)
    let pages = (capacity + Self.page - 1) / Self.page
    unsafe memory = UnsafeMutableRawPointer.allocate(
      byteCount: max(64, 2 * pages * attention.keyHeads * pageBytes), alignment: 64)
  }

  deinit { unsafe memory.deallocate() }

  /// The keys or values of one head in the page of `token`.
  private func address(_ token: Int, _ head: Int, isKey: Bool) -> UnsafeMutableRawPointer {
    let page = token / Self.page * attention.keyHeads + head
    return unsafe memory + (2 * page + (isKey ? 0 : 1)) * pageBytes
  }

  /// The largest number of tokens up to `count` after which `store` may go on when later ones are
  /// taken back.
  public func resumable(_ count: Int) -> Int { floats?.resumable(count) ?? count }

  /// Stores keys and values `[t, keyHeads · d]` at positions `position...`.
  public func store(
    keys: Span<Float>, values: Span<Float>, at position: Int, on compute: Compute
  ) {
    let (heads, d) = (attention.keyHeads, attention.headSize)
    let t = keys.count / (heads * d)
    precondition(keys.count == t * heads * d && values.count == keys.count, "rows of \(heads * d)")
    precondition(position >= 0 && position + t <= capacity, "\(position) + \(t) of \(capacity)")
    precondition(resumable(position) == position, "the group of position \(position) is quantized")
    guard t > 0 else { return }
    unsafe keys.withUnsafeBufferPointer { keys in
      unsafe values.withUnsafeBufferPointer { values in
        let (keys, values) = (keys.baseAddress!, values.baseAddress!)
        func store(head: Int, page: Int) {
          let places = (page * Self.page..<(page + 1) * Self.page).clamped(
            to: position..<position + t)
          // Positions behind the last token must hold finite values: products multiply them by
          // zero, and zero times NaN is NaN.
          if places.lowerBound % Self.page == 0 {
            for isKey in [true, false] {
              unsafe address(places.lowerBound, head, isKey: isKey).initializeMemory(
                as: UInt8.self, repeating: 0, count: pageBytes)
            }
          }
          if let floats {
            unsafe storeGroups(keys, values, at: position, head: head, places, floats)
            return
          }
          for at in places {
            let from = ((at - position) * heads + head) * d
            unsafe nibble_cache_store(
              keys + from, address(at, head, isKey: true), format.code,
              at % Self.page, d, 1, scales?.keys[head] ?? 0)
            unsafe nibble_cache_store(
              values + from, address(at, head, isKey: false), format.code,
              at % Self.page, d, 0, scales?.values[head] ?? 0)
          }
        }
        let first = position / Self.page
        let pages = (position + t - 1) / Self.page - first + 1
        // The keys of a decode step are too few to be worth a second thread.
        if t > Compute.stepTokens {
          compute.pool.run(heads * pages) { task, _ in
            store(head: task % heads, page: first + task / heads)
          }
        } else {
          for page in 0..<pages { for head in 0..<heads { store(head: head, page: first + page) } }
        }
        unsafe floats?.append(keys, values, at: position, tokens: t)
      }
    }
  }

  /// Stores the values of some positions of one page, and the groups of keys that they complete.
  private func storeGroups(
    _ keys: UnsafePointer<Float>, _ values: UnsafePointer<Float>, at position: Int, head: Int,
    _ places: Range<Int>, _ floats: KeptFloats
  ) {
    let (heads, d, group) = (attention.keyHeads, attention.headSize, Self.group)
    unsafe withUnsafeTemporaryAllocation(of: Float.self, capacity: group * d) { rows in
      let rows = rows.baseAddress!
      for at in places {
        let from = ((at - position) * heads + head) * d
        if at < group {
          for i in 0..<d { unsafe floats.firstKeys(head)[i * group + at] = keys[from + i] }
          unsafe (floats.firstValues(head) + at * d).update(from: values + from, count: d)
        }
        unsafe nibble_cache_store(
          values + from, address(at, head, isKey: false), format.code, at % Self.page, d, 0,
          scales?.values[head] ?? 0)
      }
      for at in places where at >= group && (at + 1).isMultiple(of: group) {
        let start = at + 1 - group
        var (group, stride) = unsafe (UnsafePointer(rows), d)
        if start >= position {
          unsafe (group, stride) = (keys + ((start - position) * heads + head) * d, heads * d)
        } else {
          unsafe rows.update(
            from: floats.recent(start, head, isKey: true), count: (position - start) * d)
          for token in position...at {
            unsafe (rows + (token - start) * d).update(
              from: keys + ((token - position) * heads + head) * d, count: d)
          }
        }
        unsafe nibble_cache_store_keys(
          group, stride, address(at, head, isKey: true), format.code, start % Self.page, d,
          scales?.keys[head] ?? 0)
      }
    }
  }

  /// The page of `token` as floats: keys `[d, 64]`, values `[64, d]`.
  func load(
    _ token: Int, _ head: Int, isKey: Bool, into out: UnsafeMutablePointer<Float>
  ) {
    let (d, group) = (attention.headSize, Self.group)
    unsafe nibble_cache_load(
      address(token, head, isKey: isKey), out, format.code, d, isKey ? 1 : 0)
    guard let floats, token < Self.page else { return }
    guard isKey else {
      unsafe out.update(from: floats.firstValues(head), count: group * d)
      return
    }
    for i in 0..<d {
      unsafe (out + i * Self.page).update(from: floats.firstKeys(head) + i * group, count: group)
    }
  }
}
