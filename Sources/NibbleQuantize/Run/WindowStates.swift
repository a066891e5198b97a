import NibbleFormats
import NibbleTensor

/// Hidden states `[t, hidden]` of each token window: in memory, or on disk above a size.
struct WindowStates {
  private var held: [[Float]] = []
  private var file: ScratchFile?
  /// Byte range of each window in the file.
  private let bytes: [Range<Int>]

  /// - Parameters:
  ///   - sizes: floats per window; 0 for windows without hidden states.
  ///   - folder: where a file may be created.
  ///   - heldBytes: above this size in bytes, the hidden states are on disk.
  init(
    sizes: [Int], in folder: String, heldBytes: Int = Self.heldBytes
  ) throws(QuantizeError) {
    var end = 0
    bytes = sizes.map { size in
      defer { end += 4 * size }
      return end..<end + 4 * size
    }
    if end > heldBytes {
      do { file = try ScratchFile(in: folder, count: end) } catch { throw .format(.file(error)) }
    } else {
      held = sizes.map { [Float](repeating: 0, count: $0) }
    }
  }

  subscript(index: Int) -> [Float] {
    get { file?.floats(at: bytes[index]) ?? held[index] }
    _modify {
      if let file {
        var states = file.floats(at: bytes[index])
        defer { file.write(states, at: bytes[index].lowerBound) }
        yield &states
      } else {
        yield &held[index]
      }
    }
  }

  /// Number of floats per window.
  var sizes: [Int] { bytes.map { $0.count / 4 } }

  /// Largest size in bytes of hidden states in memory.
  static let heldBytes = 128 << 20
}
