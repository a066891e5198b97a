import NibbleModel
import Synchronization

/// The layer that was read last: its bias and its weight are asked for one after the other, and both
/// come from its codes.
final class LastLayer: Sendable {
  private let kept = Mutex<(path: String, layer: AscendLayer)?>(nil)

  func layer(
    _ path: String, read: () throws(ModelError) -> AscendLayer
  ) throws(ModelError) -> AscendLayer {
    if let last = kept.withLock({ $0 }), last.path == path {
      kept.withLock { $0 = nil }
      return last.layer
    }
    let layer = try read()
    kept.withLock { $0 = (path, layer) }
    return layer
  }
}
