/// A fault in the bytes of a safetensors file, or in a layout for one.
public enum SafetensorsFault: Error, Hashable, Sendable {
  case shorterThanLength(bytes: Int)
  case headerTooLong(UInt64)
  case headerPastEnd(header: Int, file: Int)
  case headerNotJSON(JSONError)
  case headerNotObject
  case metadataNotStrings(key: String?)
  case fieldMissing(String)
  case fieldNotReadable(String)
  case unknownDType(String)
  case negativeDimension(Int)
  case tooManyElements([Int])
  case endsInsideByte(DType, [Int])
  case startsAt(Int, expected: Int)
  case endsBeforeStart(start: Int, end: Int)
  case wrongByteCount(Int, expected: Int)
  case dataEndsAt(Int, file: Int)
  case duplicateName
  case reservedName
}

extension SafetensorsFault: CustomStringConvertible {
  public var description: String {
    switch self {
    case .shorterThanLength(let bytes):
      "\(bytes) bytes are too few for the length of a header"
    case .headerTooLong(let length):
      "a header of \(length) bytes is over the limit of \(SafetensorsFile.headerLimit)"
    case .headerPastEnd(let header, let file):
      "the header ends at byte \(header), the file at byte \(file)"
    case .headerNotJSON(let error): "the header is not JSON at \(shown("\(error)"))"
    case .headerNotObject: "the header is not a JSON object"
    case .metadataNotStrings(let key):
      if let key {
        "__metadata__ holds something other than a string for \"\(shown(key))\""
      } else {
        "__metadata__ is not an object of strings"
      }
    case .fieldMissing(let field): "\(field) is missing"
    case .fieldNotReadable(let field): "\(field) is not what the format allows"
    case .unknownDType(let name): "there is no dtype \"\(shown(name))\""
    case .negativeDimension(let size): "a dimension is \(size)"
    case .tooManyElements(let shape): "the size of the shape \(shown(shape)) overflows"
    case .endsInsideByte(let dtype, let shape):
      "\(shown(shape)) elements of \(dtype.rawValue) end inside a byte"
    case .startsAt(let start, let expected):
      "the data starts at \(start), but the data before it ends at \(expected)"
    case .endsBeforeStart(let start, let end): "the data starts at \(start) and ends at \(end)"
    case .wrongByteCount(let count, let expected):
      "the header gives it \(count) bytes, its shape needs \(expected)"
    case .dataEndsAt(let end, let file):
      "the last tensor ends at byte \(end), the file at byte \(file)"
    case .duplicateName: "the name stands twice"
    case .reservedName: "__metadata__ cannot name a tensor"
    }
  }
}
