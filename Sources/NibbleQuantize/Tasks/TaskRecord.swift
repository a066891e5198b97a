import NibbleFormats

/// A fault in a field of an item.
struct TaskFault: Error {
  var field: String
  var reason: String
}

/// The fields of an item, with bounds on their lengths.
struct TaskRecord {
  let object: JSONObject

  /// Largest text in bytes of UTF-8, and largest number of choices.
  static let textLimit = 1 << 20
  static let choiceLimit = 1024

  func has(_ field: String) -> Bool { object[field] != nil }

  private func value(_ field: String) throws(TaskFault) -> JSON {
    guard let value = object[field] else { throw TaskFault(field: field, reason: "is missing") }
    return value
  }

  func text(_ field: String) throws(TaskFault) -> String {
    try Self.text(value(field), field)
  }

  /// The text of a field that may be left out.
  func text(_ field: String, default text: String) throws(TaskFault) -> String {
    has(field) ? try self.text(field) : text
  }

  static func text(_ value: JSON, _ field: String) throws(TaskFault) -> String {
    guard let text = value.string else {
      throw TaskFault(field: field, reason: "holds \(value.kind), not text")
    }
    guard text.utf8.count <= textLimit else {
      throw TaskFault(
        field: field, reason: "holds \(text.utf8.count) bytes, and at most \(textLimit) are read")
    }
    return text
  }

  /// A list of texts, as many as choices may be.
  func texts(_ field: String) throws(TaskFault) -> [String] {
    try Self.texts(value(field), field)
  }

  static func texts(_ value: JSON, _ field: String) throws(TaskFault) -> [String] {
    guard let values = value.array else {
      throw TaskFault(field: field, reason: "holds \(value.kind), not a list of texts")
    }
    guard (1...choiceLimit).contains(values.count) else {
      throw TaskFault(
        field: field, reason: "holds \(values.count) texts, and it must be 1 to \(choiceLimit)")
    }
    var texts: [String] = []
    for value in values { texts.append(try text(value, field)) }
    return texts
  }

  func record(_ field: String) throws(TaskFault) -> TaskRecord {
    let value = try value(field)
    guard let object = value.object else {
      throw TaskFault(field: field, reason: "holds \(value.kind), not an object")
    }
    return TaskRecord(object: object)
  }

  /// The index of the right choice: a number, or its digits.
  func index(_ field: String, below count: Int) throws(TaskFault) -> Int {
    try Self.index(value(field), field, below: count)
  }

  private static func index(
    _ value: JSON, _ field: String, below count: Int
  ) throws(TaskFault) -> Int {
    guard let index = value.int ?? value.string.flatMap({ Int($0) }) else {
      throw TaskFault(
        field: field, reason: "holds \(name(value)), not the number of a choice from 0")
    }
    guard (0..<count).contains(index) else {
      throw TaskFault(
        field: field, reason: "is \(index), and the \(count) choices are numbered from 0")
    }
    return index
  }

  /// The index of a text among some.
  ///
  /// - Parameter what: what they are, for errors.
  func index(_ field: String, in names: [String], of what: String) throws(TaskFault) -> Int {
    try Self.index(value(field), field, in: names, of: what)
  }

  private static func index(
    _ value: JSON, _ field: String, in names: [String], of what: String
  ) throws(TaskFault) -> Int {
    let name = try text(value, field)
    guard let index = names.firstIndex(where: { $0.utf8.elementsEqual(name.utf8) }) else {
      throw TaskFault(field: field, reason: "is \"\(shown(name))\", which is none of its \(what)")
    }
    return index
  }

  /// The indices of all right choices: an index, the text of a choice, or a list of them.
  func gold(_ field: String, of choices: [String]) throws(TaskFault) -> Set<Int> {
    let value = try value(field)
    let values = value.array ?? [value]
    guard (1...choices.count).contains(values.count) else {
      throw TaskFault(
        field: field, reason: "names \(values.count) of \(choices.count) choices as right")
    }
    var gold: Set<Int> = []
    for value in values {
      gold.insert(
        value.string == nil
          ? try Self.index(value, field, below: choices.count)
          : try Self.index(value, field, in: choices, of: "choices"))
    }
    return gold
  }

  /// A value for an error.
  private static func name(_ value: JSON) -> String {
    value.string.map { "\"\(shown($0))\"" } ?? value.kind
  }
}
