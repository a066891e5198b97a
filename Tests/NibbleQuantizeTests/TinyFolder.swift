import Foundation
import NibbleEngines
import NibbleFormats
import NibbleModel
import NibbleQuantize
import NibbleTensor
import Testing
import TinyModel

/// A folder that is gone after `body`.
func inTemporaryFolder<Result>(_ body: (String) throws -> Result) throws -> Result {
  let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
  try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(at: folder) }
  return try body(folder.path)
}

/// Every file below a folder, by its name.
func files(_ folder: String) throws -> [String: Data] {
  var files: [String: Data] = [:]
  for name in try FileManager.default.contentsOfDirectory(atPath: folder) {
    files[name] = try Data(contentsOf: URL(fileURLWithPath: folder + "/" + name))
  }
  return files
}

func exists(_ path: String) -> Bool { FileManager.default.fileExists(atPath: path) }

/// SplitMix64: a test that fails fails again.
struct SplitMix: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}

func someTokens(_ count: Int, below vocabulary: Int, seed: UInt64 = 7) -> [Int] {
  var random = SplitMix(state: seed)
  return (0..<count).map { _ in Int.random(in: 0..<vocabulary, using: &random) }
}

extension TinyModel {
  /// Writes the model into `folder`, with members of its config changed (null removes one).
  func write(
    in folder: String, config changes: [String: JSON],
    change: (_ name: String, _ values: inout [Float]) -> Void = { _, _ in }
  ) throws {
    try write(to: URL(fileURLWithPath: folder), change: change)
    var config = config
    for (field, value) in changes { config.set(field, value.isNull ? nil : value) }
    try Data(config.text(pretty: true).utf8).write(
      to: URL(fileURLWithPath: folder + "/config.json"))
  }

  /// Writes the model and further tensors, in a second file with an index over both.
  func write(
    in folder: String, adding more: [(SafetensorsLayout.Tensor, [Float])],
    change: (_ name: String, _ values: inout [Float]) -> Void = { _, _ in }
  ) throws {
    try write(to: URL(fileURLWithPath: folder), change: change)
    let layout = try SafetensorsLayout(more.map(\.0))
    let writer = try SafetensorsWriter(layout: layout, path: folder + "/more.safetensors")
    for (tensor, values) in more {
      let format: FloatFormat? = tensor.dtype.floatFormat
      let bytes = format?.encode(values.span) ?? values.map { UInt8(truncatingIfNeeded: Int($0)) }
      try writer.append(Bytes(bytes), of: tensor.name)
    }
    try writer.finish()
    let index = try SafetensorsIndex.text([
      (file: "model.safetensors", layout: SafetensorsLayout(tensors)),
      (file: "more.safetensors", layout: layout),
    ])
    try Data(index.utf8).write(
      to: URL(fileURLWithPath: folder + "/" + SafetensorsCheckpoint.indexName))
  }
}

/// A quantization of a model on disk, with settings that tests change.
struct TinyRun {
  var recipe = Recipe.w8a8
  var threads = 1
  var shardSize = 5 << 30
  var windows = QuantizeRun.Windows()
  var spillInterval = Duration.zero
  var budget: Int?
  /// Keys and tensors of the source that are taken to change nothing.
  var ignored: [String] = []

  init(_ recipe: Recipe = .w8a8, ignoring ignored: [String] = []) {
    self.recipe = recipe
    self.ignored = ignored
    windows.calibration = [someTokens(9, below: 128, seed: 1)]
    windows.heldOut = [someTokens(12, below: 128, seed: 2), someTokens(7, below: 128, seed: 3)]
  }

  func plan(_ source: String) throws -> Plan {
    try Plan(
      Checkpoint(path: source).ignoring(ignored), recipe: recipe, exporter: CompressedTensors(),
      shardSize: shardSize, windows: windows.sizes, budget: budget)
  }

  /// - Parameter stopAfter: units after which the run is asked to stop; nil for never.
  @discardableResult
  func run(
    _ source: String, to output: String, stopAfter: Int? = nil,
    progress: (QuantizeRun.Progress) -> Void = { _ in }
  ) throws -> QuantizeRun.Report {
    let checkpoint = try Checkpoint(path: source).ignoring(ignored)
    let run = QuantizeRun(
      checkpoint, try plan(source), windows: windows, files: try CompanionFiles(of: checkpoint),
      on: Compute(threads: threads, precision: .f32), spillInterval: spillInterval)
    var finished = 0
    return try run.run(to: output) { step in
      if step.resumed { finished = step.done }
      progress(step)
    } shouldStop: {
      finished += 1
      return stopAfter.map { finished >= $0 } ?? false
    }
  }

  /// Stops after `units` units, which leaves `OUT.nibble-partial`.
  func runPart(_ source: String, to output: String, units: Int) throws {
    #expect(throws: QuantizeError.interrupted(output + ".nibble-partial")) {
      try run(source, to: output, stopAfter: units)
    }
    #expect(!exists(output))
  }
}

/// The presets and options that differ in what is written.
enum Recipes {
  static func all() throws -> [(String, Recipe)] {
    var head = Recipe.w8a16
    head.quantizesHead = true
    return [
      ("w8a8", .w8a8), ("w8a16", .w8a16), ("fp8", .fp8),
      ("w4a16", try .preset("w4a16", group: 32)),
      ("w4a16 asymmetric", try .preset("w4a16", group: 32, symmetric: false)),
      ("w8a16 groups", try .preset("w8a16", group: 32, symmetric: false)), ("head", head),
      ("mxfp4", .mxfp4), ("nvfp4", .nvfp4),
    ]
  }

  static let names = [
    "w8a8", "w8a16", "fp8", "w4a16", "w4a16 asymmetric", "w8a16 groups", "head", "mxfp4",
    "nvfp4",
  ]

  static func named(_ name: String) throws -> Recipe {
    try #require(try all().first { $0.0 == name }).1
  }
}
