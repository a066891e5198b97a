import NibbleModel
import Synchronization

/// Caches the module that was read last: its weight and bias, and those of the layers fused in it,
/// are requested one after the other and all come from its codes.
final class LastLayer: Sendable {
  private let kept = Mutex<(path: String, layer: AscendLayer)?>(nil)

  func layer(
    _ path: String, read: () throws(ModelError) -> AscendLayer
  ) throws(ModelError) -> AscendLayer {
    if let last = kept.withLock({ $0 }), last.path == path { return last.layer }
    let layer = try read()
    kept.withLock { $0 = (path, layer) }
    return layer
  }
}
