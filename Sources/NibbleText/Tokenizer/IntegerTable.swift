/// A hash table from 64-bit keys to 64-bit values in one flat array; entries are never removed.
///
/// The key `UInt64.max` cannot be stored. Hashes are seeded per process, so that a file cannot
/// choose keys that all collide; the result of a lookup does not depend on the seed.
struct IntegerTable: Sendable {
  private struct Slot {
    var key = UInt64.max
    var value: UInt64 = 0
  }

  private var slots: [Slot]
  private(set) var count = 0
  private var shift: UInt64

  static let seed = UInt64.random(in: .min ... .max)

  init(capacity: Int = 0) {
    var bits = 4
    while (1 << bits) * 2 < capacity * 3 { bits += 1 }
    slots = Array(repeating: Slot(), count: 1 << bits)
    shift = UInt64(64 - bits)
  }

  @inline(__always)
  private func home(_ key: UInt64) -> Int {
    let (high, low) = (key ^ Self.seed).multipliedFullWidth(by: 0x9E37_79B9_7F4A_7C15)
    return Int(((high ^ low) &* 0xD6E8_FEB8_6659_FD93) >> shift)
  }

  @inline(__always)
  func value(for key: UInt64) -> UInt64? {
    var at = home(key)
    while true {
      let slot = slots[at]
      if slot.key == key { return slot.value }
      if slot.key == .max { return nil }
      at = (at + 1) & (slots.count - 1)
    }
  }

  /// Stores a value; returns the value that it replaces, if any.
  @discardableResult
  mutating func set(_ value: UInt64, for key: UInt64) -> UInt64? {
    precondition(key != .max, "the key that marks an empty slot")
    if (count + 1) * 3 > slots.count * 2 { grow() }
    var at = home(key)
    while slots[at].key != .max, slots[at].key != key { at = (at + 1) & (slots.count - 1) }
    let previous = slots[at].key == key ? slots[at].value : nil
    if previous == nil { count += 1 }
    slots[at] = Slot(key: key, value: value)
    return previous
  }

  private mutating func grow() {
    var larger = IntegerTable(capacity: slots.count * 4 / 3 + 1)
    for slot in slots where slot.key != .max { larger.set(slot.value, for: slot.key) }
    self = larger
  }
}
