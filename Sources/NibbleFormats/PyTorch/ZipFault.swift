/// A fault in a ZIP archive, or a feature that torch.save does not use.
public enum ZipFault: Error, Hashable, Sendable {
  case noDirectory
  case zip64NotReadable
  case severalDisks
  case directoryTooLong(UInt64)
  case directoryOutside(offset: UInt64, bytes: UInt64, expectedEnd: Int)
  case directoryNotReadable(byte: Int)
  case entryCount(UInt64, found: Int)
  case nameNotUTF8
  case nameTooLong(Int)
  case duplicateName
  case encrypted
  case compressed(method: UInt16)
  case sizesDiffer(packed: UInt64, unpacked: UInt64)
  case headerOutside(UInt64)
  case headersDiffer(String)
  case dataOutside(offset: Int, bytes: UInt64, end: Int)
  case overlaps(String)
}

extension ZipFault: CustomStringConvertible {
  public var description: String {
    switch self {
    case .noDirectory: "the file does not end with the directory of a ZIP archive, so it is cut off"
    case .zip64NotReadable: "the 64-bit record at the end of the archive cannot be read"
    case .severalDisks: "the archive is split over several files"
    case .directoryTooLong(let count):
      "a directory of \(count) bytes is over the limit of \(ZipArchive.directoryLimit)"
    case .directoryOutside(let offset, let bytes, let end):
      "a directory of \(bytes) bytes at offset \(offset) does not end at \(end)"
    case .directoryNotReadable(let byte): "the directory cannot be read at its byte \(byte)"
    case .entryCount(let count, let found):
      "the archive announces \(count) files, and its directory lists \(found)"
    case .nameNotUTF8: "the name of a file is not UTF-8"
    case .nameTooLong(let count):
      "a name of \(count) bytes is over the limit of \(ZipArchive.nameLimit)"
    case .duplicateName: "the name stands twice in the archive"
    case .encrypted: "it is encrypted"
    case .compressed(let method): "it is compressed (method \(method)); torch.save only stores"
    case .sizesDiffer(let packed, let unpacked):
      "it takes \(packed) bytes and claims to hold \(unpacked)"
    case .headerOutside(let offset): "its header at offset \(offset) is outside the archive"
    case .headersDiffer(let field):
      "its \(field) differs between its header and the directory"
    case .dataOutside(let offset, let bytes, let end):
      "\(bytes) bytes at offset \(offset) do not fit before the directory at \(end)"
    case .overlaps(let other): "it overlaps \(shown(other))"
    }
  }
}
