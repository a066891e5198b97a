/// The state of one search: the active instructions, in order of preference.
struct PatternSearch {
  private let code: [PatternProgram.Instruction]
  private var current: [Int] = []
  private var following: [Int] = []
  private var stack: [Int] = []
  /// The generation in which an instruction was last added.
  private var seen: [Int]
  private var generation = 0

  init(_ program: PatternProgram) {
    code = program.code
    seen = Array(repeating: 0, count: program.code.count)
  }

  /// The matches inside `range`, leftmost first, without overlap. Conditions see `range` only.
  mutating func matches(in text: borrowing Span<UInt8>, _ range: Range<Int>) -> [Range<Int>] {
    var found: [Range<Int>] = []
    var at = range.lowerBound
    while at <= range.upperBound {
      let end = match(text, at: at, in: range)
      if let end, end > at || found.last?.upperBound != at {
        found.append(at..<end)
        if end > at {
          at = end
          continue
        }
      }
      guard at < range.upperBound else { break }
      at += text.scalar(at: at).length
    }
    return found
  }

  /// Whether there is a match that starts where the text does.
  mutating func matchesStart(of text: borrowing Span<UInt8>) -> Bool {
    match(text, at: 0, in: 0..<text.count) != nil
  }

  /// The end of the preferred match that starts at `start`.
  private mutating func match(
    _ text: borrowing Span<UInt8>, at start: Int, in range: Range<Int>
  ) -> Int? {
    var end: Int?
    var at = start
    following.removeAll(keepingCapacity: true)
    generation += 1
    if add(0, text, at, range) { end = at }
    swap(&current, &following)
    while at < range.upperBound, !current.isEmpty {
      let scalar = text.scalar(at: at)
      at += scalar.length
      following.removeAll(keepingCapacity: true)
      generation += 1
      for instruction in current {
        guard case .take(let set) = code[instruction], set.contains(scalar.value) else { continue }
        if add(instruction + 1, text, at, range) {
          end = at
          break
        }
      }
      swap(&current, &following)
    }
    return end
  }

  /// Adds to `following` all instructions that can be reached without consuming a scalar. True when
  /// a match is reached: instructions that come later in the order of preference are then dropped.
  private mutating func add(
    _ first: Int, _ text: borrowing Span<UInt8>, _ at: Int, _ range: Range<Int>
  ) -> Bool {
    stack.removeAll(keepingCapacity: true)
    stack.append(first)
    while let instruction = stack.popLast() {
      guard seen[instruction] != generation else { continue }
      seen[instruction] = generation
      switch code[instruction] {
      case .take: following.append(instruction)
      case .jump(let target): stack.append(target)
      case .fork(let preferred, let other):
        stack.append(other)
        stack.append(preferred)
      case .require(let condition):
        if condition.holds(text, at, range) { stack.append(instruction + 1) }
      case .match: return true
      }
    }
    return false
  }
}

extension PatternTree.Condition {
  func holds(_ text: borrowing Span<UInt8>, _ at: Int, _ range: Range<Int>) -> Bool {
    let next = at < range.upperBound ? text.scalar(at: at).value : nil
    let previous = at > range.lowerBound ? text.scalar(before: at).value : nil
    switch self {
    case .next(let set, let present): return (next.map(set.contains) ?? false) == present
    case .previous(let set, let present): return (previous.map(set.contains) ?? false) == present
    case .textStart: return previous == nil
    case .textEnd: return next == nil
    case .lastLineEnd: return next == nil || (next == 0x0A && at + 1 == range.upperBound)
    case .lineStart: return previous == nil || (previous == 0x0A && next != nil)
    case .lineEnd: return next == nil || next == 0x0A
    case .wordBoundary(let present):
      let before = previous.map { ScalarClass($0).isWord } ?? false
      let after = next.map { ScalarClass($0).isWord } ?? false
      return (before != after) == present
    }
  }
}
