import NibbleFormats
import NibbleTensor

/// A GGUF file presented as a Hugging Face checkpoint: names, row order and config are translated.
struct GGUFModel: Sendable {
  let file: GGUFFile
  let config: JSON
  let tensors: [Checkpoint.Tensor]
  let sources: [UTF8Key: Source]

  struct Source: Sendable {
    var tensor: GGUFTensor
    /// Head size, if the file interleaves rows of query and key for rotary embedding.
    var interleavedHead: Int?
    /// Constant that the converter added to the values.
    var offset: Float = 0
  }

  init(path: String) throws(ModelError) {
    do { file = try GGUFFile(path: path) } catch { throw .format(error) }
    let metadata = try GGUFMetadata(file)
    let architecture = metadata.architecture
    config = try metadata.config()
    let headSize = config["head_dim"]?.int ?? 0
    var tensors: [Checkpoint.Tensor] = []
    var sources: [UTF8Key: Source] = [:]
    for tensor in file.tensors where tensor.name != GGUFMetadata.frequencyFactors {
      guard let name = architecture.huggingFaceName(tensor.name) else {
        throw .unsupported(
          "\(path): the tensor \(tensor.name) has no place in a model of architecture "
            + "\(architecture.name). The file's family is not supported, or the file is damaged.")
      }
      guard tensor.type.isDecodable else {
        throw .unsupported(
          "\(path): \(tensor.name) is \(tensor.type.name), which Nibble does not read. Start from "
            + "a file in F16, BF16, Q8_0 or one of Q4_0 to Q6_K.")
      }
      let turns =
        architecture.interleavesHeads && (name.contains("q_proj") || name.contains("k_proj"))
      if turns, !(tensor.shape.first ?? 0).isMultiple(of: headSize) {
        throw .tensorShape(tensor.name, found: tensor.shape, expected: [headSize])
      }
      tensors.append(
        Checkpoint.Tensor(name: name, dtype: Self.dtype(tensor.type), shape: tensor.shape))
      sources[UTF8Key(name)] = Source(
        tensor: tensor, interleavedHead: turns ? headSize : nil,
        offset: name.hasSuffix("norm.weight") ? architecture.normOffset : 0)
    }
    self.tensors = tensors
    self.sources = sources
  }

  var bytesOnDisk: Int { file.tensors.reduce(0) { $0 + $1.range.count } }

  /// Quantized types are widened to float16, the others stay as they are.
  private static func dtype(_ type: GGMLType) -> DType {
    switch type {
    case .f32: .f32
    case .bf16: .bf16
    default: .f16
    }
  }

  func bytes(of name: String, rows: Range<Int>) throws(ModelError) -> Bytes {
    guard let source = sources[UTF8Key(name)] else {
      throw .missingTensor(name, path: file.path)
    }
    let tensor = source.tensor
    let format = Self.dtype(tensor.type).floatFormat ?? .f16
    let isPlain = source.interleavedHead == nil && source.offset == 0
    let rowElements = tensor.elementCount / max(1, tensor.shape.first ?? 1)
    if isPlain, tensor.type == .f32 || tensor.type == .f16 || tensor.type == .bf16 {
      let rowBytes = rowElements * format.bytesPerValue
      return file.bytes(of: tensor)[rows.lowerBound * rowBytes..<rows.upperBound * rowBytes]
    }
    if tensor.shape.count == 1 {
      var all = [Float](repeating: 0, count: tensor.elementCount)
      try decode(row: 0, of: tensor, into: &all)
      let ordered = rows.map { row in
        all[source.interleavedHead.map { ggufRow(ofHuggingFaceRow: row, headSize: $0) } ?? row]
          - source.offset
      }
      return Bytes(format.encode(ordered.span))
    }
    var encoded: [UInt8] = []
    encoded.reserveCapacity(rows.count * rowElements * format.bytesPerValue)
    var values = [Float](repeating: 0, count: rowElements)
    for row in rows {
      let at = source.interleavedHead.map { ggufRow(ofHuggingFaceRow: row, headSize: $0) } ?? row
      try decode(row: at, of: tensor, into: &values)
      let bytes = format.encode(values.span)
      encoded += bytes
    }
    return Bytes(encoded)
  }

  func storedBytes(of name: String) throws(ModelError) -> Bytes {
    guard let source = sources[UTF8Key(name)] else {
      throw .missingTensor(name, path: file.path)
    }
    return file.bytes(of: source.tensor)
  }

  /// Widens a row of a matrix, or a vector as its row 0.
  private func decode(
    row: Int, of tensor: GGUFTensor, into values: inout [Float]
  ) throws(ModelError) {
    do {
      var span = values.mutableSpan
      try file.decode(rows: row..<row + 1, of: tensor, into: &span)
    } catch { throw .format(error) }
  }
}
