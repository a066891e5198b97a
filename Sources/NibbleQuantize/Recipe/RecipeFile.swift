import Foundation
import NibbleFormats
import NibbleModel
import NibbleTensor
import Yams

extension Recipe {
  /// Reads a recipe from a YAML file.
  ///
  /// ```yaml
  /// name: careful
  /// weights: {format: int4, symmetric: false, group: 64}   # int4, int8, fp8, mxfp4, e2m1 ...
  /// activations: float                                     # or {format: int8, per: token}
  /// candidates:                                            # instead of weights and activations
  ///   - {weights: {format: int8}, activations: {format: int8}}
  ///   - {weights: {format: fp8}, activations: {format: fp8}}
  /// exceptions:                                            # the first that matches counts
  ///   - {layers: "*.mlp.down_proj", weights: {format: int8}}
  ///   - {layers: "*.0.*", keep: float}
  /// steps:
  ///   - awq: {steps: 20}
  ///   - gptq: {damping: 0.01, search: shrink, align: true}   # or {damping: 0.2, residual: false}
  /// kv_cache: fp8                                          # or {format: int8, ranks: 2}
  /// expert_tokens: all                                     # or routed, the default
  /// max_kl: 0.3
  /// ```
  ///
  /// - Throws: `QuantizeError.recipeFile`, which names the field and its allowed values.
  public init(path: String) throws(QuantizeError) {
    let file: MappedFile
    do { file = try MappedFile(path: path) } catch { throw .format(.file(error)) }
    guard file.count <= 1 << 20 else {
      throw .recipeFile(path: path, reason: "\(file.count) bytes; a recipe has at most 1 MiB")
    }
    do {
      guard let text = String(bytes: Bytes(file, 0..<file.count).array, encoding: .utf8) else {
        throw RecipeFault("it is not UTF-8")
      }
      // Refuses anchors and aliases: they could expand without bound.
      guard !Self.mayHoldAnchors(text) else {
        throw RecipeFault("anchors and aliases are not read")
      }
      guard let node = try Yams.compose(yaml: text) else { throw RecipeFault("it is empty") }
      let name = (path as NSString).lastPathComponent
      try self.init(RecipeFields(node, "the recipe"), defaultName: name)
    } catch let fault as RecipeFault {
      throw .recipeFile(path: path, reason: fault.reason)
    } catch { throw .recipeFile(path: path, reason: "is not YAML: \(error)") }
  }

  /// Whether an `&` stands where it could begin an anchor: not inside a word, not before a space.
  private static func mayHoldAnchors(_ text: String) -> Bool {
    let bytes = Array(text.utf8)
    return bytes.indices.contains { index in
      guard bytes[index] == UInt8(ascii: "&"), index + 1 < bytes.count else { return false }
      let begins = index == 0 || " \t\r\n[{,:-?".utf8.contains(bytes[index - 1])
      return begins && !" \t\r\n".utf8.contains(bytes[index + 1])
    }
  }

  private init(_ fields: RecipeFields, defaultName: String) throws {
    try fields.allow([
      "name", "summary", "weights", "activations", "exceptions", "steps", "max_kl",
      "quantize_head", "input_range", "kv_cache", "expert_tokens", "candidates",
    ])
    let candidates = try fields.list("candidates").map { node in
      let fields = try RecipeFields(node, "a candidate")
      try fields.allow(["weights", "activations"])
      return try LinearScheme(fields)
    }
    guard candidates.isEmpty || !fields.has("weights") && !fields.has("activations") else {
      throw RecipeFault("candidates stand instead of weights and activations")
    }
    self.init(
      name: try fields.text("name") ?? defaultName, summary: try fields.text("summary") ?? "",
      scheme: try candidates.first ?? LinearScheme(fields),
      steps: try fields.list("steps").map(StepRegistry.step),
      maxKL: try fields.number("max_kl") ?? 0.1)
    self.candidates = candidates
    if steps.isEmpty { steps = [Round()] }
    quantizesHead = try fields.flag("quantize_head") ?? false
    if let name = try fields.text("input_range") {
      guard let method = InputRangeMethod(rawValue: name) else {
        throw RecipeFault(
          "input_range is \(name); use "
            + InputRangeMethod.allCases.map(\.rawValue).joined(separator: ", "))
      }
      inputRange = method
    }
    if let name = try fields.text("expert_tokens") {
      guard let tokens = ExpertTokens(rawValue: name) else {
        throw RecipeFault("expert_tokens is \(name); use routed or all")
      }
      expertTokens = tokens
    }
    cache = try fields.node("kv_cache").map(KeyValueScheme.init)
    exceptions = try fields.list("exceptions").map { node in
      let fields = try RecipeFields(node, "an exception")
      try fields.allow(["layers", "weights", "activations", "keep"])
      guard let pattern = try fields.text("layers") else {
        throw RecipeFault("an exception needs layers: a pattern such as \"*.mlp.down_proj\"")
      }
      if let keep = try fields.text("keep") {
        guard keep == "float", !fields.has("weights") else {
          throw RecipeFault("keep: float stands alone; it was \(keep)")
        }
        return Exception(pattern: pattern, scheme: nil)
      }
      return Exception(pattern: pattern, scheme: try LinearScheme(fields))
    }
  }
}

/// A fault in a recipe file.
struct RecipeFault: Error {
  let reason: String

  init(_ reason: String) { self.reason = reason }
}

/// A mapping of a recipe file; unknown fields are refused.
public struct RecipeFields {
  private let mapping: Node.Mapping
  private let place: String

  init(_ node: Node, _ place: String) throws {
    guard let mapping = node.mapping else {
      throw RecipeFault("\(place) is not a mapping of names to values")
    }
    self.mapping = mapping
    self.place = place
  }

  public func allow(_ names: [String]) throws {
    for (key, _) in mapping {
      guard let name = key.string, names.contains(name) else {
        throw RecipeFault(
          "\(place) has \"\(key.string ?? "a key that is no text")\"; known are "
            + names.joined(separator: ", "))
      }
    }
  }

  public func has(_ name: String) -> Bool { mapping[name] != nil }

  func node(_ name: String) -> Node? { mapping[name] }

  public func text(_ name: String) throws -> String? {
    guard let node = mapping[name] else { return nil }
    guard let text = node.string else { throw RecipeFault("\(name) of \(place) is not text") }
    return text
  }

  public func number(_ name: String) throws -> Double? {
    guard let node = mapping[name] else { return nil }
    guard let number = node.float ?? node.int.map(Double.init), number.isFinite else {
      throw RecipeFault("\(name) of \(place) is not a number")
    }
    return number
  }

  public func number(_ name: String, in range: ClosedRange<Double>) throws -> Float? {
    guard let number = try number(name) else { return nil }
    guard range.contains(number) else {
      throw RecipeFault(
        "\(name) of \(place) is \(number); use \(range.lowerBound) to \(range.upperBound)")
    }
    return Float(number)
  }

  public func count(_ name: String, in range: ClosedRange<Int>) throws -> Int? {
    guard let node = mapping[name] else { return nil }
    guard let count = node.int, range.contains(count) else {
      throw RecipeFault(
        "\(name) of \(place) is not a whole number from \(range.lowerBound) to "
          + "\(range.upperBound)")
    }
    return count
  }

  public func flag(_ name: String) throws -> Bool? {
    guard let node = mapping[name] else { return nil }
    guard let flag = node.bool else {
      throw RecipeFault("\(name) of \(place) is not true or false")
    }
    return flag
  }

  func list(_ name: String) throws -> [Node] {
    guard let node = mapping[name] else { return [] }
    guard let list = node.sequence else { throw RecipeFault("\(name) of \(place) is not a list") }
    return Array(list)
  }
}

extension LinearScheme {
  init(_ fields: RecipeFields) throws {
    guard let weights = fields.node("weights") else {
      throw RecipeFault("weights are missing; such as {format: int8}")
    }
    var activations: ActivationScheme?
    if let node = fields.node("activations"), node.string != "float" {
      activations = try ActivationScheme(RecipeFields(node, "activations"))
    }
    self.init(
      weights: try WeightScheme(RecipeFields(weights, "weights")), activations: activations)
  }
}

extension WeightScheme {
  init(_ fields: RecipeFields) throws {
    try fields.allow(["format", "symmetric", "per", "group", "row_groups", "block"])
    let symmetric = try fields.flag("symmetric") ?? true
    let name = try fields.text("format")
    guard let format = Format(name: name ?? "", symmetric: symmetric) else {
      throw RecipeFault(
        "format of weights is \(name ?? "missing"); use \(Format.names.joined(separator: ", "))")
    }
    guard symmetric || format.hasZeroPoints else {
      throw RecipeFault("\(name ?? "") weights have no zero points")
    }
    let sharing = ["per", "group", "row_groups", "block"].filter(fields.has)
    guard sharing.count < 2 else {
      throw RecipeFault("weights have \(sharing.joined(separator: " and ")); one says it all")
    }
    let granularity: Granularity
    if let group = try fields.count("group", in: 2...65_536) {
      granularity = .group(group)
    } else if let groups = try fields.count("row_groups", in: 1...1_000_000) {
      granularity = .rowGroups(groups)
    } else if fields.has("block") {
      let sides = try fields.list("block").compactMap(\.int)
      guard sides.count == 2, sides.allSatisfy({ (1...65_536).contains($0) }) else {
        throw RecipeFault("block of weights is not [rows, columns], such as [128, 128]")
      }
      granularity = .block(rows: sides[0], columns: sides[1])
    } else if let group = format.group, !fields.has("per") {
      granularity = .group(group)
    } else {
      switch try fields.text("per") ?? "channel" {
      case "channel": granularity = .channel
      case "tensor": granularity = .tensor
      case let other: throw RecipeFault("per of weights is \(other); use channel or tensor")
      }
    }
    if let group = format.group, granularity != .group(group) {
      throw RecipeFault("\(format) weights have groups of \(group) inputs; leave the rest out")
    }
    self.init(format: format, granularity: granularity)
  }
}

extension WeightScheme.Format {
  /// What recipe files call the formats.
  static let names =
    (2...8).map { "int\($0)" } + ["fp8", "mxfp4", "nvfp4"] + Minifloat.named.map(\.description)

  init?(name: String, symmetric: Bool) {
    switch name {
    case "fp8": self = .e4m3
    case "mxfp4": self = .mxfp4
    case "nvfp4": self = .nvfp4
    default:
      if let bits = (2...8).first(where: { name == "int\($0)" }) {
        self = .int(bits: bits, symmetric: symmetric)
        return
      }
      guard let named = Minifloat.named.first(where: { $0.description == name }) else { return nil }
      self = .minifloat(named)
    }
  }
}

extension ActivationScheme {
  init(_ fields: RecipeFields) throws {
    try fields.allow(["format", "per", "static", "symmetric", "group"])
    let name = try fields.text("format")
    guard let format: Format = name == "fp8" ? .e4m3 : name == "int8" ? .int8 : nil else {
      throw RecipeFault("format of activations is \(name ?? "missing"); use int8 or fp8, or float")
    }
    let isStatic = try fields.flag("static") ?? false
    let isSymmetric = try fields.flag("symmetric") ?? true
    guard isSymmetric || isStatic && format == .int8 else {
      throw RecipeFault("only static int8 activations can be asymmetric")
    }
    if let group = try fields.count("group", in: 16...65_536) {
      guard format == .e4m3, !isStatic, !fields.has("per") else {
        throw RecipeFault("groups of activations are for dynamic fp8")
      }
      self = .dynamicPerGroup(.e4m3, group)
      return
    }
    switch (try fields.text("per") ?? (isStatic ? "tensor" : "token"), isStatic) {
    case ("token", false): self = .dynamicPerToken(format)
    case ("tensor", false): self = .dynamicPerTensor(format)
    case ("tensor", true): self = isSymmetric ? .staticPerTensor(format) : .staticAsymmetric
    case ("token", true): throw RecipeFault("static activations share one scale: use per: tensor")
    case (let other, _): throw RecipeFault("per of activations is \(other); use token or tensor")
    }
  }
}

extension KeyValueScheme {
  init(_ node: Node) throws {
    var name = node.string
    if name == nil {
      let fields = try RecipeFields(node, "kv_cache")
      try fields.allow(["format", "ranks"])
      name = try fields.text("format")
      ranks = try fields.count("ranks", in: 1...1024)
    }
    guard let format = name.flatMap(KeyValueFormat.init(rawValue:)) else {
      throw RecipeFault("format of kv_cache is \(name ?? "missing"); use fp8, int8 or int4")
    }
    self.format = format
  }
}
