import Foundation
import NibbleFormats
import NibbleModel
import NibbleTensor

extension AscendCompression {
  /// Compresses and writes the part of one rank.
  ///
  /// Sizes are known only after compression, so the bytes are kept in a scratch file until the
  /// header can be written.
  func write(
    _ rank: Int, to folder: String, on compute: Compute, _ counts: inout Counts,
    _ progress: (Int) -> Void
  ) throws {
    var description = AscendDescription(.w8a8sc)
    var tensors: [SafetensorsLayout.Tensor] = []
    let spill = try TensorSpill(path: folder + "/compressed.bin")
    var done = 0
    func add(_ name: String, _ dtype: DType, _ shape: [Int], _ bytes: Bytes) throws {
      tensors.append(SafetensorsLayout.Tensor(name: name, dtype: dtype, shape: shape))
      try spill.append(name, bytes)
    }
    for tensor in checkpoint.tensors {
      let (path, suffix) = Self.parts(of: tensor.name)
      guard let (role, module) = layers[path] else {
        let name = self.name(of: tensor.name)
        description[name] = source.description[tensor.name] ?? .float
        if name != tensor.name {
          try add(name, tensor.dtype, tensor.shape, checkpoint.bytes(of: tensor.name))
        } else {
          tensors.append(
            SafetensorsLayout.Tensor(name: name, dtype: tensor.dtype, shape: tensor.shape))
        }
        continue
      }
      if AscendType.c8.suffixes.contains(suffix) {
        description[tensor.name] = .c8
        try add(
          tensor.name, tensor.dtype, [split.shape(of: role).outputs],
          vector(suffix, of: [(role, path)], rank: rank))
        continue
      }
      // The first layer of a module handles all of its layers.
      guard role == module.roles[0] else { continue }
      let parts = module.layers(of: config).map { (role: $0.roles[0], path: $0.path) }
      let name = "\(module.path).\(suffix)"
      let (n, k) = split.shape(of: module)
      description[name] = suffix == "bias" ? .float : .w8a8s
      switch suffix {
      case "weight":
        let codes = try codes(of: parts, rank: rank, on: compute)
        guard self.compressed.contains(module) else {
          try add(name, .i8, [n, k], codes)
          continue
        }
        let grid = FractalGrid(outputs: n, inputs: k)
        let compressed = CompressedCodes(compressing: codes, grid: grid, on: compute)
        guard try compressed.decompressed(on: compute).array == codes.array else {
          throw ModelError.unsupported("\(name): decompresses to other codes")
        }
        for suffix in ["weight", "index", "info"] {
          description["\(module.path).\(suffix)"] = .w8a8sc
        }
        try add(name, .i8, [compressed.data.count], Bytes(compressed.data))
        try add("\(module.path).index", .i8, [compressed.index.count], Bytes(compressed.index))
        let info = AscendPart.info(outputs: n, inputs: k)
        try add(
          "\(module.path).info", .i64, [info.count],
          Bytes(info.flatMap { Ascend.littleEndian(UInt64($0), 8) }))
        counts.layers += 1
        counts.bytes += codes.count
        counts.compressedBytes += compressed.data.count + compressed.index.count
        for part in parts { try checkpoint.bytes(of: part.path + ".weight").release() }
        done += 1
        progress(done)
      case "input_scale", "input_offset":
        let values = try parts.map { try checkpoint.bytes(of: "\($0.path).\(suffix)").array }
        guard values.allSatisfy({ $0 == values[0] }) else {
          throw ModelError.unsupported(
            "\(name): the layers that it is made of have different ones. Leave --fused out.")
        }
        try add(name, tensor.dtype, [1], Bytes(values[0]))
      default: try add(name, tensor.dtype, [n], vector(suffix, of: parts, rank: rank))
      }
    }
    try write(tensors, from: spill.finish(), to: folder)
    try spill.remove()
    let stem = folder + "/" + Ascend.descriptionStem
    for (name, version) in [(stem + ".json", true), (stem + "_w8a8sc.json", false)] {
      try DurableFile.write(description.text(version: version), to: name)
    }
  }

  /// The codes of some layers on one rank, concatenated along the outputs.
  private func codes(
    of layers: [(role: Role, path: String)], rank: Int, on compute: Compute
  ) throws -> Bytes {
    let parts = try layers.map { role, path in
      let shape = config.shape(of: role)
      return split.codes(
        try source.codes(path, outputs: shape.outputs, inputs: shape.inputs, on: compute),
        of: role, rank: rank)
    }
    return parts.count == 1 ? parts[0] : Bytes(parts.flatMap(\.array))
  }

  /// Vectors of some layers on one rank, one value per output, concatenated.
  private func vector(
    _ suffix: String, of layers: [(role: Role, path: String)], rank: Int
  ) throws -> Bytes {
    let parts = try layers.map { role, path in
      let name = "\(path).\(suffix)"
      guard let tensor = checkpoint.tensor(name) else {
        throw ModelError.missingTensor(name, path: checkpoint.path)
      }
      return split.vector(
        try checkpoint.bytes(of: name), width: tensor.dtype.bits / 8, of: role, rank: rank,
        adds: suffix == "quant_bias" || suffix == "bias")
    }
    return parts.count == 1 ? parts[0] : Bytes(parts.flatMap(\.array))
  }

  /// A tensor's name in a part. The runtime that fuses modules calls the norms in the blocks of a
  /// smoothed model `ori` and `anti`.
  private func name(of name: String) -> String {
    guard renamesNorms, name.hasPrefix(config.blockPrefix) else { return name }
    let (path, suffix) = Self.parts(of: name)
    if path.hasSuffix(".module") { return path.dropLast("module".count) + "anti." + suffix }
    guard checkpoint.tensor(path + ".module.weight") != nil else { return name }
    return "\(path).ori.\(suffix)"
  }

  private func write(
    _ tensors: [SafetensorsLayout.Tensor], from spilled: [String: Bytes], to folder: String
  ) throws {
    let writer = try SafetensorsWriter(
      layout: SafetensorsLayout(SafetensorsLayout.referenceOrder(tensors)),
      path: folder + "/quant_model_weight_\(AscendType.w8a8sc.fileName).safetensors")
    for entry in writer.layout.entries {
      let bytes = try spilled[entry.name] ?? checkpoint.bytes(of: entry.name)
      try writer.append(bytes, of: entry.name)
      bytes.release()
    }
    try writer.finish()
  }

  /// Splits a tensor's name, for example into `model.layers.0.mlp.up_proj` and `weight`.
  static func parts(of name: String) -> (path: String, suffix: String) {
    guard let dot = name.lastIndex(of: ".") else { return (name, "") }
    return (String(name[..<dot]), String(name[name.index(after: dot)...]))
  }
}

/// Tensors that wait on disk.
private final class TensorSpill {
  private let path: String
  private let file: FileHandle
  private var ranges: [(name: String, range: Range<Int>)] = []
  private var end = 0

  init(path: String) throws {
    self.path = path
    guard FileManager.default.createFile(atPath: path, contents: nil),
      let file = FileHandle(forWritingAtPath: path)
    else { throw FileError("create", path) }
    self.file = file
  }

  func append(_ name: String, _ bytes: Bytes) throws {
    do { try file.write(contentsOf: Data(bytes.array)) } catch { throw FileError("write", path) }
    ranges.append((name, end..<end + bytes.count))
    end += bytes.count
  }

  func finish() throws -> [String: Bytes] {
    try file.close()
    guard end > 0 else { return [:] }
    let mapped = try MappedFile(path: path)
    return Dictionary(uniqueKeysWithValues: ranges.map { ($0.name, Bytes(mapped, $0.range)) })
  }

  func remove() throws { try FileManager.default.removeItem(atPath: path) }
}
