/// The steps of a recipe, in order. In JSON an array of objects with one key, the step's name.
@propertyWrapper
public struct StepList: Hashable, Sendable, Codable {
  public var wrappedValue: [any Step]

  public init(wrappedValue: [any Step]) { self.wrappedValue = wrappedValue }

  public static func == (a: Self, b: Self) -> Bool {
    guard a.wrappedValue.count == b.wrappedValue.count else { return false }
    return zip(a.wrappedValue, b.wrappedValue).allSatisfy { first, second in
      first.equals(second)
    }
  }

  public func hash(into hasher: inout Hasher) {
    func combine(_ step: some Step) { hasher.combine(step) }
    for step in wrappedValue { combine(step) }
  }

  private struct Name: CodingKey {
    let stringValue: String
    var intValue: Int? { nil }
    init(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { nil }
  }

  public init(from decoder: any Decoder) throws {
    var list = try decoder.unkeyedContainer()
    wrappedValue = []
    while !list.isAtEnd {
      let fields = try list.nestedContainer(keyedBy: Name.self)
      guard let key = fields.allKeys.first, let step = StepRegistry.step(named: key.stringValue)
      else {
        throw DecodingError.dataCorruptedError(
          in: list, debugDescription: "a step with an unknown name")
      }
      func read<Kind: Step>(_ kind: Kind.Type) throws -> any Step {
        try fields.decode(kind, forKey: key)
      }
      wrappedValue.append(try read(step))
    }
  }

  public func encode(to encoder: any Encoder) throws {
    var list = encoder.unkeyedContainer()
    for step in wrappedValue {
      var fields = list.nestedContainer(keyedBy: Name.self)
      try fields.encode(step, forKey: Name(stringValue: type(of: step).name))
    }
  }
}

extension Step {
  fileprivate func equals(_ other: any Step) -> Bool { (other as? Self) == self }
}
