import CNibble

/// Number format of the KV cache.
public enum CacheFormat: String, Sendable, Hashable, Codable, CaseIterable {
  case f32
  case f16
  /// Symmetric, one scale per token and head: `absmax / 127`.
  case int8
  /// Asymmetric, one scale and one offset per token and head: `(max - min) / 15` and the minimum.
  case int4
  /// E4M3, one scale per token and head: `absmax / 448`.
  case fp8

  var code: Int32 {
    switch self {
    case .f32: Int32(NIBBLE_CACHE_F32)
    case .f16: Int32(NIBBLE_CACHE_F16)
    case .int8: Int32(NIBBLE_CACHE_INT8)
    case .int4: Int32(NIBBLE_CACHE_INT4)
    case .fp8: Int32(NIBBLE_CACHE_E4M3)
    }
  }

  /// Bytes of the keys and values of one token in one layer, scales included.
  public func bytesPerToken(_ attention: Attention) -> Int {
    bytesPerPage(attention) / KeyValueStore.page
  }

  /// Bytes of the keys and values of a page of tokens in one layer.
  public func bytesPerPage(_ attention: Attention) -> Int {
    2 * attention.keyHeads * bytesPerHead(attention)
  }

  /// Bytes of the keys or values of one head in one page, rounded up to whole cache lines.
  fileprivate func bytesPerHead(_ attention: Attention) -> Int {
    (nibble_cache_bytes(code, attention.headSize) + 63) / 64 * 64
  }
}

/// Static scales from calibration, used instead of per-token ones: one per key head, above zero.
public struct CacheScales: Sendable, Hashable {
  public var keys: [Float]
  public var values: [Float]

  public init(keys: [Float], values: [Float]) {
    self.keys = keys
    self.values = values
  }
}

/// The keys and values of one layer, in pages of 64 tokens.
///
/// The whole capacity is reserved; physical memory is committed as pages are written. This is a
/// reference type: copies share the memory.
@safe public final class KeyValueStore: @unchecked Sendable {
  // Sendable by hand: one caller at a time, as with `Compute`.
  public let format: CacheFormat
  public let attention: Attention
  /// Largest number of tokens.
  public let capacity: Int
  let scales: CacheScales?
  private let memory: UnsafeMutableRawPointer
  private let pageBytes: Int

  /// Tokens per page.
  public static let page = Int(NIBBLE_CACHE_PAGE)

  public init(
    _ attention: Attention, capacity: Int, format: CacheFormat = .f32,
    scales: CacheScales? = nil
  ) {
    precondition(attention.headSize.isMultiple(of: 2), "heads of \(attention.headSize)")
    self.attention = attention
    self.capacity = capacity
    self.format = format
    self.scales = scales
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

  /// Stores keys and values `[t, keyHeads · d]` at positions `position...`.
  public func store(
    keys: Span<Float>, values: Span<Float>, at position: Int, on compute: Compute
  ) {
    let (heads, d) = (attention.keyHeads, attention.headSize)
    let t = keys.count / (heads * d)
    precondition(keys.count == t * heads * d && values.count == keys.count, "rows of \(heads * d)")
    precondition(position >= 0 && position + t <= capacity, "\(position) + \(t) of \(capacity)")
    unsafe keys.withUnsafeBufferPointer { keys in
      unsafe values.withUnsafeBufferPointer { values in
        func store(head: Int, page: Int) {
          let places = (page * Self.page..<(page + 1) * Self.page).clamped(
            to: position..<position + t)
          for at in places {
            let from = ((at - position) * heads + head) * d
            // Positions behind the last token must hold finite values: products multiply them by
            // zero, and zero times NaN is NaN.
            if at % Self.page == 0 {
              unsafe address(at, head, isKey: true).initializeMemory(
                as: UInt8.self, repeating: 0, count: pageBytes)
              unsafe address(at, head, isKey: false).initializeMemory(
                as: UInt8.self, repeating: 0, count: pageBytes)
            }
            unsafe nibble_cache_store(
              keys.baseAddress! + from, address(at, head, isKey: true), format.code,
              at % Self.page, d, 1, scales?.keys[head] ?? 0)
            unsafe nibble_cache_store(
              values.baseAddress! + from, address(at, head, isKey: false), format.code,
              at % Self.page, d, 0, scales?.values[head] ?? 0)
          }
        }
        let first = position / Self.page
        let pages = t == 0 ? 0 : (position + t - 1) / Self.page - first + 1
        // The keys of a decode step are too few to be worth a second thread.
        if t > Compute.stepTokens {
          compute.pool.run(heads * pages) { task, _ in
            store(head: task % heads, page: first + task / heads)
          }
        } else {
          for page in 0..<pages { for head in 0..<heads { store(head: head, page: first + page) } }
        }
      }
    }
  }

  /// The page of `token` as floats: keys `[d, 64]`, values `[64, d]`.
  func load(
    _ token: Int, _ head: Int, isKey: Bool, into out: UnsafeMutablePointer<Float>
  ) {
    unsafe nibble_cache_load(
      address(token, head, isKey: isKey), out, format.code, attention.headSize, isKey ? 1 : 0)
  }
}
