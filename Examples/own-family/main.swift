import Foundation
import NibbleEngines
import NibbleFormats
import NibbleModel
import NibbleQuantize
import NibbleTensor

// Writes a small Twin with random weights, quantizes it with a calibrated recipe, and runs the
// result: own-family FOLDER
guard CommandLine.arguments.count == 2 else {
  FileHandle.standardError.write(Data("usage: own-family FOLDER\n".utf8))
  exit(64)
}
let folder = CommandLine.arguments[1]
let families = Family.all + [twin]
let compute = Compute(precision: .f32)

try writeRandomTwin(to: folder + "/twin")
let checkpoint = try Checkpoint(path: folder + "/twin", families: families)
var windows = QuantizeRun.Windows()
windows.calibration = (0..<8).map { seed in tokens(64, seed: UInt64(seed)) }
windows.heldOut = [tokens(96, seed: 100)]
let plan = try Plan(
  checkpoint, recipe: .preset("w8a8-smooth"), exporter: CompressedTensors(),
  windows: windows.sizes)
let run = QuantizeRun(
  checkpoint, plan, windows: windows, files: try CompanionFiles(of: checkpoint), on: compute)
let report = try run.run(to: folder + "/twin-w8a8") { progress in print("  \(progress.unit)") }
guard let verdict = report.verdict else { fatalError("nothing was measured") }
print("KL divergence \(verdict.kl), top-1 agreement \(verdict.top1)")

let written = try LoadedModel(path: folder + "/twin-w8a8", families: families)
var session = try Session(written.decoder, capacity: 64, on: compute)
var next = 1
var answer: [Int] = []
for _ in 0..<16 {
  let logits = try session.append([next])
  next = logits.indices.max { logits[$0] < logits[$1] } ?? 0
  answer.append(next)
}
print("what it writes: \(answer)")

/// Random token ids in 0..<320.
func tokens(_ count: Int, seed: UInt64) -> [Int] {
  var random = Random(state: seed)
  return (0..<count).map { _ in Int.random(in: 0..<320, using: &random) }
}

/// Writes config.json and model.safetensors of a model with two blocks and 64 channels.
func writeRandomTwin(to folder: String) throws {
  try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
  let config = """
    {"model_type": "twin", "motto": "side by side", "hidden_size": 64, "intermediate_size": 160,
     "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 320}
    """
  try Data(config.utf8).write(to: URL(fileURLWithPath: folder + "/config.json"))
  var shapes: [(String, [Int])] = [("tokens.weight", [320, 64]), ("top.weight", [64])]
  for block in 0..<2 {
    shapes += [
      ("left.weight", [64]), ("right.weight", [64]), ("mix.q_norm.weight", [16]),
      ("mix.k_norm.weight", [16]), ("mix.qkv.weight", [128, 64]), ("mix.qkv.bias", [128]),
      ("mix.out.weight", [64, 64]), ("unit.gate_proj.weight", [160, 64]),
      ("unit.up_proj.weight", [160, 64]), ("unit.down_proj.weight", [64, 160]),
    ].map { ("body.\(block).\($0.0)", $0.1) }
  }
  let layout = try SafetensorsLayout(
    shapes.map { SafetensorsLayout.Tensor(name: $0.0, dtype: .f32, shape: $0.1) })
  let writer = try SafetensorsWriter(layout: layout, path: folder + "/model.safetensors")
  var random = Random(state: 7)
  for entry in layout.entries {
    let middle: Float = entry.shape.count == 1 && entry.name.hasSuffix(".weight") ? 1 : 0
    let values = (0..<entry.shape.reduce(1, *)).map { _ in
      middle + Float.random(in: -0.2...0.2, using: &random)
    }
    try writer.append(Bytes(FloatFormat.f32.encode(values.span)), of: entry.name)
  }
  try writer.finish()
}

/// SplitMix64, so that every run makes the same model.
struct Random: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}
