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
  @Flag(help: "Print JSON.")
  var json = false

  func run() throws {
    let checkpoint = try Checkpoint(path: model)
    let parameters = checkpoint.tensors.reduce(0) { $0 + $1.elementCount }
    let method = try checkpoint.quantizationMethod()
    var config: DecoderConfig?
    var familyNote: String?
    do { config = try checkpoint.decoderConfig() } catch {
      familyNote = "\(error)"
      switch error {
      case .unknownFamily: break
      // What it is can be said all the same; what it computes cannot.
      case .unknownKeys, .unknownTensors:
        config = try DecoderConfig(checkpoint.config, path: checkpoint.configPath)
      default: throw error
      }
    }
    if json {
      var object: JSON = [
        "path": .string(checkpoint.path), "family": config.map { .string($0.family.name) } ?? .null,
        "values": JSON(parameters), "bytes": JSON(checkpoint.bytesOnDisk),
        "quantization": method.map { .string($0) } ?? .null, "config": checkpoint.config,
        "not_run": config == nil ? .null : familyNote.map { .string($0) } ?? .null,
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
    if let config {
      let attention = config.attention
      Terminal.print(
        """
        family       \(config.family.name)
        blocks       \(config.blocks), hidden \(config.hidden), intermediate \(config.intermediate)
        attention    \(attention.heads) heads of \(attention.headSize), \(attention.keyHeads) for keys and values
        vocabulary   \(config.vocabulary)\(config.tiesHead ? ", head tied to the embedding" : "")
        context      \(config.context) tokens
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
    if tensors {
      for tensor in checkpoint.tensors {
        Terminal.print("  \(tensor.name) \(tensor.dtype.rawValue) \(tensor.shape)")
      }
    }
  }
}
