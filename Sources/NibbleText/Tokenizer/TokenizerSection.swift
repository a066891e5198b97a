internal import NibbleFormats

/// An object of a tokenizer file with its path, for error messages.
struct TokenizerSection {
  let json: JSON
  let path: String

  func optional(_ key: String) -> JSON? {
    guard let value = json[key], !value.isNull else { return nil }
    return value
  }

  func required(_ key: String) throws(TokenizerError) -> JSON {
    guard let value = optional(key) else { throw .missing("\(path).\(key)") }
    return value
  }

  func string(_ key: String) throws(TokenizerError) -> String {
    guard let value = try required(key).string else {
      throw .wrongKind("\(path).\(key)", expected: "a string")
    }
    return value
  }

  func integer(_ key: String) throws(TokenizerError) -> Int {
    guard let value = try required(key).int else {
      throw .wrongKind("\(path).\(key)", expected: "an integer")
    }
    return value
  }

  func bool(_ key: String, default absent: Bool) throws(TokenizerError) -> Bool {
    guard let value = optional(key) else { return absent }
    guard let flag = value.bool else {
      throw .wrongKind("\(path).\(key)", expected: "true or false")
    }
    return flag
  }

  func optionalString(_ key: String) throws(TokenizerError) -> String? {
    optional(key) == nil ? nil : try string(key)
  }

  func scalar(_ key: String, default absent: Unicode.Scalar) throws(TokenizerError)
    -> Unicode.Scalar
  {
    guard let text = try optionalString(key) else { return absent }
    let scalars = text.unicodeScalars
    guard let scalar = scalars.first, scalars.count == 1 else {
      throw .wrongKind("\(path).\(key)", expected: "one character")
    }
    return scalar
  }

  func sections(_ key: String) throws(TokenizerError) -> [TokenizerSection] {
    guard let values = try required(key).array else {
      throw .wrongKind("\(path).\(key)", expected: "an array")
    }
    return values.enumerated().map { index, value in
      TokenizerSection(json: value, path: "\(path).\(key)[\(index)]")
    }
  }

  /// The steps of a component: its members when it is a `Sequence`, however nested, else itself.
  func flattened(_ key: String, depth: Int = 0) throws(TokenizerError) -> [TokenizerSection] {
    guard try string("type") == "Sequence" else { return [self] }
    guard depth < 16 else { throw .unsupported("sequences nested deeper than 16", at: path) }
    var steps: [TokenizerSection] = []
    for section in try sections(key) {
      steps += try section.flattened(key, depth: depth + 1)
    }
    return steps
  }
}
