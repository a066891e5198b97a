extension TemplateInterpreter {
  func compare(
    _ left: TemplateValue, _ comparison: TemplateExpression.Comparison, _ right: TemplateValue
  ) throws(ChatTemplateError) -> Bool {
    switch comparison {
    case .equal: try areEqual(left, right)
    case .unequal: try !areEqual(left, right)
    case .less: try isLess(left, right)
    case .greater: try isLess(right, left)
    case .lessOrEqual: try isLessOrEqual(left, right)
    case .greaterOrEqual: try isLessOrEqual(right, left)
    case .isIn: try contains(right, left)
    case .isNotIn: try !contains(right, left)
    }
  }

  private func isLessOrEqual(
    _ left: TemplateValue, _ right: TemplateValue
  ) throws(ChatTemplateError) -> Bool {
    if let a = left.number, let b = right.number, a.isNaN || b.isNaN { return false }
    return try !isLess(right, left)
  }

  /// Python's `==`: numbers by value, texts by code points, containers by their elements.
  func areEqual(
    _ left: TemplateValue, _ right: TemplateValue
  ) throws(ChatTemplateError) -> Bool {
    try charge()
    if let a = left.integer, let b = right.integer { return a == b }
    switch (left, right) {
    case (.undefined, .undefined), (.none, .none): return true
    case (.float(let a), .float(let b)): return a == b
    case (.float(let a), let b):
      guard let b = b.integer else { return false }
      return Int(exactly: a) == b
    case (let a, .float(let b)):
      guard let a = a.integer else { return false }
      return Int(exactly: b) == a
    case (.string(let a), .string(let b)):
      try charge(a)
      return a.isSame(as: b)
    case (.list(let a), .list(let b)), (.tuple(let a), .tuple(let b)),
      (.range(let a), .range(let b)):
      return try areEqual(a.values, b.values)
    case (.view(let a), .view(let b)): return try areEqual(a.items.values, b.items.values)
    case (.dictionary(let a), .dictionary(let b)): return try areEqual(a, b)
    case (.namespace(let a), .namespace(let b)): return a === b
    case (.loop(let a), .loop(let b)): return a === b
    case (.macro(let a), .macro(let b)): return a === b
    case (.generator(let a), .generator(let b)): return a === b
    case (.function(let a), .function(let b)): return a == b
    default: return false
    }
  }

  private func areEqual(
    _ left: [TemplateValue], _ right: [TemplateValue]
  ) throws(ChatTemplateError) -> Bool {
    guard left.count == right.count else { return false }
    for (a, b) in zip(left, right) where try !areEqual(a, b) { return false }
    return true
  }

  private func areEqual(
    _ left: TemplateDictionary, _ right: TemplateDictionary
  ) throws(ChatTemplateError) -> Bool {
    guard left.count == right.count else { return false }
    for (name, value) in zip(left.keys, left.values) {
      guard let other = right[try key(name)], try areEqual(value, other) else { return false }
    }
    return true
  }

  /// Python's `<`: numbers, texts by code points, lists and tuples; anything else is an error.
  func isLess(_ left: TemplateValue, _ right: TemplateValue) throws(ChatTemplateError) -> Bool {
    try charge()
    if let a = left.integer, let b = right.integer { return a < b }
    if let a = left.number, let b = right.number { return a < b }
    switch (left, right) {
    case (.string(let a), .string(let b)):
      try charge(a)
      return a.precedes(b)
    case (.list(let a), .list(let b)), (.tuple(let a), .tuple(let b)):
      for (x, y) in zip(a.values, b.values) where try !areEqual(x, y) { return try isLess(x, y) }
      return a.values.count < b.values.count
    default:
      for case .undefined(let what) in [left, right] { throw error(what) }
      throw error("'<' does not take \(left.typeName) and \(right.typeName)")
    }
  }

  /// Python's `element in container`.
  func contains(
    _ container: TemplateValue, _ element: TemplateValue
  ) throws(ChatTemplateError) -> Bool {
    switch container {
    case .string(let text):
      guard case .string(let part) = element else {
        throw error("'in' a str needs a str, not \(element.typeName)")
      }
      try charge(text)
      try charge(part)
      return TextSearch(part).first(in: Array(text.utf8)) != nil
    case .dictionary(let dictionary): return dictionary[try key(element)] != nil
    case .namespace: throw error("'in' does not take a namespace")
    default:
      for item in try elements(of: container) where try areEqual(item, element) { return true }
      return false
    }
  }

  /// A stable merge sort by `isLess` of the keys, as Python's: equal elements keep their order.
  func sorted(
    _ elements: [(key: TemplateValue, value: TemplateValue)], reversed: Bool
  ) throws(ChatTemplateError) -> [(key: TemplateValue, value: TemplateValue)] {
    guard elements.count > 1 else { return elements }
    let middle = elements.count / 2
    let left = try sorted(Array(elements[..<middle]), reversed: reversed)
    let right = try sorted(Array(elements[middle...]), reversed: reversed)
    var merged: [(key: TemplateValue, value: TemplateValue)] = []
    merged.reserveCapacity(elements.count)
    var (i, j) = (0, 0)
    while i < left.count, j < right.count {
      let takesRight =
        try reversed ? isLess(left[i].key, right[j].key) : isLess(right[j].key, left[i].key)
      if takesRight {
        merged.append(right[j])
        j += 1
      } else {
        merged.append(left[i])
        i += 1
      }
    }
    return merged + left[i...] + right[j...]
  }
}
