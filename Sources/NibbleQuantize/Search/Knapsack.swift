/// Chooses one option for each item so that the sum of values is least while the sum of costs stays
/// within a bound: the multiple-choice knapsack, solved by dynamic programming over costs.
///
/// Exact when the differences of costs have a common divisor that is not too small; otherwise costs
/// are rounded up to a larger unit, so that the bound still holds.
struct Knapsack {
  struct Option {
    var cost: Int
    var value: Double
  }

  private let items: [[Option]]
  /// The sum of each item's least cost.
  let leastCost: Int
  /// The sum of each item's largest cost.
  let largestCost: Int
  /// Costs above the least, in units.
  private let unit: Int
  private let extras: [[Int]]
  /// The option that is best for an item, given the units left for it and the items before it.
  private let choices: [[UInt8]]
  private static let largestTable = 1 << 17

  /// - Precondition: each item has 1 to 255 options, with costs of 0 or more.
  init(_ items: [[Option]]) {
    precondition(items.allSatisfy { (1...255).contains($0.count) }, "options of each item")
    self.items = items
    let least = items.map { $0.map(\.cost).min() ?? 0 }
    leastCost = least.reduce(0, +)
    largestCost = items.reduce(0) { $0 + ($1.map(\.cost).max() ?? 0) }
    let above = zip(items, least).map { item, least in item.map { $0.cost - least } }
    let range = largestCost - leastCost
    var unit = above.joined().reduce(0, Self.divisor)
    if unit == 0 || range / unit >= Self.largestTable { unit = range / Self.largestTable + 1 }
    extras = above.map { $0.map { ($0 + unit - 1) / unit } }
    self.unit = unit
    let width = extras.reduce(0) { $0 + ($1.max() ?? 0) } + 1
    var best = [Double](repeating: 0, count: width)
    var choices: [[UInt8]] = []
    for (item, extras) in zip(items, extras) {
      var next = [Double](repeating: .infinity, count: width)
      var chosen = [UInt8](repeating: 0, count: width)
      // Equal values: the cheaper option.
      for option in item.indices.sorted(by: { extras[$0] < extras[$1] }) {
        let (extra, value) = (extras[option], item[option].value)
        for left in extra..<max(extra, width) {
          let sum = best[left - extra] + value
          if sum < next[left] {
            next[left] = sum
            chosen[left] = UInt8(option)
          }
        }
      }
      best = next
      choices.append(chosen)
    }
    self.choices = choices
  }

  private static func divisor(_ a: Int, _ b: Int) -> Int {
    var (a, b) = (a, b)
    while b != 0 { (a, b) = (b, a % b) }
    return a
  }

  /// The index of each item's option; nil if even the cheapest options cost more.
  func best(within cost: Int) -> [Int]? {
    guard cost >= leastCost else { return nil }
    var left = (cost - leastCost) / unit
    var result = [Int](repeating: 0, count: items.count)
    for index in items.indices.reversed() {
      left = min(left, choices[index].count - 1)
      let option = Int(choices[index][left])
      result[index] = option
      left -= extras[index][option]
    }
    return result
  }
}
