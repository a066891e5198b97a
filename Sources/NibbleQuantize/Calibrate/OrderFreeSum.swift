/// A sum of floating-point numbers that does not depend on the order of its terms.
///
/// Terms are rounded down to multiples of 2^-72 and added in integers: two 64-bit words, the upper
/// one in units of 2^-20. Terms are clamped to ±2^42; NaN counts as 2^42.
struct OrderFreeSum: Sendable, Hashable {
  /// Upper part of the sum, in units of 2^-20.
  private(set) var high: Int64 = 0
  /// Lower part, in units of 2^-72, 0..<2^52.
  private(set) var low: Int64 = 0

  private static let lowBits: Int64 = 52

  init() {}

  /// - Precondition: `low` is in 0..<2^52.
  init?(high: Int64, low: Int64) {
    guard (0..<(1 << Self.lowBits)).contains(low) else { return nil }
    self.high = high
    self.low = low
  }

  mutating func add(_ term: Double) {
    let scaled = (term.isNaN ? 0x1p42 : min(max(term, -0x1p42), 0x1p42)) * 0x1p20
    let whole = scaled.rounded(.down)
    high &+= Int64(whole)
    low += Int64((scaled - whole) * 0x1p52)
    normalize()
  }

  mutating func merge(_ other: OrderFreeSum) {
    high &+= other.high
    low += other.low
    normalize()
  }

  private mutating func normalize() {
    high &+= low >> Self.lowBits
    low &= (1 << Self.lowBits) - 1
  }

  var value: Double { Double(high) * 0x1p-20 + Double(low) * 0x1p-72 }
}
