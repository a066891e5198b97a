import NibbleTensor

/// Names an activation within a block that linear layers read.
public struct Site: RawRepresentable, Hashable, Sendable, Codable {
  public let rawValue: String

  public init(rawValue: String) { self.rawValue = rawValue }

  /// Input of the query, key and value projections, or of a mixer.
  public static let attention = Site(rawValue: "attention")
  /// Input of the output projection: the result of attention or of a mixer, all heads.
  public static let output = Site(rawValue: "output")
  /// Input of the gate and up projections.
  public static let feedForward = Site(rawValue: "feedForward")
  /// Input of down: `act(gate) · up`, or `act(up)`.
  public static let down = Site(rawValue: "down")
  /// Input of the shared expert's down.
  public static let sharedDown = Site(rawValue: "shared.down")

  /// Input of the gate and up projections of experts that stand beside a feed-forward unit.
  public static let mixture = Site(rawValue: "mixture")
  /// Input of the gate of a block's own inputs.
  public static let blockInput = Site(rawValue: "blockInput")
  /// Input of the output projection of a block's own inputs.
  public static let blockInputOutput = Site(rawValue: "blockInput.output")

  /// Inputs of down of all experts, reported together.
  public static let expertsDown = Site(rawValue: "experts.down")
  /// Inputs of all linears of all experts, for results reported of a whole block's experts.
  public static let experts = Site(rawValue: "experts")

  /// Input of one expert's down, for the tokens that the router sends to it.
  public static func down(expert: Int) -> Site { Site(rawValue: "experts.\(expert).down") }
}

extension Site {
  /// Whether it is the input of one expert's down.
  public var isOfExpert: Bool { rawValue.hasPrefix("experts.") && self != .expertsDown }
}

/// A site, the linears that read it, and the layer that produces it.
public struct SiteShape: Hashable, Sendable {
  /// The layer that takes the inverse of the factors on the input columns of the site's linears.
  public enum Feeder: Hashable, Sendable {
    case norm(NormShape)
    /// Rows of a part of a linear. `sharedHeads` query heads share the rows of each key head.
    case rows(LinearID, LinearShape.Part, headSize: Int, sharedHeads: Int)
    /// No layer can take the factors; the payload is the reason.
    case none(String)
  }

  public var site: Site
  /// Channels of the activation.
  public var width: Int
  public var linears: [LinearShape]
  /// Linears that read the site and stay float.
  public var floats: [LinearShape] = []
  public var feeder: Feeder
  /// Index of its branch.
  public var branch: Int
  public var place: Place

  /// Position of a site in its branch.
  public enum Place: Hashable, Sendable {
    /// Its linears feed other linears of the branch.
    case input
    /// Its linear's output is the branch's result.
    case end
    /// Its linear's output joins the result of the next branch.
    case joined
    /// Input of an expert's down, for the tokens that the router sends there. `isLast` if no other
    /// site of the branch follows.
    case expert(Int, isLast: Bool)
    /// Input of the shared expert's down, the last site of its branch.
    case shared
  }

  /// Whether the branch's result is known after the site's linears.
  public var endsBranch: Bool {
    switch place {
    case .input, .joined: false
    case .end, .shared: true
    case .expert(_, let isLast): isLast
    }
  }

  /// The expert that the site belongs to; nil if all tokens reach the site.
  public var expert: Int? {
    if case .expert(let expert, _) = place { expert } else { nil }
  }
}

extension BlockShape {
  /// All sites of the block, in the order of the forward pass.
  public var sites: [SiteShape] {
    var sites: [SiteShape] = []
    for (index, branch) in branches.enumerated() {
      switch branch.body {
      case .attention(let shape):
        add(.attention, shape.inputs, of: branch, index, to: &sites)
        sites.append(
          SiteShape(
            site: .output, width: shape.output.inputs, linears: [shape.output],
            feeder: valueFeeder(shape), branch: index, place: .end))
      case .mixer(let shape):
        add(.attention, shape.inputs, floats: shape.floats, of: branch, index, to: &sites)
        sites.append(
          SiteShape(
            site: .output, width: shape.output.inputs, linears: [shape.output],
            feeder: .none("all heads share the weight of its norm"), branch: index, place: .end))
      case .feedForward(let shape):
        add(.feedForward, shape.inputs, of: branch, index, to: &sites)
        sites.append(down(.down, shape, index, branch.joinsNext ? .joined : .end))
      case .blockInput(let shape):
        add(.blockInput, [shape.gate], of: branch, index, to: &sites)
        sites.append(
          SiteShape(
            site: .blockInputOutput, width: shape.output.inputs, linears: [shape.output],
            feeder: .none("there is no linear before it"), branch: index, place: .end))
      case .experts(let shape):
        add(expertsInput, shape.inputs, floats: shape.floats, of: branch, index, to: &sites)
        for (expert, unit) in shape.units.enumerated() {
          let isLast = expert == shape.units.count - 1 && shape.shared == nil
          sites.append(
            down(.down(expert: expert), unit, index, .expert(expert, isLast: isLast)))
        }
        if let shared = shape.shared {
          sites.append(down(.sharedDown, shared.unit, index, .shared))
        }
      }
    }
    return sites
  }

  /// The site of the input of experts.
  var expertsInput: Site { feedForward == nil ? .feedForward : .mixture }

  public func site(_ site: Site) -> SiteShape? { sites.first { $0.site == site } }

  /// The site that a linear reads.
  public func site(of linear: LinearID) -> SiteShape? {
    sites.first { site in site.linears.contains { $0.id == linear } }
  }

  private func down(
    _ site: Site, _ unit: FeedForwardShape, _ branch: Int, _ place: SiteShape.Place
  ) -> SiteShape {
    SiteShape(
      site: site, width: unit.down.inputs, linears: [unit.down], feeder: upFeeder(unit),
      branch: branch, place: place)
  }

  /// Appends the input site of a branch. A parallel branch with the same norm adds its linears to
  /// the first branch's site instead.
  private func add(
    _ site: Site, _ linears: [LinearShape], floats: [LinearShape] = [], of branch: Branch,
    _ index: Int, to sites: inout [SiteShape]
  ) {
    if residual == .parallel, index > 0, branch.before == branches[0].before {
      sites[0].linears += linears
      sites[0].floats += floats
      return
    }
    let feeder: SiteShape.Feeder =
      if linears.contains(where: { $0.stack != nil }) {
        .none("experts in one tensor stay as they are stored")
      } else if let norm = branch.before, norm.hasWeight, !addsToNormed {
        .norm(norm)
      } else if addsToNormed {
        .none("its norm also feeds the states")
      } else {
        .none("no norm stands before it")
      }
    sites.append(
      SiteShape(
        site: site, width: linears.first?.inputs ?? 0, linears: linears, floats: floats,
        feeder: feeder, branch: index, place: .input))
  }

  private func valueFeeder(_ shape: AttentionShape) -> SiteShape.Feeder {
    if shape.sharesCacheOf != nil { return .none("another block computes the values") }
    if shape.valueNorm != nil { return .none("a norm follows the values") }
    for linear in shape.inputs {
      if let part = linear.part(.value) {
        return .rows(
          linear.id, part, headSize: shape.core.headSize,
          sharedHeads: shape.core.heads / shape.core.keyHeads)
      }
    }
    return .none("the values have no rows of their own")
  }

  private func upFeeder(_ shape: FeedForwardShape) -> SiteShape.Feeder {
    guard shape.clamp == nil else { return .none("its unit clamps large values") }
    guard shape.down.stack == nil else {
      return .none("experts in one tensor stay as they are stored")
    }
    guard shape.isGated || shape.activation == .relu else {
      return .none("\(shape.activation.rawValue) is not linear in its argument")
    }
    for linear in shape.inputs {
      if let part = linear.part(.up) {
        return .rows(linear.id, part, headSize: 1, sharedHeads: 1)
      }
    }
    return .none("there is no linear before it")
  }
}
