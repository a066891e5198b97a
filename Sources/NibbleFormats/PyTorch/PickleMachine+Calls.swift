// Classes and functions that a pickle names and calls. They become values of our own, or are
// refused.
extension PickleMachine {
  mutating func pushGlobal() throws(PickleFault) {
    let (module, name) = (try line(), try line())
    try pushGlobal(module, name)
  }

  mutating func pushGlobalOfStack() throws(PickleFault) {
    let values = try pop(2)
    guard case .text(let module) = values[0], case .text(let name) = values[1] else {
      throw .wrongKind("\(values[0].kind) and \(values[1].kind)", needed: "two strings")
    }
    try pushGlobal(module, name)
  }

  private mutating func pushGlobal(
    _ module: Range<Int32>, _ name: Range<Int32>
  ) throws(PickleFault) {
    func string(_ text: Range<Int32>) -> String {
      String(decoding: bytes(text).prefix(Self.nameLimit), as: UTF8.self)
    }
    let (module, name) = (string(module), string(name))
    guard let global = PickleGlobal(module: module, name: name) else {
      throw .global("\(module) \(name)")
    }
    try push(.global(global))
  }

  /// `('storage', class, key, location, elements)`; the location is the device it was saved from.
  mutating func pushStorage() throws(PickleFault) {
    guard case .tuple(let tuple) = try pop() else { throw .storageReference("is no tuple") }
    let values = tuples[tuple]
    guard values.count == 5 else { throw .storageReference("has \(values.count) parts, not 5") }
    guard case .text(let tag) = values[0], bytes(tag).elementsEqual("storage".utf8) else {
      throw .storageReference("does not begin with \"storage\"")
    }
    guard case .global(.storage(let dtype)) = values[1] else {
      throw .storageReference("has \(values[1].kind) for its class")
    }
    guard case .text(let key) = values[2], case .text = values[3] else {
      throw .storageReference("has no string for its key or location")
    }
    guard key.count <= Self.storageKeyLimit else {
      throw .storageReference("has a key of \(key.count) bytes")
    }
    guard case .int(let count) = values[4], count >= 0 else {
      throw .storageReference("has no number of elements")
    }
    try push(try storage(PickleStorage(dtype: dtype, key: key, count: count)))
  }

  mutating func reduce() throws(PickleFault) {
    let values = try pop(2)
    guard case .tuple(let tuple) = values[1] else {
      throw .wrongKind(values[1].kind, needed: "a tuple of arguments")
    }
    guard case .global(let callee) = values[0] else {
      throw .wrongKind(values[0].kind, needed: "something to call")
    }
    let arguments = tuples[tuple]
    switch callee {
    case .orderedDict:
      guard arguments.isEmpty else {
        throw .arguments(of: callee.name, "\(arguments.count) arguments, not none")
      }
      try push(try dictionary())
    case .rebuildTensor: try push(try tensor(arguments))
    case .rebuildParameter: try push(try parameter(arguments))
    case .storage: throw .wrongKind(callee.name, needed: "something to call")
    }
  }

  /// `(storage, offset, sizes, strides, requires_grad, hooks)`; a seventh would negate or conjugate.
  private mutating func tensor(_ arguments: [PickleValue]) throws(PickleFault) -> PickleValue {
    let callee = PickleGlobal.rebuildTensor.name
    guard arguments.count == 6 else {
      throw .arguments(of: callee, "\(arguments.count) arguments, not 6")
    }
    guard case .storage(let storage) = arguments[0], case .int(let offset) = arguments[1],
      case .tuple(let sizes) = arguments[2], case .tuple(let strides) = arguments[3],
      case .bool = arguments[4], case .dictionary(let hooks) = arguments[5],
      dictionaries[hooks].isEmpty
    else { throw .arguments(of: callee, Self.kinds(arguments)) }
    return try tensor(
      PickleTensor(storage: storage, offset: offset, sizes: sizes, strides: strides))
  }

  /// `(tensor, requires_grad, hooks)`: the tensor.
  private func parameter(_ arguments: [PickleValue]) throws(PickleFault) -> PickleValue {
    guard arguments.count == 3, case .tensor = arguments[0], case .bool = arguments[1],
      case .dictionary(let hooks) = arguments[2], dictionaries[hooks].isEmpty
    else { throw .arguments(of: PickleGlobal.rebuildParameter.name, Self.kinds(arguments)) }
    return arguments[0]
  }

  private static func kinds(_ values: [PickleValue]) -> String {
    values.isEmpty
      ? "nothing"
      : values.prefix(8).map(\.kind).joined(separator: ", ") + (values.count > 8 ? ", ..." : "")
  }

  /// The one attribute that torch sets on a state dict: `_metadata`, the versions of its modules.
  /// It has no effect on tensors.
  mutating func build() throws(PickleFault) {
    let state = try pop()
    let target = try top()
    guard case .dictionary = target else {
      throw .wrongKind(target.kind, needed: "an OrderedDict")
    }
    guard case .dictionary(let attributes) = state else { throw .state("is \(state.kind)") }
    let pairs = dictionaries[attributes]
    guard pairs.count == 1, let pair = pairs.first, case .text(let key) = pair.key,
      bytes(key).elementsEqual("_metadata".utf8), case .dictionary = pair.value
    else { throw .state("is not its _metadata alone") }
  }
}
