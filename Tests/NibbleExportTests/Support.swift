import Foundation
import NibbleFormats
import NibbleModel
import NibbleTensor
import Testing

func fixturePath(_ name: String) -> String {
  Bundle.module.resourceURL!.appendingPathComponent("Fixtures/compressed_tensors/" + name).path
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

let oneThread = Compute(threads: 1, precision: .f32)

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
