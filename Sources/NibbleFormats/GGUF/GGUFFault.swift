/// A fault in the bytes of a GGUF file.
public enum GGUFFault: Error, Hashable, Sendable {
  case notGGUF
  case bigEndian
  case version(UInt32)
  case endsEarly
  case countPastEnd(UInt64)
  case valueType(UInt32)
  case notBool(UInt8)
  case nestedTooDeep
  case keyTooLong(Int)
  case keyNotASCII
  case duplicateKey
  /// Nil when the value is not a u32.
  case alignment(UInt32?)
  case nameTooLong(Int)
  case nameNotUTF8
  case duplicateTensor
  case dimensions(UInt32)
  case tooManyElements([UInt64])
  case tensorType(UInt32)
  case rowNotWhole(Int, GGMLType)
  case offsetNotAligned(UInt64, Int)
  case dataPastEnd(offset: UInt64, bytes: Int, room: Int)
  case overlaps(String)
}

extension GGUFFault: CustomStringConvertible {
  public var description: String {
    switch self {
    case .notGGUF: "the file does not begin with GGUF"
    case .bigEndian: "the file is big-endian"
    case .version(let version):
      "version \(version) of GGUF is not 2 or 3"
    case .endsEarly: "the file ends here"
    case .countPastEnd(let count): "\(count) elements do not fit in the rest of the file"
    case .valueType(let type): "there is no value type \(type)"
    case .notBool(let byte): "a bool is \(byte)"
    case .nestedTooDeep: "arrays are nested deeper than \(GGUFCursor.depthLimit)"
    case .keyTooLong(let count): "a key of \(count) bytes is over the limit of 65535"
    case .keyNotASCII: "a key is not ASCII"
    case .duplicateKey: "the key stands twice"
    case .alignment(let value):
      (value.map { "an alignment of \($0)" } ?? "the alignment")
        + " is not a u32 that is a power of two in 8...\(GGUFHeader.alignmentLimit)"
    case .nameTooLong(let count): "a tensor name of \(count) bytes is over the limit of 64"
    case .nameNotUTF8: "a tensor name is not UTF-8"
    case .duplicateTensor: "the tensor stands twice"
    case .dimensions(let count): "\(count) dimensions are over the limit of 4"
    case .tooManyElements(let shape): "the size of the shape \(shown(shape)) overflows"
    case .tensorType(let type):
      "there is no tensor type \(type)"
    case .rowNotWhole(let k, let type):
      "rows of \(k) elements are not whole blocks of \(type.blockElements), as \(type.name) needs"
    case .offsetNotAligned(let offset, let alignment):
      "the offset \(offset) is not a multiple of \(alignment)"
    case .dataPastEnd(let offset, let bytes, let room):
      "\(bytes) bytes at offset \(offset) do not fit in \(room) bytes of data"
    case .overlaps(let other): "the data overlaps that of \(shown(other))"
    }
  }

  /// Advice for the user.
  var advice: String {
    switch self {
    case .notGGUF: "Give the path of a .gguf file."
    case .bigEndian: "Convert it to little-endian with gguf-convert-endian."
    case .version, .tensorType: "Convert the model again with a current llama.cpp, to Q8_0."
    default: "The file is damaged; fetch it again."
    }
  }
}
