import NibbleFormats
import NibbleTensor
import TinyModel

/// A sound file that the hostile ones change: one f32 matrix.
let soundTorch = TorchFile([.init("w", .f32, [2, 2], storage: 0)], storages: [Array(0..<16)])

/// What a file is refused for, and the name that the error gives; nil where it is read.
func torchFailure(_ file: [UInt8]) -> (name: String?, fault: PyTorchFault)? {
  do throws(FormatError) {
    _ = try PyTorchFile(parsing: Bytes(file), path: "hostile")
    return nil
  } catch {
    guard case .pytorch("hostile", let name, let fault) = error, !error.description.isEmpty else {
      return nil
    }
    return (name, fault)
  }
}

/// `steps`, so many times.
func repeated(_ count: Int, _ steps: [UInt8]) -> [UInt8] {
  var bytes: [UInt8] = []
  bytes.reserveCapacity(count * steps.count)
  for _ in 0..<count { bytes += steps }
  return bytes
}

/// The first four parts of a reference to storage 0.
let hostileStorage =
  TorchFile.text("storage") + TorchFile.global("torch", "FloatStorage") + TorchFile.text("0")
  + TorchFile.text("cpu")
