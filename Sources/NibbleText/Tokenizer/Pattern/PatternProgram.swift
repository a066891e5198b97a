/// A pattern as instructions of a virtual machine.
///
/// It runs all alternatives side by side (Thompson, Pike), so no pattern takes more steps for one
/// search than its length times the text's.
struct PatternProgram: Hashable, Sendable {
  enum Instruction: Hashable, Sendable {
    case take(ScalarSet)
    case require(PatternTree.Condition)
    case jump(Int)
    /// Tries the first target before the second.
    case fork(Int, Int)
    case match
  }

  private(set) var code: [Instruction] = []

  static let limit = 20_000

  init(_ pattern: String) throws(TokenizerError) {
    let tree = try PatternParser.parse(pattern)
    guard emit(tree) else {
      throw .badPattern(pattern, reason: "it needs more than \(Self.limit) instructions")
    }
    code.append(.match)
  }

  /// Appends the instructions of a tree; false when the limit is reached.
  private mutating func emit(_ tree: PatternTree) -> Bool {
    guard code.count < Self.limit else { return false }
    switch tree {
    case .set(let set): code.append(.take(set))
    case .condition(let condition): code.append(.require(condition))
    case .sequence(let parts): return parts.allSatisfy { emit($0) }
    case .alternatives(let branches): return emit(branches: branches)
    case .repeated(let body, let min, let max, let lazy):
      for _ in 0..<min {
        let start = code.count
        guard emit(body) else { return false }
        if code.count == start { break }
      }
      guard let max else { return emitLoop(body, lazy: lazy) }
      var forks: [Int] = []
      for _ in 0..<Swift.max(max - min, 0) {
        forks.append(code.count)
        code.append(.match)
        guard emit(body) else { return false }
      }
      for fork in forks { setFork(fork, into: fork + 1, past: code.count, lazy: lazy) }
    }
    return true
  }

  private mutating func emit(branches: [PatternTree]) -> Bool {
    var jumps: [Int] = []
    for (index, branch) in branches.enumerated() {
      let fork = code.count
      let isLast = index == branches.count - 1
      if !isLast { code.append(.match) }
      guard emit(branch) else { return false }
      if !isLast {
        jumps.append(code.count)
        code.append(.match)
        code[fork] = .fork(fork + 1, code.count)
      }
    }
    for jump in jumps { code[jump] = .jump(code.count) }
    return true
  }

  private mutating func emitLoop(_ body: PatternTree, lazy: Bool) -> Bool {
    let fork = code.count
    code.append(.match)
    guard emit(body) else { return false }
    code.append(.jump(fork))
    setFork(fork, into: fork + 1, past: code.count, lazy: lazy)
    return true
  }

  private mutating func setFork(_ fork: Int, into body: Int, past end: Int, lazy: Bool) {
    code[fork] = lazy ? .fork(end, body) : .fork(body, end)
  }
}
