import Foundation
import NibbleFormats
import NibbleModel
import NibbleTensor

extension AscendCompression {
  /// Compresses and writes what one rank holds.
  ///
  /// Sizes are known when all is compressed, so the bytes wait in a file of their own until the header
  /// can be written.
  func write(
    _ rank: Int, to folder: String, on compute: Compute, _ report: inout Report,
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
      guard let role = layers[path] else {
        description[tensor.name] = .float
        tensors.append(
          SafetensorsLayout.Tensor(name: tensor.name, dtype: tensor.dtype, shape: tensor.shape))
        continue
      }
      let isCompressed = roles.contains(role)
      let (n, k) = split.shape(of: role)
      description[tensor.name] =
        suffix == "bias" ? .float : AscendType.c8.suffixes.contains(suffix) ? .c8 : .w8a8s
      let whole = try checkpoint.bytes(of: tensor.name)
      switch suffix {
      case "weight":
        let shape = config.shape(of: role)
        let all = try source.codes(
          path, outputs: shape.outputs, inputs: shape.inputs, on: compute)
        let codes = split.codes(all, of: role, rank: rank)
        guard isCompressed else {
          try add(tensor.name, .i8, [n, k], codes)
          continue
        }
        let grid = FractalGrid(outputs: n, inputs: k)
        let compressed = CompressedCodes(compressing: codes, grid: grid, on: compute)
        guard try compressed.decompressed(on: compute).array == codes.array else {
          throw ModelError.unsupported("\(tensor.name): decompresses to other codes")
        }
        for name in ["weight", "index", "info"] { description["\(path).\(name)"] = .w8a8sc }
        try add(tensor.name, .i8, [compressed.data.count], Bytes(compressed.data))
        try add("\(path).index", .i8, [compressed.index.count], Bytes(compressed.index))
        let info = AscendPart.info(outputs: n, inputs: k)
        try add(
          "\(path).info", .i64, [info.count],
          Bytes(info.flatMap { Ascend.littleEndian(UInt64($0), 8) }))
        report.layers += 1
        report.bytes += codes.count
        report.compressedBytes += compressed.data.count + compressed.index.count
        whole.release()
        done += 1
        progress(done)
      case "input_scale", "input_offset": try add(tensor.name, tensor.dtype, [1], whole)
      default:
        try add(
          tensor.name, tensor.dtype, [n],
          split.vector(
            whole, width: tensor.dtype.bits / 8, of: role, rank: rank,
            adds: suffix == "quant_bias" || suffix == "bias"))
      }
    }
    try write(tensors, from: spill.finish(), to: folder)
    try spill.remove()
    let stem = folder + "/" + Ascend.descriptionStem
    for (name, version) in [(stem + ".json", true), (stem + "_w8a8sc.json", false)] {
      try Data(description.text(version: version).utf8).write(to: URL(fileURLWithPath: name))
    }
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

  /// `model.layers.0.mlp.up_proj` and `weight`.
  static func parts(of name: String) -> (path: String, suffix: String) {
    guard let dot = name.lastIndex(of: ".") else { return (name, "") }
    return (String(name[..<dot]), String(name[name.index(after: dot)...]))
  }
}

/// Tensors that wait on the disk.
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
