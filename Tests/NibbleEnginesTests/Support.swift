import Foundation
import NibbleFormats
import NibbleModel
import NibbleTensor
import Testing

@testable import NibbleQuantize

func fixturePath(_ name: String, of format: String = "compressed_tensors") -> String {
  Bundle.module.resourceURL!.appendingPathComponent("Fixtures/\(format)/\(name)").path
}

/// A folder that is gone after `body`.
func inTemporaryFolder<Result>(_ body: (URL) throws -> Result) throws -> Result {
  let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
  try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(at: folder) }
  return try body(folder)
}

/// Steele, Lea and Flood's SplitMix64: a test that fails fails again.
struct SplitMix: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  /// In -1..<1.
  mutating func uniform() -> Float { Float(Int64(next() >> 40)) * 0x1p-23 - 1 }
}

func uniform(_ count: Int, seed: UInt64) -> [Float] {
  var random = SplitMix(state: seed)
  return (0..<count).map { _ in random.uniform() }
}

/// A new one each time: a `Compute` has one caller at a time, and tests run side by side.
var oneThread: Compute { Compute(threads: 1, precision: .f32) }

/// A checkpoint of a few tensors that a test assembles.
struct SmallCheckpoint {
  var tensors: [SafetensorsLayout.Tensor] = []
  var data: [String: Bytes] = [:]
  var config: JSON = [:]

  mutating func set(_ name: String, _ dtype: DType, _ shape: [Int], _ bytes: Bytes) {
    tensors.removeAll { $0.name == name }
    tensors.append(SafetensorsLayout.Tensor(name: name, dtype: dtype, shape: shape))
    data[name] = bytes
  }

  mutating func remove(_ name: String) { tensors.removeAll { $0.name == name } }

  func write(to folder: URL) throws {
    try Data(config.text().utf8).write(to: folder.appendingPathComponent("config.json"))
    let writer = try SafetensorsWriter(
      layout: try SafetensorsLayout(tensors),
      path: folder.appendingPathComponent("model.safetensors").path)
    for tensor in tensors {
      try writer.append(try #require(data[tensor.name]), of: tensor.name)
    }
    try writer.finish()
  }
}

/// A `quantization_config` of one group, as compressed-tensors writes it.
func quantizationConfig(
  weights: JSON, activations: JSON = .null, format: String = "int-quantized"
) -> JSON {
  [
    "model_type": "llama",
    "quantization_config": [
      "quant_method": "compressed-tensors", "format": .string(format),
      "config_groups": [
        "group_0": [
          "targets": ["Linear"], "weights": weights, "input_activations": activations,
          "output_activations": .null, "format": .string(format),
        ]
      ],
      "ignore": ["lm_head"],
    ],
  ]
}

/// The fixture of one scheme as a checkpoint whose module is at `path`.
func fixtureCheckpoint(_ scheme: String, at path: String) throws -> SmallCheckpoint {
  let file = try SafetensorsFile(path: fixturePath(scheme + ".safetensors"))
  let cases = try Checkpoint.json(fixturePath("cases.json"))
  var checkpoint = SmallCheckpoint()
  for entry in file.entries where !entry.name.hasPrefix("__") {
    checkpoint.set(
      "\(path).\(entry.name)", entry.dtype, entry.shape, try #require(file.bytes(of: entry.name)))
  }
  checkpoint.config = quantizationConfig(
    weights: try #require(cases[scheme]?["args"]),
    format: try #require(cases[scheme]?["format"]?.string))
  return checkpoint
}

extension Weight {
  /// Its codes and how its inputs are rounded; nil for a float weight.
  var codes: (QuantizedMatrix, InputRounding?)? {
    if case .quantized(let matrix, let inputs) = self { (matrix, inputs) } else { nil }
  }
}

/// A plan of a model of no known family with these matrices.
func plan(
  _ shapes: [String: [Int]], _ recipe: Recipe, _ exporter: any Exporter, config: JSON = [:]
) throws -> Plan {
  var checkpoint = SmallCheckpoint()
  for (name, shape) in shapes.sorted(by: { $0.key < $1.key }) {
    let count = shape.reduce(1, *)
    checkpoint.set(
      name + ".weight", .f16, shape,
      Bytes(FloatFormat.f16.encode(uniform(count, seed: UInt64(count)).span)))
  }
  checkpoint.config = config
  checkpoint.config.set("model_type", "of no family")
  return try inTemporaryFolder { folder in
    try checkpoint.write(to: folder)
    return try Plan(
      Checkpoint(path: folder.path), recipe: recipe, exporter: exporter,
      windows: WindowSizes(heldOut: [8]))
  }
}

/// A layer as a plan holds it.
func layer(_ scheme: LinearScheme, _ outputs: Int, _ inputs: Int, at path: String) -> Plan.Layer {
  Plan.Layer(
    path: path, role: nil, outputs: outputs, inputs: inputs, scheme: scheme,
    sourceBytes: outputs * inputs * 2, modelFormat: .f16)
}

/// What an exporter writes for a matrix, as a checkpoint of that one layer.
func checkpoint(
  _ matrix: QuantizedMatrix, inputs: InputRounding? = nil, of layer: Plan.Layer,
  by exporter: any Exporter
) throws -> SmallCheckpoint {
  let encoded = exporter.encode(matrix, inputs: inputs, of: layer)
  var checkpoint = SmallCheckpoint()
  for tensor in exporter.tensors(of: layer) {
    let bytes = try #require(encoded[tensor.name])
    #expect(bytes.count == tensor.shape.reduce(1, *) * tensor.dtype.bits / 8, "\(tensor)")
    checkpoint.set(tensor.name, tensor.dtype, tensor.shape, bytes)
  }
  #expect(checkpoint.tensors.count == encoded.count)
  return checkpoint
}

extension SmallCheckpoint {
  /// Reads one layer back.
  func weight<Source: WeightSource>(
    _ path: String, _ outputs: Int, _ inputs: Int, by reader: (Checkpoint) throws -> Source
  ) throws -> Weight {
    try inTemporaryFolder { folder in
      try write(to: folder)
      return try reader(Checkpoint(path: folder.path)).weight(
        path, outputs: outputs, inputs: inputs)
    }
  }

  /// Edits members of the config at random, and reads: a weight or an error that can be shown, never
  /// a trap. Returns how many were read.
  func readingEditedConfigs<Source: WeightSource>(
    _ count: Int, values: [String], _ path: String, _ outputs: Int, _ inputs: Int,
    by reader: (Checkpoint) throws(ModelError) -> Source
  ) throws -> Int {
    let text = Array(config.text().utf8)
    var random = SplitMix(state: 9)
    return try inTemporaryFolder { folder in
      try write(to: folder)
      var read = 0
      for _ in 0..<count {
        var edited = text
        if random.next() % 4 == 0 {
          edited[Int(random.next() % UInt64(edited.count))] = UInt8(random.next() % 128)
        } else {
          let colons = edited.indices.filter { edited[$0] == UInt8(ascii: ":") }
          let start = colons[Int(random.next() % UInt64(colons.count))] + 1
          let end = edited[start...].firstIndex { $0 == 0x2C || $0 == 0x7D } ?? edited.count
          let value = values[Int(random.next() % UInt64(values.count))]
          edited.replaceSubrange(start..<end, with: Array(value.utf8))
        }
        try Data(edited).write(to: folder.appendingPathComponent("config.json"))
        do throws(ModelError) {
          let weight = try reader(Checkpoint(path: folder.path)).weight(
            path, outputs: outputs, inputs: inputs)
          #expect(weight.values(of: outputs - 1..<outputs).count == inputs)
          read += 1
        } catch {
          #expect(!"\(error)".isEmpty)
        }
      }
      return read
    }
  }
}
