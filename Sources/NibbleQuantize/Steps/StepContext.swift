import NibbleModel
import NibbleTensor

/// What a step works with besides its block: the engine that will read the result, and the hidden
/// states of both models.
public struct StepContext {
  let exporter: any Exporter
  let compute: Compute
  /// The float block, as it is stored.
  let source: Block
  /// Nil when no text runs through the model.
  var streams: StateStreams?

  /// Rounds a block site by site, over the calibration windows of the quantized model. See
  /// `StateStreams.roundInOrder`.
  mutating func roundInOrder(
    _ block: inout WorkingBlock, aligning alignment: Alignment? = nil,
    _ round: (inout WorkingBlock, SiteShape, SiteTargets) -> Void
  ) -> [StepReport] {
    let source = source
    return streams?.roundInOrder(&block, from: source, aligning: alignment, round) ?? []
  }
}
