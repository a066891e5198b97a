/// A fault in a file of PyTorch, or content that no state dict needs.
public enum PyTorchFault: Error, Hashable, Sendable {
  /// Written by torch.save before version 1.6, which did not use ZIP.
  case beforeZip
  case notZip
  case zip(ZipFault)
  case noPickle
  case severalPickles(String, String)
  case pickleTooLong(Int)
  case byteOrder(String)
  case pickle(byte: Int, PickleFault)
  case notStateDict(String)
  case nameNotText(String)
  case nameNotUTF8
  case notTensor(String)
  case duplicateName
  case dimensions(Int)
  case sizesNotIntegers
  case shape(SafetensorsFault)
  case notContiguous(shape: [Int], strides: [Int])
  case noStorage(String)
  case storageSize(String, elements: Int, dtype: DType, found: Int)
  case outsideStorage(String, offset: Int, shape: [Int], elements: Int)
}

/// A fault, and the file of the archive or the tensor that has it.
struct PyTorchFailure: Error {
  var name: String?
  var fault: PyTorchFault

  init(_ name: String?, _ fault: PyTorchFault) {
    self.name = name
    self.fault = fault
  }
}

extension PyTorchFault: CustomStringConvertible {
  public var description: String {
    switch self {
    case .beforeZip: "the file has the format of torch before 1.6, which is not a ZIP archive"
    case .notZip: "the file does not begin like a ZIP archive, which torch.save writes"
    case .zip(let fault): "\(fault)"
    case .noPickle: "the archive holds no data.pkl"
    case .severalPickles(let first, let second):
      "the archive holds both \(shown(first)) and \(shown(second))"
    case .pickleTooLong(let count):
      "a data.pkl of \(count) bytes is over the limit of \(PickleMachine.byteLimit)"
    case .byteOrder(let order): "the byte order is \"\(shown(order))\", not little"
    case .pickle(let byte, let fault): "byte \(byte): \(fault)"
    case .notStateDict(let kind): "the file holds \(kind), not a state dict"
    case .nameNotText(let kind): "a key of the state dict is \(kind), not a string"
    case .nameNotUTF8: "a key of the state dict is not UTF-8"
    case .notTensor(let kind): "the state dict holds \(kind) here, not a tensor"
    case .duplicateName: "the name stands twice in the state dict"
    case .dimensions(let count):
      "\(count) dimensions are over the limit of \(StateDict.dimensionLimit)"
    case .sizesNotIntegers: "its shape and strides are not integers, as many of each"
    case .shape(let fault): "\(fault)"
    case .notContiguous(let shape, let strides):
      "a view of shape \(shown(shape)) with strides \(shown(strides)), which is not contiguous"
    case .noStorage(let key): "its storage \"\(shown(key))\" is not in the archive"
    case .storageSize(let key, let elements, let dtype, let found):
      "its storage \(shown(key)) claims \(elements) elements of \(dtype.rawValue) and has "
        + "\(found) bytes"
    case .outsideStorage(let key, let offset, let shape, let elements):
      "a shape of \(shown(shape)) from element \(offset) on does not fit in the \(elements) elements "
        + "of its storage \(shown(key))"
    }
  }

  /// Advice for the user.
  var advice: String {
    switch self {
    case .beforeZip:
      "Load it with torch.load(path, weights_only=True) and write it again with torch.save, or with "
        + "save_pretrained as safetensors."
    case .notZip:
      "It is damaged, the pointer of a file that Git LFS did not fetch, or not of PyTorch; fetch it "
        + "again."
    case .byteOrder: "Write it again on a little-endian machine."
    case .pickle(_, let fault): fault.advice
    case .notStateDict, .nameNotText, .notTensor:
      "Save model.state_dict() alone, or write the model with save_pretrained."
    case .notContiguous:
      "Write it again with every tensor made contiguous, or with save_pretrained as safetensors."
    case .zip(.encrypted), .zip(.compressed):
      "Write it again with torch.save."
    default: "The file is damaged; fetch it again."
    }
  }
}
