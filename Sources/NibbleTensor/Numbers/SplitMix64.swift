/// A small generator of pseudo-random numbers with a fixed sequence. Source: Steele, Lea and Flood,
/// OOPSLA 2014.
package struct SplitMix64: Sendable {
  private var state: UInt64

  package init(state: UInt64) { self.state = state }

  package mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  /// In 0..<1, 53 bits.
  package mutating func nextUnit() -> Double { Double(next() >> 11) * 0x1p-53 }

  /// `0..<count`, in order or after a Fisher-Yates shuffle.
  package mutating func order(of count: Int, shuffled: Bool) -> [Int] {
    var order = Array(0..<count)
    guard shuffled, count > 1 else { return order }
    for last in (1..<count).reversed() {
      order.swapAt(last, Int(next() % UInt64(last + 1)))
    }
    return order
  }
}
