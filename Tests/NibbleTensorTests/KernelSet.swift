import CNibble
import Testing

/// The kernels of one instruction set that runs here.
struct KernelSet: CustomTestStringConvertible, Sendable {
  let index: Int

  /// Plain C, the specification, first.
  static let all: [KernelSet] = {
    var count = 0
    while unsafe nibble_kernels_at(count) != nil { count += 1 }
    return (0..<count).map { KernelSet(index: $0) }
  }()

  var kernels: nibble_kernels { unsafe nibble_kernels_at(index)!.pointee }
  var name: String { unsafe String(cString: kernels.name) }
  var testDescription: String { name }
}
