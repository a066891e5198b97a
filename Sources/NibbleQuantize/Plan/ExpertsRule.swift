import NibbleModel
import NibbleTensor

/// What engines require of the experts of a block: all of their layers have one scheme, or none is
/// quantized, and int8 activations are dynamic. Source: vLLM 0.32, fused MoE of compressed-tensors.
struct ExpertsRule {
  let decoder: DecoderShape
  let units: [Plan.Unit]

  /// One refusal, for the first block that breaks the rule.
  var refusal: Refusal? {
    for unit in units {
      guard let block = unit.block, let experts = decoder.blocks[block].experts,
        let fault = fault(of: unit.layers, experts.expertLinears, block)
      else { continue }
      return .engine(fault)
    }
    return nil
  }

  private func fault(of all: [Plan.Layer], _ ids: Set<LinearID>, _ block: Int) -> String? {
    let layers = all.filter { $0.linear.map(ids.contains) == true }
    guard let first = layers.first else { return nil }
    if layers.count < ids.count {
      return
        "block \(block): \(ids.count - layers.count) of the \(ids.count) layers of its experts stay "
        + "float, and engines join all experts of a block. Keep all of them float (\"*.experts.*\"), or "
        + "none."
    }
    if let other = layers.first(where: { $0.scheme != first.scheme }) {
      return
        "\(other.path): engines join all experts of a block, and \(other.scheme) is not the scheme of "
        + "\(first.path). Give all of them one scheme (\"*.experts.*\")."
    }
    if let activations = first.scheme.activations, activations.isStatic,
      activations.format == .int8
    {
      return
        "\(first.path): engines do not take experts with static int8 activations. Use a recipe with "
        + "dynamic ones, such as w8a8-smooth, or fp8-static."
    }
    return nil
  }
}
