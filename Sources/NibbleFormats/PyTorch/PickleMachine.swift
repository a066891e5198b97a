/// Runs the part of pickle that state dicts need, and nothing else: it builds values and calls
/// nothing.
///
/// Time and memory are linear in the bytes of the pickle: a value is stored once however often it
/// is referred to, and nested values are not followed. Source: CPython's pickletools, protocols 2
/// to 5.
struct PickleMachine {
  /// Size limit of a pickle in bytes: enough for over 100,000 tensors.
  static let byteLimit = 32 << 20
  /// Limit of values on the stack; torch.save puts a few thousand there.
  static let stackLimit = 1 << 16
  /// Limit of containers and their members; a tensor takes about 30.
  static let valueLimit = 1 << 22
  static let nameLimit = 255
  static let storageKeyLimit = 64

  private(set) var cursor: LittleEndianCursor
  var stack: [PickleValue] = []
  /// Stack depths at which marks were set.
  private var marks: [Int] = []
  private var memo: [PickleValue] = []
  private var valueCount = 0

  private(set) var tuples: [[PickleValue]] = []
  private(set) var lists: [[PickleValue]] = []
  /// A key may occur twice; the reader of a dictionary decides what that means.
  private(set) var dictionaries: [[(key: PickleValue, value: PickleValue)]] = []
  private(set) var storages: [PickleStorage] = []
  private(set) var tensors: [PickleTensor] = []

  /// A fault, and the byte of the opcode that caused it.
  struct Failure: Error {
    var byte: Int
    var fault: PickleFault
  }

  /// - Parameter bytes: a whole pickle, at most `byteLimit`.
  init(_ bytes: [UInt8]) {
    precondition(bytes.count <= Self.byteLimit, "\(bytes.count) bytes")
    cursor = LittleEndianCursor(bytes)
  }

  /// The value of the pickle.
  mutating func run() throws(Failure) -> PickleValue {
    var byte = 0
    do throws(PickleFault) {
      try start()
      while true {
        byte = cursor.at
        let code = try integer(UInt8.self)
        guard let opcode = PickleOpcode(rawValue: code) else { throw .opcode(code) }
        if opcode == .stop { return try result() }
        try step(opcode)
      }
    } catch { throw Failure(byte: byte, fault: error) }
  }

  func bytes(_ text: Range<Int32>) -> ArraySlice<UInt8> {
    cursor.bytes[Int(text.lowerBound)..<Int(text.upperBound)]
  }

  /// Nil when it is not UTF-8.
  func string(_ text: Range<Int32>) -> String? {
    String(validating: bytes(text), as: UTF8.self)
  }

  private mutating func start() throws(PickleFault) {
    guard try integer(UInt8.self) == PickleOpcode.proto.rawValue else { throw .noProtocol }
    let version = try integer(UInt8.self)
    guard (2...5).contains(version) else { throw .protocolVersion(version) }
  }

  private func result() throws(PickleFault) -> PickleValue {
    guard cursor.remaining == 0 else { throw .bytesAfterStop(cursor.remaining) }
    guard stack.count == 1, marks.isEmpty, let value = stack.first else {
      throw .stackNotOne(stack.count)
    }
    return value
  }

  private mutating func step(_ opcode: PickleOpcode) throws(PickleFault) {
    switch opcode {
    case .none: try push(.none)
    case .newTrue: try push(.bool(true))
    case .newFalse: try push(.bool(false))
    case .binInt: try push(.int(Int64(try integer(Int32.self))))
    case .binInt1: try push(.int(Int64(try integer(UInt8.self))))
    case .binInt2: try push(.int(Int64(try integer(UInt16.self))))
    case .long1: try push(.int(try long()))
    case .binFloat: try push(.float(Double(bitPattern: try integer(UInt64.self).byteSwapped)))
    case .binUnicode: try push(.text(try text(count: Int(try integer(UInt32.self)))))
    case .shortBinUnicode: try push(.text(try text(count: Int(try integer(UInt8.self)))))
    case .mark:
      guard stack.count + marks.count < Self.stackLimit else { throw .stackTooDeep }
      marks.append(stack.count)
    case .emptyTuple: try push(try tuple([]))
    case .tuple1: try push(try tuple(try pop(1)))
    case .tuple2: try push(try tuple(try pop(2)))
    case .tuple3: try push(try tuple(try pop(3)))
    case .tuple: try push(try tuple(try popToMark()))
    case .emptyList: try push(try list())
    case .append: try append(try pop(1))
    case .appends: try append(try popToMark())
    case .emptyDict: try push(try dictionary())
    case .setItem: try setItems(try pop(2))
    case .setItems: try setItems(try popToMark())
    case .binPut: try put(UInt64(try integer(UInt8.self)))
    case .longBinPut: try put(UInt64(try integer(UInt32.self)))
    case .memoize: try put(UInt64(memo.count))
    case .binGet: try get(UInt64(try integer(UInt8.self)))
    case .longBinGet: try get(UInt64(try integer(UInt32.self)))
    case .frame:
      let length = try integer(UInt64.self)
      guard length <= UInt64(cursor.remaining) else { throw .frame(length) }
    case .global: try pushGlobal()
    case .stackGlobal: try pushGlobalOfStack()
    case .binPersID: try pushStorage()
    case .reduce: try reduce()
    case .build: try build()
    case .proto, .stop: throw .opcode(opcode.rawValue)
    }
  }
}

// Reading.
extension PickleMachine {
  private mutating func integer<Integer: FixedWidthInteger>(
    _: Integer.Type = Integer.self
  ) throws(PickleFault) -> Integer {
    guard let value = cursor.integer(Integer.self) else { throw .endsEarly }
    return value
  }

  private mutating func text(count: Int) throws(PickleFault) -> Range<Int32> {
    guard let range = cursor.skip(count) else { throw .endsEarly }
    // Fits: `byteLimit` is below 2^31.
    return Int32(range.lowerBound)..<Int32(range.upperBound)
  }

  /// Two's complement of any number of bytes, 0 for none.
  private mutating func long() throws(PickleFault) -> Int64 {
    let count = Int(try integer(UInt8.self))
    guard count <= 8 else { throw .integerTooLong(bytes: count) }
    guard let range = cursor.skip(count) else { throw .endsEarly }
    var value: Int64 = 0
    for (index, byte) in cursor.bytes[range].enumerated() { value |= Int64(byte) << (8 * index) }
    let unused = 64 - 8 * count
    return count == 0 ? 0 : (value << unused) >> unused
  }

  /// The next line without its end, used for a global's module and name.
  mutating func line() throws(PickleFault) -> Range<Int32> {
    let start = cursor.at
    while let byte = cursor.integer(UInt8.self) {
      if byte == UInt8(ascii: "\n") { return Int32(start)..<Int32(cursor.at - 1) }
      guard cursor.at - start <= Self.nameLimit else { throw .global(shownText(start)) }
    }
    throw .endsEarly
  }

  private func shownText(_ start: Int) -> String {
    String(decoding: cursor.bytes[start..<cursor.at], as: UTF8.self)
  }
}

// The stack.
extension PickleMachine {
  mutating func push(_ value: PickleValue) throws(PickleFault) {
    guard stack.count + marks.count < Self.stackLimit else { throw .stackTooDeep }
    stack.append(value)
  }

  /// Removes and returns the topmost values, the topmost last. Those below the latest mark are out
  /// of reach.
  mutating func pop(_ count: Int) throws(PickleFault) -> [PickleValue] {
    guard stack.count - count >= marks.last ?? 0 else { throw .stackEmpty }
    let values = Array(stack.suffix(count))
    stack.removeLast(count)
    return values
  }

  mutating func pop() throws(PickleFault) -> PickleValue {
    guard stack.count > marks.last ?? 0 else { throw .stackEmpty }
    return stack.removeLast()
  }

  private mutating func popToMark() throws(PickleFault) -> [PickleValue] {
    guard let mark = marks.popLast() else { throw .noMark }
    let values = Array(stack[mark...])
    stack.removeSubrange(mark...)
    return values
  }

  func top() throws(PickleFault) -> PickleValue {
    guard stack.count > marks.last ?? 0, let value = stack.last else { throw .stackEmpty }
    return value
  }

  private mutating func put(_ index: UInt64) throws(PickleFault) {
    let value = try top()
    if index < UInt64(memo.count) {
      memo[Int(index)] = value
    } else {
      // torch.save numbers memo entries consecutively from 0.
      guard index == UInt64(memo.count) else {
        throw .memoOutOfOrder(index, expected: memo.count)
      }
      try count(1)
      memo.append(value)
    }
  }

  private mutating func get(_ index: UInt64) throws(PickleFault) {
    guard index < UInt64(memo.count) else { throw .memoEmpty(index) }
    try push(memo[Int(index)])
  }
}

// Containers.
extension PickleMachine {
  /// Counts values before they are stored.
  private mutating func count(_ values: Int) throws(PickleFault) {
    guard values <= Self.valueLimit - valueCount else { throw .tooManyValues }
    valueCount += values
  }

  private mutating func tuple(_ values: [PickleValue]) throws(PickleFault) -> PickleValue {
    try count(1 + values.count)
    tuples.append(values)
    return .tuple(tuples.count - 1)
  }

  private mutating func list() throws(PickleFault) -> PickleValue {
    try count(1)
    lists.append([])
    return .list(lists.count - 1)
  }

  mutating func dictionary() throws(PickleFault) -> PickleValue {
    try count(1)
    dictionaries.append([])
    return .dictionary(dictionaries.count - 1)
  }

  mutating func storage(_ storage: PickleStorage) throws(PickleFault) -> PickleValue {
    try count(1)
    storages.append(storage)
    return .storage(storages.count - 1)
  }

  mutating func tensor(_ tensor: PickleTensor) throws(PickleFault) -> PickleValue {
    try count(1)
    tensors.append(tensor)
    return .tensor(tensors.count - 1)
  }

  private mutating func append(_ values: [PickleValue]) throws(PickleFault) {
    let target = try top()
    guard case .list(let list) = target else {
      throw .wrongKind(target.kind, needed: "a list")
    }
    try count(values.count)
    lists[list] += values
  }

  private mutating func setItems(_ values: [PickleValue]) throws(PickleFault) {
    let target = try top()
    guard case .dictionary(let dictionary) = target else {
      throw .wrongKind(target.kind, needed: "a dict")
    }
    guard values.count.isMultiple(of: 2) else { throw .oddItems }
    try count(values.count)
    for index in stride(from: 0, to: values.count, by: 2) {
      dictionaries[dictionary].append((values[index], values[index + 1]))
    }
  }
}
