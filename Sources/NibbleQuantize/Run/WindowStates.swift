import NibbleFormats
import NibbleTensor

/// The hidden states of windows, `[t, hidden]` each: in memory, or on disk when there are many.
struct WindowStates {
  private var held: [[Float]] = []
  private var file: ScratchFile?
  /// Where each window lies in the file.
  private let bytes: [Range<Int>]

  /// - Parameters:
  ///   - sizes: floats of each window; 0 for those that are not followed.
  ///   - folder: where a file may be made.
  ///   - heldBytes: states of more bytes go to disk.
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

  /// Floats of each window.
  var sizes: [Int] { bytes.map { $0.count / 4 } }

  /// States of more bytes than these are kept on disk.
  static let heldBytes = 128 << 20
}
