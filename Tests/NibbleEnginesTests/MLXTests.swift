import Foundation
import NibbleFormats
import NibbleModel
import NibbleTensor
import Testing

@testable import NibbleEngines
@testable import NibbleQuantize

@Suite struct MLXTests {
  static let path = "model.layers.0.mlp.down_proj"
  static let (outputs, inputs) = (16, 192)
  /// Bits and group of what mlx quantized: Tests/Golden/layouts.py.
  static let affine = [2, 3, 4, 5, 6, 8].flatMap { bits in [(bits, 32), (bits, 64)] }

  private let exporter = MLX()

  private func file(_ name: String) throws -> SafetensorsFile {
    try SafetensorsFile(path: fixturePath("\(name).safetensors", of: "mlx"))
  }

  private func checkpoint(_ name: String, _ quantization: JSON) throws -> SmallCheckpoint {
    let file = try file(name)
    var checkpoint = SmallCheckpoint()
    for part in ["weight", "scales", "biases"] {
      guard let entry = file.entry(part) else { continue }
      checkpoint.set(
        "\(Self.path).\(part)", entry.dtype, entry.shape, try #require(file.bytes(of: part)))
    }
    checkpoint.config = ["quantization": quantization]
    return checkpoint
  }

  private func read(_ checkpoint: SmallCheckpoint) throws -> Weight {
    try checkpoint.weight(Self.path, Self.outputs, Self.inputs) {
      checkpoint throws(ModelError) in MLXReader(checkpoint)
    }
  }

  private func values(_ name: String) throws -> [Float] {
    FloatFormat.f32.decode(try #require(try file(name).bytes(of: "values")))
  }

  /// mlx's own values come from one multiplication and one addition in float; ours from a code less half
  /// the range and an offset that makes up for it.
  @Test(arguments: affine)
  func readsWhatMLXQuantized(_ bits: Int, _ group: Int) throws {
    let checkpoint = try checkpoint(
      "\(bits)_\(group)", ["group_size": JSON(group), "bits": JSON(bits)])
    let weight = try read(checkpoint)
    for (ours, theirs) in zip(weight.values(of: 0..<Self.outputs), try values("\(bits)_\(group)")) {
      #expect(abs(ours - theirs) <= 0x1p-22 * 0.3)
    }
    guard case .quantized(let matrix, inputs: nil) = weight else {
      Issue.record("read as something else")
      return
    }
    // With 2 bits mlx's edge of -2 steps is what symmetric codes have.
    #expect(
      matrix.scheme.format
        == (bits == 2 ? .int(bits: 2, symmetric: true) : .intWithOffsets(bits: bits)))
    #expect(matrix.scheme.granularity == .group(group))
  }

  @Test func readsMXFP4() throws {
    let checkpoint = try checkpoint("mxfp4", ["group_size": 32, "bits": 4, "mode": "mxfp4"])
    #expect(try read(checkpoint).values(of: 0..<Self.outputs) == (try values("mxfp4")))
    // A path's own mode goes before that of all.
    var listed = checkpoint
    listed.config = [
      "quantization": [
        "group_size": 64, "bits": 4, "mode": "affine",
        "model.layers.0.mlp.down_proj": ["group_size": 32, "bits": 4, "mode": "mxfp4"],
      ]
    ]
    #expect(try read(listed).values(of: 0..<Self.outputs) == (try values("mxfp4")))
  }

  @Test(arguments: [
    (2, 32), (3, 64), (4, 64), (4, 128), (5, 32), (6, 64), (8, 128), (8, nil), (4, nil),
  ])
  func whatIsWrittenIsRead(_ bits: Int, _ group: Int?) throws {
    let (outputs, inputs) = (8, 384)
    let scheme = LinearScheme(
      weights: WeightScheme(
        format: .int(bits: bits, symmetric: true),
        granularity: group.map { .group($0) } ?? .channel))
    let layer = layer(scheme, outputs, inputs, at: Self.path)
    let matrix = try QuantizedMatrix(
      rounding: FloatMatrix(
        format: .f32, rows: outputs, columns: inputs,
        bytes: Bytes(FloatFormat.f32.encode(uniform(outputs * inputs, seed: 3).span))),
      to: scheme.weights, scaleFormat: exporter.scaleFormat(of: layer), on: oneThread)
    var written = try NibbleEnginesTests.checkpoint(matrix, of: layer, by: exporter)
    var recipe = Recipe.w8a16
    recipe.scheme = scheme
    let plan = try plan([Self.path: [outputs, inputs]], recipe, exporter)
    #expect(plan.refusals.isEmpty, "\(plan.refusals)")
    written.config = exporter.config([:], plan)
    let settings = written.config["quantization"]
    #expect(settings == ["group_size": JSON(group ?? 128), "bits": JSON(bits), "mode": "affine"])
    #expect(written.config["quantization_config"] == settings)
    let weight = try written.weight(Self.path, outputs, inputs) {
      checkpoint throws(ModelError) in MLXReader(checkpoint)
    }
    #expect(weight.values(of: 0..<outputs) == matrix.decoded())
    guard case .quantized(let read, _) = weight else { return }
    #expect(read.scheme.format == scheme.weights.format)
    #expect(read.codes.array == matrix.codes.array)
  }

  @Test func layersThatDifferAreListedByPath() throws {
    var recipe = try Recipe.preset("w4a16", group: 64)
    recipe.exceptions = [
      Recipe.Exception(
        pattern: "*.2.*",
        scheme: LinearScheme(
          weights: WeightScheme(
            format: .int(bits: 8, symmetric: true), granularity: .group(32))))
    ]
    let paths = (0..<3).map { "model.layers.\($0).mlp.down_proj" }
    let plan = try plan(
      Dictionary(uniqueKeysWithValues: paths.map { ($0, [8, 384]) }), recipe, exporter)
    let config = exporter.config(["x": 1], plan)
    #expect(
      config["quantization"] == [
        "group_size": 64, "bits": 4, "mode": "affine",
        "model.layers.2.mlp.down_proj": ["group_size": 32, "bits": 8, "mode": "affine"],
      ])
    #expect(config["x"] == 1)
  }

  @Test func otherSchemesAreRefused() throws {
    let shapes = [Self.path: [32, 384]]
    for recipe in [
      Recipe.w8a8, .fp8, .nvfp4, try Recipe.preset("w4a16", group: 64, symmetric: false),
      try Recipe.preset("w4a16", group: 48),
    ] {
      let refusals = try plan(shapes, recipe, exporter).refusals
      #expect(refusals.map { "\($0)" }.contains { $0.contains("mlx") && $0.contains("Use") })
    }
    #expect(try plan(shapes, .mxfp4, exporter).refusals.isEmpty)
  }

  private func expectRefusal(
    naming part: String, change: (inout SmallCheckpoint) throws -> Void,
    at location: SourceLocation = #_sourceLocation
  ) throws {
    var damaged = try checkpoint("4_64", ["group_size": 64, "bits": 4])
    try change(&damaged)
    let error = try #require(throws: ModelError.self, sourceLocation: location) {
      try read(damaged)
    }
    #expect("\(error)".contains(part), "\(error)", sourceLocation: location)
  }

  @Test func shapesThatLieAreNamed() throws {
    try expectRefusal(naming: "\(Self.path).biases") { $0.remove("\(Self.path).biases") }
    for shape in [[16, 25], [16, 0], [16], []] {
      try expectRefusal(naming: Self.path) {
        $0.set(
          "\(Self.path).weight", .u32, shape,
          Bytes([UInt8](repeating: 0, count: shape.reduce(4, *)))
        )
      }
    }
    try expectRefusal(naming: "\(Self.path).scales: number 1 is nan") {
      var scales = [Float](repeating: 1, count: 48)
      scales[1] = .nan
      $0.set("\(Self.path).scales", .f16, [16, 3], Bytes(FloatFormat.f16.encode(scales.span)))
    }
    try expectRefusal(naming: "mode \"nvfp4\"") {
      $0.config = ["quantization": ["group_size": 64, "bits": 4, "mode": "nvfp4"]]
    }
  }
}
