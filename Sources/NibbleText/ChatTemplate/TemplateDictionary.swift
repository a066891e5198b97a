import NibbleFormats

/// A dictionary that keeps the order of insertion, with Python's equality of keys: `1`, `1.0` and
/// `True` are one key.
struct TemplateDictionary {
  enum Key: Hashable {
    case undefined
    case none
    case int(Int)
    case float(Double)
    case string(UTF8Key)
    case tuple([Key])
  }

  private(set) var keys: [TemplateValue] = []
  private(set) var values: [TemplateValue] = []
  private(set) var depth = 1
  private var positions: [Key: Int] = [:]

  var count: Int { keys.count }

  subscript(key: Key) -> TemplateValue? { positions[key].map { values[$0] } }

  subscript(name: String) -> TemplateValue? { self[.string(UTF8Key(name))] }

  mutating func set(_ key: Key, named name: TemplateValue, to value: TemplateValue) {
    depth = max(depth, name.depth + 1, value.depth + 1)
    if let position = positions[key] {
      values[position] = value
    } else {
      positions[key] = keys.count
      keys.append(name)
      values.append(value)
    }
  }
}
