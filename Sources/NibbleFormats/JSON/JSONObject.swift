/// The members of a JSON object in the order in which they were written or added.
///
/// Keys are equal when their UTF-8 bytes are equal. Swift's own string equality would merge the
/// composed and the decomposed form of a letter, which are two tokens in a vocabulary.
public struct JSONObject: Sendable {
  public private(set) var keys: [String] = []
  public private(set) var values: [JSON] = []
  private var positions: [UTF8Key: Int] = [:]

  public init() {}

  public var count: Int { keys.count }

  public subscript(key: String) -> JSON? {
    get { positions[UTF8Key(key)].map { values[$0] } }
    set {
      let exact = UTF8Key(key)
      switch (positions[exact], newValue) {
      case (let position?, let value?): values[position] = value
      case (nil, let value?):
        positions[exact] = keys.count
        keys.append(key)
        values.append(value)
      case (let position?, nil):
        keys.remove(at: position)
        values.remove(at: position)
        positions[exact] = nil
        for (other, at) in positions where at > position { positions[other] = at - 1 }
      case (nil, nil): break
      }
    }
  }

  /// Adds a member at the end; false, without a change, when the key exists already.
  mutating func append(_ key: String, _ value: JSON) -> Bool {
    let exact = UTF8Key(key)
    guard positions.updateValue(keys.count, forKey: exact) == nil else { return false }
    keys.append(key)
    values.append(value)
    return true
  }
}

extension JSONObject: Sequence {
  public func makeIterator() -> Zip2Sequence<[String], [JSON]>.Iterator {
    zip(keys, values).makeIterator()
  }
}

extension JSONObject: Hashable {
  public static func == (left: Self, right: Self) -> Bool {
    left.count == right.count && left.allSatisfy { key, value in right[key] == value }
  }

  public func hash(into hasher: inout Hasher) { hasher.combine(count) }
}

/// A string compared and hashed by its UTF-8 bytes.
public struct UTF8Key: Hashable, Sendable {
  public let string: String

  public init(_ string: String) { self.string = string }

  public static func == (left: Self, right: Self) -> Bool {
    left.string.utf8.elementsEqual(right.string.utf8)
  }

  public func hash(into hasher: inout Hasher) {
    var copy = string
    copy.withUTF8 { unsafe hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
  }
}
