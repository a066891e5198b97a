/// The most frequent bytes of a weight, in falling frequency, which the compressed form writes in
/// few bits.
///
/// Bytes of equal frequency stand in the order that libstdc++'s `std::sort` gives them, as in files
/// of the vendor's encoder. Every block carries the dictionary, so the order affects the bytes of
/// the file but not whether it can be read.
public struct ByteDictionary: Hashable, Sendable {
  public let bytes: [UInt8]

  /// - Parameters:
  ///   - counts: `[256]`, occurrences of each byte.
  ///   - code: the prefix code, which sets how many bytes the dictionary holds.
  public init(counts: [UInt64], for code: FractalCode) {
    precondition(counts.count == 256, "\(counts.count) counts, not 256")
    var sort = IntroSort(counts)
    sort.run()
    bytes = Array(sort.order.prefix(code.entries))
  }
}

/// The prefix code of a compressed block.
public enum FractalCode: Hashable, Sendable {
  /// For int8 weights of few distinct values.
  case low
  /// For float16 weights with many zeros.
  case high

  var entries: Int { self == .low ? 36 : 34 }
}

/// Sorts the bytes 0...255 by falling count with the steps of libstdc++'s `std::sort`: quicksort on
/// the median of three down to runs of 16, heapsort beyond a depth limit, and a final insertion
/// sort.
struct IntroSort {
  private(set) var order = (0...255).map { UInt8($0) }
  private let counts: [UInt64]

  init(_ counts: [UInt64]) { self.counts = counts }

  private static let run = 16

  mutating func run() {
    // Twice the logarithm of 256.
    loop(0, order.count, depth: 16)
    insert(0, Self.run)
    for index in Self.run..<order.count { insertUnguarded(index) }
  }

  private func precedes(_ a: UInt8, _ b: UInt8) -> Bool { counts[Int(a)] > counts[Int(b)] }
  private func precedes(_ a: Int, _ b: Int) -> Bool { precedes(order[a], order[b]) }

  private mutating func loop(_ first: Int, _ end: Int, depth: Int) {
    var (end, depth) = (end, depth)
    while end - first > Self.run {
      guard depth > 0 else { return heapSort(first, end) }
      depth -= 1
      medianToFront(first, first + 1, first + (end - first) / 2, end - 1)
      let cut = partition(first + 1, end, pivot: first)
      loop(cut, end, depth: depth)
      end = cut
    }
  }

  private mutating func medianToFront(_ first: Int, _ a: Int, _ b: Int, _ c: Int) {
    let median: Int
    if precedes(a, b) {
      median = precedes(b, c) ? b : precedes(a, c) ? c : a
    } else {
      median = precedes(a, c) ? a : precedes(b, c) ? c : b
    }
    order.swapAt(first, median)
  }

  private mutating func partition(_ first: Int, _ end: Int, pivot: Int) -> Int {
    var (low, high) = (first, end)
    while true {
      while precedes(low, pivot) { low += 1 }
      high -= 1
      while precedes(pivot, high) { high -= 1 }
      guard low < high else { return low }
      order.swapAt(low, high)
      low += 1
    }
  }

  private mutating func insert(_ first: Int, _ end: Int) {
    for index in first + 1..<end {
      if precedes(index, first) {
        order.insert(order.remove(at: index), at: first)
      } else {
        insertUnguarded(index)
      }
    }
  }

  private mutating func insertUnguarded(_ index: Int) {
    let value = order[index]
    var at = index
    while precedes(value, order[at - 1]) {
      order[at] = order[at - 1]
      at -= 1
    }
    order[at] = value
  }

  private mutating func heapSort(_ first: Int, _ end: Int) {
    let count = end - first
    for parent in stride(from: (count - 2) / 2, through: 0, by: -1) {
      sift(order[first + parent], into: parent, first, count)
    }
    for last in stride(from: count - 1, to: 0, by: -1) {
      let value = order[first + last]
      order[first + last] = order[first]
      sift(value, into: 0, first, last)
    }
  }

  /// Lets the hole sink to a leaf, then the value rise from there.
  private mutating func sift(_ value: UInt8, into hole: Int, _ first: Int, _ count: Int) {
    let top = hole
    var hole = hole
    var child = hole
    while child < (count - 1) / 2 {
      child = 2 * (child + 1)
      if precedes(first + child, first + child - 1) { child -= 1 }
      order[first + hole] = order[first + child]
      hole = child
    }
    if count.isMultiple(of: 2), child == (count - 2) / 2 {
      child = 2 * (child + 1)
      order[first + hole] = order[first + child - 1]
      hole = child - 1
    }
    while hole > top, precedes(order[first + (hole - 1) / 2], value) {
      order[first + hole] = order[first + (hole - 1) / 2]
      hole = (hole - 1) / 2
    }
    order[first + hole] = value
  }
}
