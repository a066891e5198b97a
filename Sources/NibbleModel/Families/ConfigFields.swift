public import NibbleFormats
public import NibbleTensor

/// Reads a config for a family, with errors that name the field. Records which keys were read:
/// ``ConfigKeys`` refuses keys that are neither read nor harmless.
public final class ConfigFields {
  let json: JSON
  let path: String
  /// Name of the family that the config is read for.
  public let family: String
  /// Keys that were read; those of a rotary object as `rope_scaling.NAME`.
  private(set) var read: Set<String> = []
  /// Whether the checkpoint contains a tensor, for families whose published tensor names differ.
  private let holds: (String) -> Bool

  init(
    json: JSON, path: String, family: String, holds: @escaping (String) -> Bool = { _ in false }
  ) {
    self.json = json
    self.path = path
    self.family = family
    self.holds = holds
  }

  /// The value of a field; nil if it is missing or null.
  public subscript(_ field: String) -> JSON? {
    read.insert(field)
    guard let value = json[field], !value.isNull else { return nil }
    return value
  }

  /// Whether the checkpoint stores a tensor.
  public func stores(_ tensor: String) -> Bool { holds(tensor) }

  /// Marks a key as read that has no effect in this family.
  public func pass(_ field: String) { read.insert(field) }

  /// The first prefix under which the checkpoint stores `tensor`; the first in the list if none is.
  public func prefix(_ prefixes: [String], of tensor: String) -> String {
    prefixes.first { holds($0 + tensor) } ?? prefixes[0]
  }

  /// An error about one field.
  public func bad(_ field: String, _ reason: String) -> ModelError {
    .config(path: path, field: field, reason: reason)
  }

  /// An integer above zero; nil if it is missing or null.
  public func optionalSize(_ field: String, atMost limit: Int = 1 << 28) throws(ModelError) -> Int?
  {
    guard let value = self[field] else { return nil }
    guard let size = value.int, size > 0, size <= limit else {
      throw bad(field, "is \(value.text()); a whole number in 1...\(limit) is needed")
    }
    return size
  }

  /// An integer above zero. Throws if it is missing.
  public func size(_ field: String, atMost limit: Int = 1 << 28) throws(ModelError) -> Int {
    guard let size = try optionalSize(field, atMost: limit) else {
      throw bad(field, "is missing; a \(family) model needs it")
    }
    return size
  }

  /// An integer above zero under the first of several names; nil if all are missing.
  public func optionalSize(
    anyOf fields: [String], atMost limit: Int = 1 << 28
  ) throws(ModelError) -> Int? {
    var found: Int?
    for field in fields {
      let size = try optionalSize(field, atMost: limit)
      found = found ?? size
    }
    return found
  }

  /// An integer above zero under the first of several names. Throws if all are missing.
  public func size(anyOf fields: [String], atMost limit: Int = 1 << 28) throws(ModelError) -> Int {
    guard let size = try optionalSize(anyOf: fields, atMost: limit) else {
      throw bad(fields[0], "is missing; a \(family) model needs it")
    }
    return size
  }

  /// A number in a range. Throws if it is missing.
  public func number(_ field: String, in range: ClosedRange<Double>) throws(ModelError) -> Double {
    guard let number = try optionalNumber(field, in: range) else {
      throw bad(field, "is missing; a \(family) model needs it")
    }
    return number
  }

  /// A number in a range; nil if it is missing or null.
  public func optionalNumber(
    _ field: String, in range: ClosedRange<Double>
  ) throws(ModelError) -> Double? {
    guard let value = self[field] else { return nil }
    guard let number = value.double, range.contains(number) else {
      throw bad(
        field,
        "is \(shown(value.text())); a number in \(range.lowerBound)...\(range.upperBound) is needed"
      )
    }
    return number
  }

  /// A Boolean; the default if it is missing or null.
  public func flag(_ field: String, default value: Bool = false) throws(ModelError) -> Bool {
    guard let found = self[field] else { return value }
    guard let flag = found.bool else {
      throw bad(field, "is \(shown(found.text())), not true or false")
    }
    return flag
  }

  /// Integers, from one or a list of them, such as token ids; empty if it is missing or null.
  public func integers(_ field: String) throws(ModelError) -> [Int] {
    guard let value = self[field] else { return [] }
    let values = value.array ?? [value]
    let numbers = values.compactMap(\.int)
    guard numbers.count == values.count else {
      throw bad(field, "is \(shown(value.text())), not a whole number or a list of such")
    }
    return numbers
  }

  /// One integer per block, such as `no_rope_layers`; nil if it is missing.
  public func integers(_ field: String, count: Int) throws(ModelError) -> [Int]? {
    guard let value = self[field] else { return nil }
    guard let numbers = value.array?.compactMap(\.int), numbers.count == count else {
      throw bad(field, "is not a list of \(count) whole numbers")
    }
    return numbers
  }

  /// `layer_types`: one name per block; nil if it is missing.
  ///
  /// - Parameter known: the names that the family has.
  public func layerTypes(
    blocks: Int, known: [String] = ["full_attention", "sliding_attention"]
  ) throws(ModelError) -> [String]? {
    guard let value = self["layer_types"] else { return nil }
    guard let types = value.array?.compactMap(\.string), types.count == blocks else {
      throw bad("layer_types", "is not a list of \(blocks) names")
    }
    for type in types where !known.contains(type) {
      throw bad(
        "layer_types",
        "names \"\(shown(type))\"; \(known.joined(separator: " and ")) are supported")
    }
    return types
  }

  /// Which blocks have a sliding window: by `layer_types`, or by `rule` if that is missing.
  public func slides(blocks: Int, _ rule: (Int) -> Bool) throws(ModelError) -> [Bool] {
    try layerTypes(blocks: blocks)?.map { $0 == "sliding_attention" } ?? (0..<blocks).map(rule)
  }

  /// An activation function by its name in transformers.
  public func activation(_ field: String, default name: String) throws(ModelError) -> Activation {
    let value = self[field] ?? .string(name)
    switch value.string {
    case "silu", "swish": return .silu
    case "relu": return .relu
    case "gelu": return .gelu
    case "gelu_new", "gelu_pytorch_tanh", "gelu_fast": return .geluTanh
    default:
      throw bad(
        field,
        "is \(shown(value.text())); \(family) blocks use \(name), and Nibble also knows silu, relu, gelu "
          + "and gelu_pytorch_tanh")
    }
  }

  /// Epsilon of a norm, in 1e-12...0.1; the default if it is missing.
  public func epsilon(_ field: String, default value: Double) throws(ModelError) -> Float {
    Float(try optionalNumber(field, in: 1e-12...0.1) ?? value)
  }

  /// Number of heads, number of key heads, and the head size.
  ///
  /// - Parameters:
  ///   - headSize: default if `head_dim` is missing; nil for `hidden / heads`.
  ///   - isGrouped: whether the family reads `num_key_value_heads`.
  public func attention(
    hidden: Int, headSize: Int? = nil, heads field: String = "num_attention_heads",
    isGrouped: Bool = true
  ) throws(ModelError) -> Attention {
    let heads = try size(field, atMost: 65_536)
    let keyHeads = isGrouped ? try optionalSize("num_key_value_heads") ?? heads : heads
    guard heads.isMultiple(of: keyHeads) else {
      throw bad("num_key_value_heads", "does not divide \(heads) heads")
    }
    var size = headSize
    if let given = try optionalSize("head_dim") { size = given }
    if size == nil, !hidden.isMultiple(of: heads) {
      throw bad(field, "does not divide hidden_size \(hidden)")
    }
    let headSize = size ?? hidden / heads
    guard headSize.isMultiple(of: 2) else {
      throw bad("head_dim", "\(headSize) is odd; an even size is needed")
    }
    return Attention(heads: heads, keyHeads: keyHeads, headSize: headSize)
  }
}
