public import NibbleTensor

/// Reasons why a file could not be read or written. Each says where, what, and what to do next.
public enum FormatError: Error, Hashable, Sendable {
  /// A system call failed: a missing file, no permission, a full disk.
  case file(FileError)
  /// The bytes of a safetensors file break the format.
  case safetensors(path: String, tensor: String?, SafetensorsFault)
  /// The requested tensors cannot be stored in a safetensors file.
  case layout(tensor: String?, SafetensorsFault)
  /// The files of a checkpoint are inconsistent.
  case checkpoint(folder: String, CheckpointFault)
  /// A safetensors file was not written according to its layout.
  case writer(path: String, WriterFault)
  /// The bytes of a GGUF file break the format, at or before `byte`.
  case gguf(path: String, name: String?, byte: Int, GGUFFault)
  /// A file of torch.save breaks the format, or contains more than a state dict. `name` is that of
  /// a tensor, or of a file in the archive.
  case pytorch(path: String, name: String?, PyTorchFault)
  /// A known tensor type without a decoder here.
  case undecodable(GGMLType)
}

extension FormatError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .file(let error):
      error.isMissing ? "\(error). Check the path." : "\(error)"
    case .safetensors(let path, let tensor, let fault):
      "\(path): \(tensor.map { shown($0) + ": " } ?? "")\(fault). "
        + "The file is damaged or not safetensors; fetch it again."
    case .layout(let tensor, let fault):
      "\(tensor.map { shown($0) + ": " } ?? "")\(fault). It cannot be written as safetensors."
    case .checkpoint(let folder, let fault): "\(folder): \(fault)"
    case .writer(let path, let fault): "\(path): \(fault)"
    case .gguf(let path, let name, let byte, let fault):
      "\(path): byte \(byte): \(name.map { shown($0) + ": " } ?? "")\(fault). \(fault.advice)"
    case .pytorch(let path, let name, let fault):
      "\(path): \(name.map { shown($0) + ": " } ?? "")\(fault). \(fault.advice)"
    case .undecodable(let type):
      "tensors of type \(type.name) cannot be read. Requantize the model with llama.cpp to one of "
        + GGMLType.allCases.filter(\.isDecodable).map(\.name).joined(separator: ", ") + "."
    }
  }
}
