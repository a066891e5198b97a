import NibbleModel
import NibbleTensor

/// A decoder's shape as lines of text: its arithmetic, its module names, the activations that
/// linears read, and the layers that take the inverse of their factors. Consecutive equal blocks
/// are listed once.
struct ShapeText {
  let shape: DecoderShape

  var lines: [String] {
    [embedding] + blocks + [ends]
  }

  private var embedding: String {
    let ends = shape.embedding
    var text = "embedding \(ends.path) [\(shape.vocabulary), \(ends.width)]"
    if ends.scale != 1 { text += ", times \(ends.scale)" }
    if let positions = ends.positions {
      text += ", positions \(positions.path) from row \(positions.offset)"
    }
    if let projection = ends.projection { text += ", projection \(projection)" }
    if let norm = ends.norm { text += ", norm \(Self.text(norm))" }
    if let inputs = ends.blockInputs {
      text += ", inputs of blocks \(inputs.path) [\(inputs.rows), \(inputs.blocks * inputs.width)]"
    }
    return text
  }

  private var ends: String {
    let norm = shape.finalNorm.map { "final norm \(Self.text($0)), " } ?? ""
    let head = shape.head
    var text = norm + (head.isTied ? "head tied to the embedding" : "head \(head.path)")
    if head.scale != 1 { text += ", logits times \(head.scale)" }
    if let cap = head.softCap { text += ", logits capped at \(cap)" }
    return text
  }

  private var blocks: [String] {
    var lines: [String] = []
    var start = 0
    while start < shape.blocks.count {
      let first = Self.withoutPath(shape.blocks[start])
      let end =
        shape.blocks[start...].firstIndex { Self.withoutPath($0) != first } ?? shape.blocks.count
      let numbers = end - start == 1 ? "block \(start)" : "blocks \(start)...\(end - 1)"
      lines.append(
        "\(numbers) (\(shape.blockPrefix)N), branches \(first.residual == .parallel ? "in parallel" : "in order")"
      )
      for branch in first.branches { lines += Self.lines(branch) }
      if let factor = first.factor { lines.append("  states times \(factor)") }
      // The sites of expert 0 represent those of all experts.
      lines += first.sites.filter { $0.expert ?? 0 == 0 }.map { "  " + Self.text($0) }
      start = end
    }
    return lines
  }

  private static func withoutPath(_ block: BlockShape) -> BlockShape {
    var block = block
    block.path = ""
    // Each block has columns of its own.
    for index in block.branches.indices {
      guard case .blockInput(var input) = block.branches[index].body else { continue }
      input.columns = 0..<input.columns.count
      block.branches[index].body = .blockInput(input)
    }
    return block
  }

  private static func lines(_ branch: BlockShape.Branch) -> [String] {
    var lines: [String]
    switch branch.body {
    case .attention(let attention):
      lines = ["  attention: \(text(attention))"]
      lines += (attention.inputs + [attention.output]).map { "    " + text($0) }
    case .mixer(let mixer):
      lines = ["  gated delta net: \(text(mixer))"]
      lines += [mixer.mixed, mixer.gate, mixer.strength, mixer.step, mixer.output].map {
        "    " + text($0)
      }
    case .blockInput(let input):
      lines = ["  input of its own: \(input.activation.rawValue), \(input.columns.count) channels"]
      lines += [input.gate, input.output].map { "    " + text($0) }
    case .feedForward(let unit):
      lines = ["  feed-forward: \(text(unit))"]
      lines += (unit.inputs + [unit.down]).map { "    " + text($0) }
    case .experts(let experts):
      lines = [
        "  experts: \(experts.units.count), of which a token passes \(experts.chosen)"
          + (experts.shared == nil ? "" : ", and one that all pass")
      ]
      lines.append("    " + text(experts.router))
      if let unit = experts.units.first {
        lines.append("    each \(text(unit)):")
        lines += (unit.inputs + [unit.down]).map { "      " + text($0) }
      }
      if let shared = experts.shared {
        lines += (shared.unit.inputs + [shared.unit.down] + [shared.gate].compactMap(\.self)).map {
          "    " + text($0)
        }
      }
    }
    for (name, norm) in [
      ("before", branch.before), ("of the result", branch.inner), ("after", branch.after),
      ("on the sum", branch.closing),
    ] {
      if let norm { lines.append("    norm \(name): \(text(norm))") }
    }
    if branch.joinsNext { lines.append("    joins the next branch, which reads the same states") }
    if branch.scale != 1 { lines.append("    result times \(branch.scale)") }
    return lines
  }

  private static func text(_ shape: AttentionShape) -> String {
    let core = shape.core
    var text = "\(core.heads) heads of \(core.headSize), \(core.keyHeads) for keys and values"
    if let window = core.window { text += ", window \(window)" }
    if let cap = core.softCap { text += ", scores capped at \(cap)" }
    if core.slopes != nil { text += ", ALiBi" }
    if let rotary = shape.rotary {
      text += ", rotary over \(rotary.dimension) channels, theta \(rotary.theta)"
    }
    if let norm = shape.queryNorm { text += ", norm of queries \(Self.text(norm.norm))" }
    if let norm = shape.keyNorm { text += ", of keys \(Self.text(norm.norm))" }
    if let norm = shape.valueNorm { text += ", of values \(Self.text(norm.norm))" }
    if shape.valuesAreKeys { text += ", values are keys" }
    if let block = shape.sharesCacheOf { text += ", keys and values of block \(block)" }
    if let sinks = shape.sinks { text += ", sinks \(sinks)" }
    if shape.inputs.contains(where: { $0.part(.outputGate) != nil }) { text += ", output gate" }
    return text
  }

  private static func text(_ shape: MixerShape) -> String {
    let net = shape.core
    return "\(net.keyHeads) heads of \(net.keySize) for queries and keys, \(net.valueHeads) of "
      + "\(net.valueSize) for values, convolution over \(net.kernel) tokens, norm "
      + text(shape.norm)
  }

  private static func text(_ unit: FeedForwardShape) -> String {
    let function = unit.clamp.map { "clamped at \($0.limit)" } ?? unit.activation.rawValue
    return "\(unit.isGated ? "gated " : "")\(function), \(unit.width) channels"
  }

  private static func text(_ linear: LinearShape) -> String {
    let parts = linear.parts.map(\.role.rawValue).joined(separator: ", ")
    let stored = linear.stack.map { ", in \($0.tensor)" } ?? ""
    return "\(linear.id) [\(linear.outputs), \(linear.inputs)] \(parts)\(stored)"
      + (linear.bias == .required ? ", bias" : "") + (linear.isTransposed ? ", inputs first" : "")
      + (linear.staysFloat ? ", stays float" : "")
  }

  private static func text(_ norm: NormShape) -> String {
    "\(norm.path) (\(norm.kind == .rms ? "RMS" : "layer norm")\(norm.offset == 0 ? "" : ", 1 + w"))"
  }

  private static func text(_ site: SiteShape) -> String {
    let feeder =
      switch site.feeder {
      case .norm(let norm): "factors go into \(norm.path)"
      case .rows(let linear, let part, _, _):
        "factors go into rows of \(linear), \(part.role.rawValue)"
      case .none(let reason): "takes no factors: \(reason)"
      }
    let ids = site.linears.map(\.id.rawValue)
    let shown = ids.count > 4 ? "\(ids[0]) and \(ids.count - 1) more" : ids.joined(separator: ", ")
    return "site \(site.site.rawValue), \(site.width) channels, enters \(shown); \(feeder)"
  }
}
