public import NibbleFormats
public import NibbleModel
public import NibbleTensor

/// What each group of layers costs in each of some schemes, in bytes and in KL divergence from the
/// source, and the choice that loses least within a size.
///
/// A group is the layers that read one input, which engines fuse and which therefore take one scheme. Its
/// divergence is measured with only its layers rounded, to nearest, and a choice's divergence is
/// estimated as the sum over groups.
public struct SchemeSearch: Sendable {
  /// A choice for every group.
  public struct Choice: Sendable {
    /// Carries it out.
    public let recipe: Recipe
    /// Bytes of the weight files.
    public let bytes: Int
    /// The sum of the divergences of groups, nats per token.
    public let estimate: Double
    /// Number of layers in each scheme, in the order of the candidates; the last stay float.
    public let layers: [Int]
  }

  private struct Group {
    var paths: [String]
    /// By candidate, float last; nil if a layer does not fit.
    var options: [Knapsack.Option?]
  }

  public let candidates: [LinearScheme]
  private let checkpoint: Checkpoint
  private let exporter: any Exporter
  private let base: Recipe
  private let groups: [Group]
  private let knapsack: Knapsack
  /// For each group, the candidate of each of the knapsack's options.
  private let indices: [[Int]]
  /// Paths of layers that no scheme fits.
  private let unfit: [String]
  /// Bytes outside the groups, with the longest header.
  private let otherBytes: Int
  /// All layers in one scheme, as far as they fit it.
  private let uniform: [Choice]

  /// Measures each group in each scheme.
  ///
  /// - Parameters:
  ///   - base: its steps, bound and name go into the recipes.
  ///   - windows: token ids; not those of the verdict.
  ///   - progress: called after each group.
  ///   - shouldStop: called before each block that runs.
  public init(
    _ checkpoint: Checkpoint, among candidates: [LinearScheme], base: Recipe,
    exporter: any Exporter, windows: [[Int]], on compute: Compute,
    progress: (_ done: Int, _ of: Int) -> Void = { _, _ in }, shouldStop: () -> Bool = { false }
  ) throws(QuantizeError) {
    guard !candidates.isEmpty, candidates.count < 255 else {
      throw .unmeasurable("a search needs schemes to choose from")
    }
    var groups: [Group] = []
    var positions: [[String]: Int] = [:]
    var (dataBytes, headerBytes) = (0, 0)
    var plans: [(candidate: Int, recipe: Recipe, bytes: Int)] = []
    for (number, scheme) in candidates.enumerated() {
      guard let plan = try Self.plan(checkpoint, scheme, base, exporter) else { continue }
      let found = try SensitivityRun(checkpoint, plan, windows: windows, on: compute).run(
        progress: { progress(number * $1 + $0, candidates.count * $1) }, shouldStop: shouldStop)
      let layers = Dictionary(uniqueKeysWithValues: plan.layers.map { ($0.path, $0) })
      for group in found.groups.sorted(by: { ($0.block, $0.paths[0]) < ($1.block, $1.paths[0]) }) {
        let members = group.paths.compactMap { layers[$0] }
        if positions[group.paths] == nil {
          positions[group.paths] = groups.count
          var options = [Knapsack.Option?](repeating: nil, count: candidates.count + 1)
          options[candidates.count] = Knapsack.Option(
            cost: members.reduce(0) { $0 + $1.sourceBytes }, value: 0)
          groups.append(Group(paths: group.paths, options: options))
        }
        guard let position = positions[group.paths] else { continue }
        groups[position].options[number] = Knapsack.Option(
          cost: members.reduce(0) { $0 + $1.outputBytes }, value: max(0, group.kl))
      }
      plans.append((number, plan.recipe, plan.outputBytes))
      headerBytes = max(headerBytes, plan.shards.reduce(0) { $0 + $1.header.count })
      dataBytes =
        plan.shards.reduce(0) { $0 + $1.dataSize }
        - plan.layers.reduce(0) { $0 + $1.outputBytes }
      // Layers that do not fit this scheme stay float, and their groups are not among its own.
      for group in groups where group.options[number] == nil {
        dataBytes -= group.options.last??.cost ?? 0
      }
    }
    guard !groups.isEmpty else {
      throw .unmeasurable("\(checkpoint.path): none of the schemes fits a group of its layers")
    }
    self.candidates = candidates
    self.checkpoint = checkpoint
    self.exporter = exporter
    self.base = base
    self.groups = groups
    let all = try Plan(
      checkpoint, recipe: Self.rounding(candidates[0], base), exporter: exporter,
      windows: WindowSizes())
    unfit = all.groups.sorted { $0.key < $1.key }.flatMap(\.value).map { $0.layers.map(\.path) }
      .filter { positions[$0] == nil }.flatMap(\.self)
    otherBytes = dataBytes + headerBytes
    uniform = plans.map { plan in
      let taken = groups.map {
        $0.options[plan.candidate] == nil ? candidates.count : plan.candidate
      }
      var recipe = plan.recipe
      recipe.steps = base.steps
      return Choice(
        recipe: recipe, bytes: plan.bytes,
        estimate: zip(groups, taken).reduce(0) { $0 + ($1.0.options[$1.1]?.value ?? 0) },
        layers: (0...candidates.count).map { candidate in
          zip(groups, taken).reduce(0) { $0 + ($1.1 == candidate ? $1.0.paths.count : 0) }
        })
    }
    indices = groups.map { group in group.options.indices.filter { group.options[$0] != nil } }
    knapsack = Knapsack(groups.map { $0.options.compactMap(\.self) })
  }

  private static func rounding(_ scheme: LinearScheme, _ base: Recipe) -> Recipe {
    var recipe = base
    (recipe.scheme, recipe.candidates, recipe.steps) = (scheme, [], [Round()])
    return recipe
  }

  /// The plan of one scheme for all layers; groups with a layer that it does not fit stay float. Nil if
  /// it fits none.
  private static func plan(
    _ checkpoint: Checkpoint, _ scheme: LinearScheme, _ base: Recipe, _ exporter: any Exporter
  ) throws(QuantizeError) -> Plan? {
    let recipe = rounding(scheme, base)
    let plan = try Plan(checkpoint, recipe: recipe, exporter: exporter, windows: WindowSizes())
    let unfit = plan.groups.values.joined().filter { group in
      group.layers.contains {
        !scheme.fits(outputs: $0.outputs, inputs: $0.inputs)
      }
    }
    guard !unfit.isEmpty else { return try checked(plan) }
    guard unfit.count < plan.groups.values.joined().count else { return nil }
    return try checked(
      try Plan(
        checkpoint, recipe: recipe.keeping(unfit.flatMap { $0.layers.map(\.path) }),
        exporter: exporter, windows: WindowSizes()))
  }

  private static func checked(_ plan: Plan) throws(QuantizeError) -> Plan {
    guard plan.refusals.isEmpty else { throw .refused(plan.refusals) }
    return plan
  }

  /// The choice that loses least among those of at most `bytes`; nil if there is none.
  public func choice(within bytes: Int) throws(QuantizeError) -> Choice? {
    let room = max(bytes - otherBytes, knapsack.leastCost)
    var choices = uniform.filter { $0.layers.dropLast().contains { $0 > 0 } }
    if let options = knapsack.best(within: room), let choice = try choice(options) {
      choices.append(choice)
    }
    return choices.filter { $0.bytes <= bytes }.min { $0.estimate < $1.estimate }
  }

  /// The smallest choice whose estimate is at most `divergence`, to 1/1000 of the range of sizes; nil
  /// if only float layers would do.
  public func choice(losing divergence: Double) throws(QuantizeError) -> Choice? {
    var (low, high) = (knapsack.leastCost, knapsack.largestCost)
    guard let largest = knapsack.best(within: high), estimate(largest) <= divergence else {
      return nil
    }
    let grain = max(1, (high - low) / 1000)
    while high - low > grain {
      let middle = (low + high) / 2
      if let options = knapsack.best(within: middle), estimate(options) <= divergence {
        high = middle
      } else {
        low = middle
      }
    }
    if let options = knapsack.best(within: low), estimate(options) <= divergence { high = low }
    return try knapsack.best(within: high).flatMap { options throws(QuantizeError) in
      try choice(options)
    }
  }

  /// Choices of growing size, from the smallest on: those whose estimate is lower than that of any
  /// smaller one.
  public func front(points: Int) throws(QuantizeError) -> [Choice] {
    let (least, range) = (knapsack.leastCost, knapsack.largestCost - knapsack.leastCost)
    var front: [Choice] = []
    for point in 0..<max(1, points) {
      let room = least + range / max(1, points - 1) * point
      guard let options = knapsack.best(within: room), let choice = try choice(options),
        choice.estimate < front.last?.estimate ?? .infinity
      else { continue }
      front.append(choice)
    }
    return front
  }

  private func estimate(_ options: [Int]) -> Double {
    zip(zip(groups, indices), options).reduce(0) { sum, item in
      let ((group, indices), option) = item
      return sum + (group.options[indices[option]]?.value ?? 0)
    }
  }

  /// Nil if everything stays float.
  private func choice(_ options: [Int]) throws(QuantizeError) -> Choice? {
    let chosen = zip(indices, options).map { $0[$1] }
    var counts = [Int](repeating: 0, count: candidates.count + 1)
    for (group, candidate) in zip(groups, chosen) { counts[candidate] += group.paths.count }
    guard let common = candidates.indices.max(by: { (counts[$0], $1) < (counts[$1], $0) }),
      counts[common] > 0
    else { return nil }
    var recipe = base
    (recipe.scheme, recipe.candidates) = (candidates[common], [])
    recipe.exceptions = zip(groups, chosen).flatMap { group, candidate in
      candidate == common
        ? []
        : group.paths.map {
          Recipe.Exception(
            pattern: $0, scheme: candidate < candidates.count ? candidates[candidate] : nil)
        }
    }
    recipe = recipe.keeping(unfit)
    let plan = try Plan(
      checkpoint, recipe: recipe, exporter: exporter, windows: WindowSizes())
    guard plan.refusals.isEmpty else { throw .refused(plan.refusals) }
    return Choice(
      recipe: recipe, bytes: plan.outputBytes, estimate: estimate(options), layers: counts)
  }

  /// What was measured: each group's paths, bytes and divergence by scheme.
  public var json: JSON {
    [
      "candidates": .array(candidates.map { .string("\($0)") }),
      "groups": .array(
        groups.map { group in
          [
            "paths": .array(group.paths.map { .string($0) }),
            "options": .array(
              group.options.map { option in
                option.map { ["bytes": JSON($0.cost), "kl": .number($0.value)] } ?? .null
              }),
          ]
        }),
    ]
  }
}

extension LinearScheme {
  /// Whether a weight of this shape can be stored, packed into whole words unless activations are
  /// rounded.
  fileprivate func fits(outputs: Int, inputs: Int) -> Bool {
    weights.fits(outputs: outputs, inputs: inputs)
      && (activations != nil || (inputs * weights.bits).isMultiple(of: 32))
  }
}
