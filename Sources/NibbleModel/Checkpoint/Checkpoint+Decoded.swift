import NibbleFormats
import NibbleTensor
import Synchronization

extension Checkpoint {
  /// A quantized checkpoint as a float one: the values that its codes stand for, rounded to the format
  /// that its config names, and a config that says nothing of codes.
  ///
  /// - Parameters:
  ///   - reader: of the checkpoint's format.
  ///   - stored: the tensors that the format stores.
  package func decoded(
    by reader: some WeightSource, _ shape: DecoderShape, storing stored: StoredNames
  ) -> Checkpoint {
    let ends = stored.linear.subtracting(StoredNames().linear)
    var members = config.object ?? JSONObject()
    for key in ["quantization_config", "quantization"] { members[key] = nil }
    let config = JSON.object(members)
    let dtype = DecodedWeights.dtype(of: config)
    var modules: [UTF8Key: DecodedWeights.Module] = [:]
    var decoded: [Tensor] = []
    for module in shape.matrices
    where ends.contains(where: { tensor("\(module.path).\($0)") != nil }) {
      let name = "\(module.path).weight"
      modules[UTF8Key(name)] = module
      decoded.append(Tensor(name: name, dtype: dtype, shape: [module.outputs, module.inputs]))
    }
    let kept = tensors.filter { tensor in
      guard modules[UTF8Key(tensor.name)] == nil else { return false }
      let end = tensor.name.split(separator: ".").last.map(String.init) ?? ""
      return !ends.contains(end) && !stored.attention.contains(end)
    }
    return Checkpoint(
      self, config: config, tensors: kept + decoded,
      container: .decoded(DecodedWeights(self, reader, modules)))
  }
}

/// The weights of a quantized checkpoint as floats.
final class DecodedWeights: Sendable {
  /// A matrix by its module's path.
  struct Module: Sendable {
    var path: String
    var outputs: Int
    var inputs: Int
  }

  let checkpoint: Checkpoint
  private let reader: any WeightSource
  private let modules: [UTF8Key: Module]
  /// Rows of a matrix are asked for one after the other.
  private let last = Mutex<(name: String, weight: Weight)?>(nil)

  init(_ checkpoint: Checkpoint, _ reader: any WeightSource, _ modules: [UTF8Key: Module]) {
    (self.checkpoint, self.reader, self.modules) = (checkpoint, reader, modules)
  }

  /// The float format that a config names; float16 if it names none.
  static func dtype(of config: JSON) -> DType {
    switch (config["torch_dtype"] ?? config["dtype"])?.string {
    case "float32": .f32
    case "bfloat16": .bf16
    default: .f16
    }
  }

  func bytes(of tensor: Checkpoint.Tensor, rows: Range<Int>) throws(ModelError) -> Bytes {
    guard let module = modules[UTF8Key(tensor.name)], let format = tensor.dtype.floatFormat else {
      return try checkpoint.bytes(of: tensor, rows: rows)
    }
    let held = last.withLock { $0.flatMap { $0.name == tensor.name ? $0.weight : nil } }
    let weight: Weight
    if let held {
      weight = held
    } else {
      weight = try reader.weight(module.path, outputs: module.outputs, inputs: module.inputs)
      last.withLock { $0 = (tensor.name, weight) }
    }
    return Bytes(format.encode(weight.values(of: rows).span))
  }
}

extension DecoderShape {
  /// Every matrix that a format may store as codes.
  fileprivate var matrices: [DecodedWeights.Module] {
    var all = blocks.flatMap { block in
      block.linears.map { linear in
        DecodedWeights.Module(
          path: block.path(of: linear.id), outputs: linear.outputs, inputs: linear.inputs)
      }
    }
    all.append(
      DecodedWeights.Module(
        path: embedding.path, outputs: vocabulary, inputs: embedding.width))
    if !head.isTied {
      all.append(
        DecodedWeights.Module(path: head.path, outputs: vocabulary, inputs: embedding.width))
    }
    return all
  }
}
