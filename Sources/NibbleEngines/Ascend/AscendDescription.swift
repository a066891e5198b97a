import Foundation
import NibbleFormats
import NibbleModel
import NibbleQuantize
import NibbleTensor

/// The JSON file with the type of each tensor.
struct AscendDescription: Hashable, Sendable {
  var type: AscendType
  /// In the order of the modules.
  private(set) var names: [String] = []
  private var types: [String: AscendType] = [:]

  init(_ type: AscendType) { self.type = type }

  subscript(name: String) -> AscendType? {
    get { types[name] }
    set {
      if types[name] == nil, newValue != nil { names.append(name) }
      types[name] = newValue
    }
  }

  /// The tensors that a plan writes: the embedding, the blocks, the final norm, the head.
  init(_ plan: Plan, _ type: AscendType) {
    self.type = type
    let outside = plan.units.filter { $0.block == nil }
    let embedding = plan.decoder?.embedding.path ?? "model.embed_tokens"
    for unit in outside { add(unit) { $0.hasPrefix(embedding + ".") } }
    for unit in plan.units where unit.block != nil { add(unit) { _ in true } }
    let head = plan.headPath
    for unit in outside {
      add(unit) { !$0.hasPrefix(embedding + ".") && !$0.hasPrefix(head + ".") }
    }
    for unit in outside { add(unit) { $0.hasPrefix(head + ".") } }
  }

  private mutating func add(_ unit: Plan.Unit, where isWanted: (String) -> Bool) {
    let order = unit.layers.filter { isWanted($0.path) }.sorted { Self.precedes($0, $1) }
    for layer in order {
      for tensor in unit.cacheTensors where tensor.name.hasPrefix(layer.path + ".") {
        self[tensor.name] = .c8
      }
      let type = AscendType(layer) ?? .w8a8
      for suffix in type.suffixes { self["\(layer.path).\(suffix)"] = type.type(of: suffix) }
    }
    for copy in unit.copies where isWanted(copy.name) {
      self[copy.name] = .float
      guard let norm = unit.norms.first(where: { $0.path + ".weight" == copy.name }) else {
        continue
      }
      for tensor in norm.tensors {
        self[tensor.name] = tensor.name.hasPrefix(norm.path + ".module.") ? type : .float
      }
    }
  }

  /// In the order in which a block computes its layers.
  private static func precedes(_ a: Plan.Layer, _ b: Plan.Layer) -> Bool {
    func rank(_ layer: Plan.Layer) -> Int {
      layer.role.flatMap { AscendModule.allRoles.firstIndex(of: $0) } ?? AscendModule.allRoles.count
    }
    return rank(a) < rank(b)
  }

  /// - Parameter version: whether to write the form that begins with its version.
  func text(version: Bool) -> String {
    var json: JSON = [:]
    if version { json.set("version", "1.0.0") }
    json.set("model_quant_type", .string(type.rawValue))
    if types.values.contains(.c8) {
      for key in ["kv_cache_type", "kv_quant_type"] { json.set(key, "C8") }
    }
    for name in names { json.set(name, .string(types[name]?.rawValue ?? "")) }
    return json.text(pretty: true)
  }
}

extension AscendDescription {
  /// The description in a folder; nil when there is none.
  init?(folder: String) throws(ModelError) {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    let found = names.filter {
      $0.hasPrefix(Ascend.descriptionStem) && $0.hasSuffix(".json")
    }.sorted()
    // The file with a version is preferred; both have the same content.
    guard let name = found.first(where: { $0 == Ascend.descriptionStem + ".json" }) ?? found.first
    else { return nil }
    let path = folder + "/" + name
    guard let object = try Checkpoint.json(path).object else {
      throw .notAModel(path: path, reason: "it is not an object of names and types")
    }
    guard let main = object["model_quant_type"]?.string, let type = AscendType(rawValue: main)
    else {
      throw .config(
        path: path, field: "model_quant_type",
        reason: "is \(object["model_quant_type"]?.text() ?? "missing"), which Nibble does not read")
    }
    self.init(type)
    let settings: Set = [
      "model_quant_type", "version", "group_size", "kv_cache_type", "kv_quant_type",
      "fa_quant_type", "reduce_quant_type", "metadata",
    ]
    for (name, value) in object where !settings.contains(name) {
      guard let text = value.string, let type = AscendType(rawValue: text) else {
        throw .config(
          path: path, field: name, reason: "is \(value.text()), which Nibble does not read")
      }
      self[name] = type
    }
  }
}
