public import NibbleFormats
public import NibbleTensor

/// Reads a config for a family, says which field is wrong, and remembers which keys were read: what is
/// neither read nor known to be harmless is refused by ``ConfigKeys``.
public final class ConfigFields {
  let json: JSON
  let path: String
  /// The name of the family that reads.
  public let family: String
  /// Keys that were asked for; those of a rotary object as `rope_scaling.NAME`.
  private(set) var read: Set<String> = []
  /// Whether the checkpoint holds a tensor; families whose published names differ ask.
  private let holds: (String) -> Bool

  init(
    json: JSON, path: String, family: String, holds: @escaping (String) -> Bool = { _ in false }
  ) {
    self.json = json
    self.path = path
    self.family = family
    self.holds = holds
  }

  /// A field as it stands; nil where it is missing or null.
  public subscript(_ field: String) -> JSON? {
    read.insert(field)
    guard let value = json[field], !value.isNull else { return nil }
    return value
  }

  /// Notes that a key is known and says nothing here.
  public func pass(_ field: String) { read.insert(field) }

  /// The first prefix under which a tensor is stored; the first of all when none is.
  public func prefix(_ prefixes: [String], of tensor: String) -> String {
    prefixes.first { holds($0 + tensor) } ?? prefixes[0]
  }

  /// The error for a field.
  public func bad(_ field: String, _ reason: String) -> ModelError {
    .config(path: path, field: field, reason: reason)
  }

  /// A whole number above zero; nil where it is missing or null.
  public func optionalSize(_ field: String, atMost limit: Int = 1 << 28) throws(ModelError) -> Int?
  {
    guard let value = self[field] else { return nil }
    guard let size = value.int, size > 0, size <= limit else {
      throw bad(field, "is \(value.text()); a whole number in 1...\(limit) is needed")
    }
    return size
  }

  /// A whole number above zero that must be there.
  public func size(_ field: String, atMost limit: Int = 1 << 28) throws(ModelError) -> Int {
    guard let size = try optionalSize(field, atMost: limit) else {
      throw bad(field, "is missing; a \(family) model needs it")
    }
    return size
  }

  /// The first of several names of one size.
  public func size(anyOf fields: [String], atMost limit: Int = 1 << 28) throws(ModelError) -> Int {
    var found: Int?
    for field in fields {
      let size = try optionalSize(field, atMost: limit)
      found = found ?? size
    }
    if let found { return found }
    throw bad(fields[0], "is missing; a \(family) model needs it")
  }

  /// A number of a range that must be there.
  public func number(_ field: String, in range: ClosedRange<Double>) throws(ModelError) -> Double {
    guard let number = try optionalNumber(field, in: range) else {
      throw bad(field, "is missing; a \(family) model needs it")
    }
    return number
  }

  /// A number of a range; nil where it is missing or null.
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

  /// The default where it is missing or null.
  public func flag(_ field: String, default value: Bool = false) throws(ModelError) -> Bool {
    guard let found = self[field] else { return value }
    guard let flag = found.bool else {
      throw bad(field, "is \(shown(found.text())), not true or false")
    }
    return flag
  }

  /// A whole number, such as the id of a token, or a list of them; none where it is missing or null.
  public func integers(_ field: String) throws(ModelError) -> [Int] {
    guard let value = self[field] else { return [] }
    let values = value.array ?? [value]
    let numbers = values.compactMap(\.int)
    guard numbers.count == values.count else {
      throw bad(field, "is \(shown(value.text())), not a whole number or a list of such")
    }
    return numbers
  }

  /// A whole number for each block, such as `no_rope_layers`; nil where it is missing.
  public func integers(_ field: String, count: Int) throws(ModelError) -> [Int]? {
    guard let value = self[field] else { return nil }
    guard let numbers = value.array?.compactMap(\.int), numbers.count == count else {
      throw bad(field, "is not a list of \(count) whole numbers")
    }
    return numbers
  }

  /// `layer_types`: a name for each block; nil where it is missing.
  public func layerTypes(blocks: Int) throws(ModelError) -> [String]? {
    guard let value = self["layer_types"] else { return nil }
    guard let types = value.array?.compactMap(\.string), types.count == blocks else {
      throw bad("layer_types", "is not a list of \(blocks) names")
    }
    for type in types where type != "full_attention" && type != "sliding_attention" {
      throw bad(
        "layer_types",
        "names \"\(shown(type))\"; full_attention and sliding_attention are supported")
    }
    return types
  }

  /// Which blocks see a window only: by `layer_types`, or by a rule where that is missing.
  public func slides(blocks: Int, _ rule: (Int) -> Bool) throws(ModelError) -> [Bool] {
    try layerTypes(blocks: blocks)?.map { $0 == "sliding_attention" } ?? (0..<blocks).map(rule)
  }

  /// An activation by the name that transformers gives it.
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

  /// What is added to a variance.
  public func epsilon(_ field: String, default value: Double) throws(ModelError) -> Float {
    Float(try optionalNumber(field, in: 1e-12...0.1) ?? value)
  }

  /// Heads, key heads and their size.
  ///
  /// - Parameters:
  ///   - headSize: where `head_dim` is missing; nil for `hidden / heads`.
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
