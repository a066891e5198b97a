import NibbleFormats
import NibbleTensor
import TinyModel

/// A libFuzzer target: whatever bytes say, as a whole file of torch.save or as the pickle of a sound one,
/// they are refused, or every tensor lies inside the file.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOneInput(_ data: UnsafePointer<UInt8>, _ count: Int) -> CInt {
  let bytes = unsafe [UInt8](UnsafeBufferPointer(start: data, count: count))
  read(bytes)
  read(TorchFile([], storages: [[UInt8](repeating: 7, count: 64)]).archive(bytes).bytes)
  return 0
}

private func read(_ file: [UInt8]) {
  do throws(FormatError) {
    let read = try PyTorchFile(parsing: Bytes(file), path: "fuzz")
    for entry in read.entries {
      precondition(read.bytes(of: entry.name)?.count == entry.byteCount, entry.name)
    }
    precondition(read.storedBytes <= file.count, "\(read.storedBytes) bytes")
  } catch { precondition(!error.description.isEmpty) }
}
