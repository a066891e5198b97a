import NibbleTensor

/// Names an activation that enters linear layers within its block.
public struct Site: RawRepresentable, Hashable, Sendable, Codable {
  public let rawValue: String

  public init(rawValue: String) { self.rawValue = rawValue }

  /// What query, key and value read.
  public static let attention = Site(rawValue: "attention")
  /// The heads' weighted values, which the output projection reads.
  public static let output = Site(rawValue: "output")
  /// What gate and up read.
  public static let feedForward = Site(rawValue: "feedForward")
  /// What down reads: `act(gate) · up`, or `act(up)`.
  public static let down = Site(rawValue: "down")
}

/// A site with what reads it and what feeds it.
public struct SiteShape: Hashable, Sendable {
  /// What takes the inverse of factors that multiply the columns of the site's linears.
  public enum Feeder: Hashable, Sendable {
    case norm(NormShape)
    /// Rows of a part of a linear. `heads` query heads share the rows of each key head.
    case rows(LinearID, LinearShape.Part, headSize: Int, sharedHeads: Int)
    /// Nothing can: why.
    case none(String)
  }

  public var site: Site
  /// Channels.
  public var width: Int
  public var linears: [LinearShape]
  public var feeder: Feeder
  /// Which branch it belongs to.
  public var branch: Int

  /// The linear whose result ends the branch; nil where the site's linears feed others.
  public var ending: LinearShape? {
    site == .output || site == .down ? linears.first : nil
  }
}

extension BlockShape {
  /// The sites of the block in the order of the forward pass.
  public var sites: [SiteShape] {
    var sites: [SiteShape] = []
    for (index, branch) in branches.enumerated() {
      switch branch.body {
      case .attention(let shape):
        add(.attention, shape.inputs, of: branch, index, to: &sites)
        sites.append(
          SiteShape(
            site: .output, width: shape.output.inputs, linears: [shape.output],
            feeder: valueFeeder(shape), branch: index))
      case .feedForward(let shape):
        add(.feedForward, shape.inputs, of: branch, index, to: &sites)
        sites.append(
          SiteShape(
            site: .down, width: shape.down.inputs, linears: [shape.down],
            feeder: upFeeder(shape), branch: index))
      }
    }
    return sites
  }

  public func site(_ site: Site) -> SiteShape? { sites.first { $0.site == site } }

  /// The site that a linear reads.
  public func site(of linear: LinearID) -> SiteShape? {
    sites.first { site in site.linears.contains { $0.id == linear } }
  }

  /// Adds what enters a branch, or widens the site of a branch that reads the same.
  private func add(
    _ site: Site, _ linears: [LinearShape], of branch: Branch, _ index: Int,
    to sites: inout [SiteShape]
  ) {
    if residual == .parallel, index > 0, branch.before == branches[0].before {
      sites[0].linears += linears
      return
    }
    let feeder: SiteShape.Feeder =
      if let norm = branch.before, norm.hasWeight, !addsToNormed {
        .norm(norm)
      } else if addsToNormed {
        .none("its norm also feeds the states")
      } else {
        .none("no norm stands before it")
      }
    sites.append(
      SiteShape(
        site: site, width: linears.first?.inputs ?? 0, linears: linears, feeder: feeder,
        branch: index))
  }

  private func valueFeeder(_ shape: AttentionShape) -> SiteShape.Feeder {
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
