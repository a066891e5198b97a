import NibbleTensor

/// The header of a safetensors file: parsed and checked, with absolute offsets.
struct SafetensorsHeader {
  struct Failure: Error {
    var tensor: String?
    var fault: SafetensorsFault
  }

  private(set) var entries: [TensorEntry] = []
  private(set) var metadata: [String: String] = [:]

  init(_ content: Bytes) throws(Failure) {
    let dataStart: Int
    let members: JSONObject
    do {
      dataStart = try Self.headerEnd(content)
      members = try Self.members(content[8..<dataStart].array)
    } catch { throw Failure(fault: error) }
    for (name, value) in members {
      do {
        if name == "__metadata__" {
          metadata = try Self.metadata(value)
        } else {
          entries.append(try Self.entry(name, value, dataStart: dataStart))
        }
      } catch { throw Failure(tensor: name == "__metadata__" ? nil : name, fault: error) }
    }
    entries.sort {
      ($0.range.lowerBound, $0.range.upperBound) < ($1.range.lowerBound, $1.range.upperBound)
    }
    try checkTiling(from: dataStart, to: content.count)
  }

  /// End of the header, from the eight bytes that precede it.
  private static func headerEnd(_ content: Bytes) throws(SafetensorsFault) -> Int {
    guard content.count >= 8 else { throw .shorterThanLength(bytes: content.count) }
    let length = content[0..<8].array.reversed().reduce(0 as UInt64) { $0 << 8 | UInt64($1) }
    guard length <= UInt64(SafetensorsFile.headerLimit) else { throw .headerTooLong(length) }
    let end = 8 + Int(length)
    guard end <= content.count else { throw .headerPastEnd(header: end, file: content.count) }
    return end
  }

  private static func members(_ text: [UInt8]) throws(SafetensorsFault) -> JSONObject {
    let json: JSON
    do { json = try JSON(parsing: text) } catch { throw .headerNotJSON(error) }
    guard let members = json.object else { throw .headerNotObject }
    return members
  }

  private static func metadata(_ json: JSON) throws(SafetensorsFault) -> [String: String] {
    // mlx writes null.
    if json.isNull { return [:] }
    guard let members = json.object else { throw .metadataNotStrings(key: nil) }
    var metadata: [String: String] = [:]
    for (key, value) in members {
      guard let string = value.string else { throw .metadataNotStrings(key: key) }
      metadata[key] = string
    }
    return metadata
  }

  private static func entry(
    _ name: String, _ json: JSON, dataStart: Int
  ) throws(SafetensorsFault) -> TensorEntry {
    guard let label = try field("dtype", of: json).string else {
      throw .fieldNotReadable("dtype")
    }
    guard let dtype = DType(rawValue: label) else { throw .unknownDType(label) }
    let shape = try integers("shape", of: json)
    let offsets = try integers("data_offsets", of: json)
    guard offsets.count == 2 else { throw .fieldNotReadable("data_offsets") }
    let count = try dtype.byteCount(shape)
    let start = offsets[0].addingReportingOverflow(dataStart)
    let end = offsets[1].addingReportingOverflow(dataStart)
    guard offsets[0] >= 0, offsets[1] >= 0, !start.overflow, !end.overflow else {
      throw .fieldNotReadable("data_offsets")
    }
    guard start.partialValue <= end.partialValue else {
      throw .endsBeforeStart(start: start.partialValue, end: end.partialValue)
    }
    let range = start.partialValue..<end.partialValue
    guard range.count == count else { throw .wrongByteCount(range.count, expected: count) }
    return TensorEntry(name: name, dtype: dtype, shape: shape, range: range)
  }

  private static func field(_ name: String, of json: JSON) throws(SafetensorsFault) -> JSON {
    guard let value = json[name] else { throw .fieldMissing(name) }
    return value
  }

  /// Integers as written: `1.0` is refused, as the reference does.
  private static func integers(
    _ name: String, of json: JSON
  ) throws(SafetensorsFault) -> [Int] {
    guard let array = try field(name, of: json).array else { throw .fieldNotReadable(name) }
    var integers: [Int] = []
    for element in array {
      guard case .integer(let value) = element else { throw .fieldNotReadable(name) }
      integers.append(Int(value))
    }
    return integers
  }

  private func checkTiling(from start: Int, to end: Int) throws(Failure) {
    var expected = start
    for entry in entries {
      guard entry.range.lowerBound == expected else {
        throw Failure(
          tensor: entry.name, fault: .startsAt(entry.range.lowerBound, expected: expected))
      }
      expected = entry.range.upperBound
    }
    guard expected == end else { throw Failure(fault: .dataEndsAt(expected, file: end)) }
  }
}
