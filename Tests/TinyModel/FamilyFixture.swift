import Foundation
public import NibbleFormats
public import NibbleTensor

/// A tiny model of a family with logits of transformers: its weights are numbers that follow from the
/// names of its tensors. Made by Tests/Golden/families.py.
public struct FamilyFixture: Sendable, CustomStringConvertible {
  /// The file, and what varies in it.
  public let family: String
  public let name: String
  public let config: JSON
  public let tokens: [Int]
  /// `[t, vocabulary]`, float32 of transformers.
  public let logits: [Float]
  /// Whether transformers itself decodes token by token to what its prefill gives.
  public let stepsAgree: Bool
  private let tensors: [(name: String, shape: [Int], isBytes: Bool, scale: Float, offset: Float)]

  public var description: String { "\(family): \(name)" }
  public var tensorNames: [String] { tensors.map(\.name) }

  /// All models of some families.
  public static func models(of families: [String]) -> [FamilyFixture] {
    families.flatMap { family -> [FamilyFixture] in
      guard let path = Bundle.module.path(forResource: "Families/\(family)", ofType: "json"),
        let data = FileManager.default.contents(atPath: path),
        let json = try? JSON(parsing: Array(data))
      else { fatalError("no fixture of \(family)") }
      return (json["models"]?.array ?? []).map { FamilyFixture($0, family: family) }
    }
  }

  private init(_ json: JSON, family: String) {
    self.family = family
    name = json["name"]?.string ?? ""
    config = json["config"] ?? .null
    tokens = json["tokens"]?.array?.compactMap(\.int) ?? []
    let bytes = Data(base64Encoded: json["logits"]?.string ?? "") ?? Data()
    logits = FloatFormat.f32.decode(Bytes(Array(bytes)))
    stepsAgree = (json["step_difference"]?.double ?? 0) < 1e-4
    tensors = (json["tensors"]?.array ?? []).compactMap { row in
      guard let row = row.array, row.count == 5, let name = row[0].string,
        let scale = row[3].double, let offset = row[4].double
      else { return nil }
      return (
        name, row[1].array?.compactMap(\.int) ?? [], row[2] == "bytes", Float(scale), Float(offset)
      )
    }
  }

  /// Writes config.json and the weights into a folder.
  ///
  /// - Parameter change: what is to be another than the fixture's, by tensor name.
  public func write(
    in folder: String, format: FloatFormat = .f32,
    config change: (inout JSON) -> Void = { _ in }
  ) throws {
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    var config = config
    change(&config)
    try Data(config.text().utf8).write(to: URL(fileURLWithPath: folder + "/config.json"))
    let dtype = DType(rawValue: format.rawValue.uppercased())!
    let layout = try SafetensorsLayout(
      tensors.map {
        SafetensorsLayout.Tensor(name: $0.name, dtype: $0.isBytes ? .u8 : dtype, shape: $0.shape)
      })
    let writer = try SafetensorsWriter(layout: layout, path: folder + "/model.safetensors")
    for entry in layout.entries {
      let tensor = tensors.first { $0.name == entry.name }!
      let random = Self.random(tensor.name, count: tensor.shape.reduce(1, *))
      if tensor.isBytes {
        let (scale, offset) = (UInt64(tensor.scale), UInt64(tensor.offset))
        try writer.append(
          Bytes(random.map { UInt8(truncatingIfNeeded: offset + ($0 * scale) >> 24) }),
          of: entry.name)
        continue
      }
      let values = random.map {
        tensor.offset + tensor.scale * (Float($0) / 16_777_216 - 0.5)
      }
      try writer.append(Bytes(format.encode(values.span)), of: entry.name)
    }
    try writer.finish()
  }

  /// Numbers of 24 bits: splitmix64 of a hash of the name and the index.
  private static func random(_ name: String, count: Int) -> [UInt64] {
    var seed: UInt64 = 0xcbf2_9ce4_8422_2325
    for byte in name.utf8 { seed = (seed ^ UInt64(byte)) &* 0x100_0000_01b3 }
    return (0..<count).map { index in
      var z = seed &+ UInt64(index + 1) &* 0x9E37_79B9_7F4A_7C15
      z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
      z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
      return (z ^ (z >> 31)) >> 40
    }
  }
}
