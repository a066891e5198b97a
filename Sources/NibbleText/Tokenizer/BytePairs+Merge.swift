extension BytePairs {
  @inline(__always)
  private func pair(_ left: Int32, _ right: Int32) -> UInt64? {
    let key = UInt64(UInt32(bitPattern: left)) << 32 | UInt64(UInt32(bitPattern: right))
    return merges.value(for: key)
  }

  /// Merges the lowest pair until none is left; quadratic in the number of symbols.
  func mergeByScanning(_ scratch: inout Scratch) {
    var count = scratch.symbols.count
    guard count > 1 else { return }
    scratch.pairs.removeAll(keepingCapacity: true)
    for at in 0..<count - 1 {
      scratch.pairs.append(pair(scratch.symbols[at], scratch.symbols[at + 1]) ?? .max)
    }
    while count > 1 {
      var best = 0
      var lowest = scratch.pairs[0]
      for at in 1..<max(count - 1, 1) where scratch.pairs[at] < lowest {
        lowest = scratch.pairs[at]
        best = at
      }
      guard lowest != .max else { break }
      scratch.symbols[best] = Int32(truncatingIfNeeded: lowest)
      count -= 1
      for at in best + 1..<max(count, best + 1) {
        scratch.symbols[at] = scratch.symbols[at + 1]
        scratch.pairs[at - 1] = scratch.pairs[at]
      }
      if best > 0 {
        scratch.pairs[best - 1] = pair(scratch.symbols[best - 1], scratch.symbols[best]) ?? .max
      }
      if best + 1 < count {
        scratch.pairs[best] = pair(scratch.symbols[best], scratch.symbols[best + 1]) ?? .max
      }
    }
    scratch.symbols.removeSubrange(count...)
  }

  /// The same result in n log n steps: a heap of pairs over a list of symbols linked by index.
  func mergeByHeap(_ symbols: inout [Int32]) {
    let end = symbols.count
    var next = Array(1...end)
    var previous = Array(-1..<end - 1)
    var heap = MergeHeap()
    for at in 0..<end - 1 {
      if let merge = pair(symbols[at], symbols[at + 1]) { heap.push(.init(merge: merge, at: at)) }
    }
    while let lowest = heap.pop() {
      let (at, right) = (lowest.at, next[lowest.at])
      // A symbol that was merged away has the id -1; a pair that changed has another merge.
      guard symbols[at] >= 0, right < end, pair(symbols[at], symbols[right]) == lowest.merge
      else { continue }
      symbols[at] = Int32(truncatingIfNeeded: lowest.merge)
      symbols[right] = -1
      next[at] = next[right]
      if next[at] < end {
        previous[next[at]] = at
        if let merge = pair(symbols[at], symbols[next[at]]) {
          heap.push(.init(merge: merge, at: at))
        }
      }
      let left = previous[at]
      if left >= 0, let merge = pair(symbols[left], symbols[at]) {
        heap.push(.init(merge: merge, at: left))
      }
    }
    symbols.removeAll { $0 < 0 }
  }
}

/// A binary heap that returns the lowest merge first and, among equals, the leftmost.
struct MergeHeap {
  struct Entry {
    /// rank << 32 | merged id
    var merge: UInt64
    var at: Int

    @inline(__always)
    func precedes(_ other: Entry) -> Bool {
      merge < other.merge || (merge == other.merge && at < other.at)
    }
  }

  private var entries: [Entry] = []

  mutating func push(_ entry: Entry) {
    entries.append(entry)
    var child = entries.count - 1
    while child > 0 {
      let parent = (child - 1) / 2
      guard entry.precedes(entries[parent]) else { break }
      entries[child] = entries[parent]
      child = parent
    }
    entries[child] = entry
  }

  mutating func pop() -> Entry? {
    guard let last = entries.popLast() else { return nil }
    guard let first = entries.first else { return last }
    var parent = 0
    while true {
      var child = 2 * parent + 1
      guard child < entries.count else { break }
      if child + 1 < entries.count, entries[child + 1].precedes(entries[child]) { child += 1 }
      guard entries[child].precedes(last) else { break }
      entries[parent] = entries[child]
      parent = child
    }
    entries[parent] = last
    return first
  }
}
