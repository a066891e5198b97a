public import NibbleTensor

/// Why a file could not be read or written. Says where, what, and what to do next.
public enum FormatError: Error, Hashable, Sendable {
  /// A system call failed: a missing file, no permission, a full disk.
  case file(FileError)
  /// The bytes of a safetensors file break the format.
  case safetensors(path: String, tensor: String?, SafetensorsFault)
  /// The tensors asked for cannot become a safetensors file.
  case layout(tensor: String?, SafetensorsFault)
  /// The files of a checkpoint do not belong together.
  case checkpoint(folder: String, CheckpointFault)
  /// A safetensors file was not written as its layout says.
  case writer(path: String, WriterFault)
}

extension FormatError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .file(let error):
      error.isMissing ? "\(error). Check the path." : "\(error)"
    case .safetensors(let path, let tensor, let fault):
      "\(path): \(tensor.map { "\($0): " } ?? "")\(fault). "
        + "The file is damaged or not safetensors; fetch it again."
    case .layout(let tensor, let fault):
      "\(tensor.map { "\($0): " } ?? "")\(fault). It cannot be written as safetensors."
    case .checkpoint(let folder, let fault): "\(folder): \(fault)"
    case .writer(let path, let fault): "\(path): \(fault)"
    }
  }
}
