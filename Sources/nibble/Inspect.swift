import ArgumentParser
import NibbleFormats
import NibbleModel
import NibbleQuantize
import NibbleTensor

struct Inspect: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Say what a model is: family, sizes, tensors, bytes.")

  @Argument(help: "A Hugging Face folder or a .gguf file.")
  var model: String
  @Flag(help: "List every tensor.")
  var tensors = false
  @Flag(help: "Print what the decoder computes, part by part.")
  var shape = false
  @Flag(help: "Print JSON.")
  var json = false

  /// One line on the experts; empty for a model without any.
  private static func experts(_ shape: DecoderShape) -> String {
    let blocks = shape.blocks.compactMap(\.experts)
    guard let first = blocks.first else { return "" }
    return "experts      \(first.units.count) in \(blocks.count) blocks, \(first.chosen) a token"
      + "\(first.shared == nil ? "" : " and one for all")\n"
  }

  /// The heads of attention, and the blocks without it or without a KV cache of their own.
  private static func attention(_ shape: DecoderShape) -> String {
    let attentions = shape.attentions
    guard let first = attentions.first?.core else { return "none" }
    var sizes: [Int] = []
    for size in attentions.map(\.core.headSize) where !sizes.contains(size) { sizes.append(size) }
    var text =
      "\(first.heads) heads of \(sizes.map(String.init).joined(separator: " or ")), "
      + "\(first.keyHeads) for keys and values"
    if attentions.count < shape.blocks.count {
      text += ", in \(attentions.count) blocks; a gated delta net in the others"
    }
    let sharing = attentions.count { $0.sharesCacheOf != nil }
    if sharing > 0 { text += "; \(sharing) blocks read the keys and values of others" }
    return text
  }

  func run() throws {
    let checkpoint = try Checkpoint(path: model)
    let parameters = checkpoint.tensors.reduce(0) { $0 + $1.elementCount }
    let method = try checkpoint.quantizationMethod()
    var shape: DecoderShape?
    var familyNote: String?
    do { shape = try checkpoint.decoderShape() } catch {
      familyNote = "\(error)"
      switch error {
      case .unknownFamily: break
      // The shape can be described even if the model cannot be run.
      case .unknownKeys, .unknownTensors:
        shape = try checkpoint.describedShape()
      default: throw error
      }
    }
    if json {
      var object: JSON = [
        "path": .string(checkpoint.path), "family": shape.map { .string($0.family) } ?? .null,
        "values": JSON(parameters), "bytes": JSON(checkpoint.bytesOnDisk),
        "quantization": method.map { .string($0) } ?? .null, "config": checkpoint.config,
        "not_run": shape == nil ? .null : familyNote.map { .string($0) } ?? .null,
      ]
      if tensors {
        object.set(
          "tensors",
          .array(
            checkpoint.tensors.map {
              [
                "name": .string($0.name), "dtype": .string($0.dtype.rawValue),
                "shape": .array($0.shape.map { JSON($0) }),
              ]
            }))
      }
      return Terminal.print(object)
    }
    if let shape {
      Terminal.print(
        """
        family       \(shape.family)
        blocks       \(shape.blocks.count), hidden \(shape.hidden), intermediate \(shape.intermediate)
        \(Self.experts(shape))attention    \(Self.attention(shape))
        vocabulary   \(shape.vocabulary)\(shape.head.isTied ? ", head tied to the embedding" : "")
        context      \(shape.context) tokens
        """)
      if let familyNote { Terminal.print("not run      \(familyNote)") }
    } else {
      Terminal.print("family       unknown: \(familyNote ?? "")")
    }
    if let method { Terminal.print("quantization \(method)") }
    Terminal.print(
      "weights      \(checkpoint.tensors.count) tensors, \(parameters) values, \(Terminal.bytes(checkpoint.bytesOnDisk))"
    )
    var sizes: [String: Int] = [:]
    for tensor in checkpoint.tensors {
      sizes[tensor.dtype.rawValue, default: 0] += tensor.byteCount
    }
    for (dtype, bytes) in sizes.sorted(by: { $0.key < $1.key }) {
      Terminal.print("  \(dtype): \(Terminal.bytes(bytes))")
    }
    if self.shape, let shape {
      for line in ShapeText(shape: shape).lines { Terminal.print(line) }
    }
    if tensors {
      for tensor in checkpoint.tensors {
        Terminal.print("  \(tensor.name) \(tensor.dtype.rawValue) \(tensor.shape)")
      }
    }
  }
}
