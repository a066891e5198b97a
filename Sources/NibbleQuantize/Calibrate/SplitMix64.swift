/// SplitMix64 by Steele, Lea and Flood, with a shuffle that does not depend on the standard
/// library.
struct SplitMix64 {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  /// `0..<count`, in order or after a Fisher-Yates shuffle.
  mutating func order(of count: Int, shuffled: Bool) -> [Int] {
    var order = Array(0..<count)
    guard shuffled, count > 1 else { return order }
    for last in (1..<count).reversed() {
      order.swapAt(last, Int(next() % UInt64(last + 1)))
    }
    return order
  }
}
