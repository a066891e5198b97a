/// A hash table from byte strings to integers: one buffer for all keys, one flat array of slots.
///
/// Keys are compared byte by byte. Swift's `String` would merge canonically equivalent spellings,
/// which are different tokens.
struct ByteTable: Sendable {
  private struct Entry {
    var start: Int
    var end: Int
    var value: Int
  }

  private var keys: [UInt8] = []
  private var entries: [Entry] = []
  /// High half: part of the hash. Low half: index of the entry plus one, 0 for an empty slot.
  private var slots = [UInt64](repeating: 0, count: 256)

  var count: Int { entries.count }

  @inline(__always)
  private static func hash(_ key: borrowing Span<UInt8>) -> UInt64 {
    var hash = IntegerTable.seed
    for at in key.indices {
      hash = (hash ^ UInt64(key[at])) &* 0x9FB2_1C65_1E98_DF25
      hash ^= hash >> 29
    }
    return hash ^ hash >> 32
  }

  func value(for key: borrowing Span<UInt8>) -> Int? {
    let hash = Self.hash(key)
    var at = Int(truncatingIfNeeded: hash) & (slots.count - 1)
    while slots[at] != 0 {
      if slots[at] >> 32 == hash >> 32 {
        let entry = entries[Int(truncatingIfNeeded: slots[at] & 0xFFFF_FFFF) - 1]
        if matches(entry, key) { return entry.value }
      }
      at = (at + 1) & (slots.count - 1)
    }
    return nil
  }

  @inline(__always)
  private func matches(_ entry: Entry, _ key: borrowing Span<UInt8>) -> Bool {
    guard entry.end - entry.start == key.count else { return false }
    for offset in key.indices where keys[entry.start + offset] != key[offset] { return false }
    return true
  }

  /// Adds a key; false, and nothing changes, when it is there already.
  @discardableResult
  mutating func insert(_ key: borrowing Span<UInt8>, _ value: Int) -> Bool {
    guard self.value(for: key) == nil else { return false }
    if (entries.count + 1) * 3 > slots.count * 2 { grow() }
    let start = keys.count
    for offset in key.indices { keys.append(key[offset]) }
    entries.append(Entry(start: start, end: keys.count, value: value))
    place(entries.count, hash: Self.hash(key))
    return true
  }

  private mutating func place(_ number: Int, hash: UInt64) {
    var at = Int(truncatingIfNeeded: hash) & (slots.count - 1)
    while slots[at] != 0 { at = (at + 1) & (slots.count - 1) }
    slots[at] = hash & 0xFFFF_FFFF_0000_0000 | UInt64(number)
  }

  private mutating func grow() {
    slots = Array(repeating: 0, count: slots.count * 2)
    for (index, entry) in entries.enumerated() {
      place(index + 1, hash: Self.hash(keys.span.extracting(entry.start..<entry.end)))
    }
  }
}
