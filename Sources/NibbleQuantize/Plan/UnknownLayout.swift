import NibbleFormats
import NibbleModel

/// Layers whose storage in engines can only be guessed from names and shapes: those of unknown
/// families, and stacked experts of any family.
///
/// Matrices `[outputs, inputs]` of single modules load as quantized linears: tested with
/// transformers 5.23 for gpt_neox, qwen2, gemma3_text and the attention of gpt_oss. Other layouts
/// are refused until Nibble supports the family.
struct UnknownLayout {
  let checkpoint: Checkpoint
  let layers: [Plan.Layer]
  let exporter: any Exporter

  func refusals() -> [Refusal] {
    let family = shown(checkpoint.config["model_type"]?.string ?? "unknown")
    return [transposed(family), singleExperts(family), stackedExperts()].compactMap(\.self)
      .map { .engine($0) }
  }

  /// Conv1D stores `[inputs, outputs]`. Row-wise rounding would give one scale per input.
  private func transposed(_ family: String) -> String? {
    let names: Set = ["c_attn", "c_fc"]
    let found = checkpoint.tensors.filter { tensor in
      let parts = tensor.name.split(separator: ".").map(String.init)
      return tensor.shape.count == 2 && parts.last == "weight" && parts.count > 1
        && names.contains(parts[parts.count - 2]) && tensor.shape[0] < tensor.shape[1]
    }
    guard let first = found.first else { return nil }
    return
      "\(Self.name(first, found.count)): the weights of \(family) lie inputs first, [\(first.shape[0]), "
      + "\(first.shape[1])], and engines do not load them as quantized linears. Use a version that knows "
      + "\(family), or another model."
  }

  /// Experts that are one module each on disk, but one stacked tensor in the engine.
  private func singleExperts(_ family: String) -> String? {
    let found = layers.filter { $0.path.split(separator: ".").contains("experts") }
    guard let first = found.first else { return nil }
    return
      "\(first.path)\(found.count > 1 ? " and \(found.count - 1) more" : ""): engines join the experts of "
      + "\(family) as they load them, which fails for quantized ones in the format \(exporter.name). Use "
      + "a version that knows \(family), or another model."
  }

  /// Experts in one tensor with three dimensions, which stays float. Convolutions of one channel each
  /// are `[channels, 1, kernel]`.
  func stackedExperts() -> String? {
    let type = checkpoint.config["model_type"]?.string ?? ""
    guard !exporter.familiesWithFloatExperts.contains(type) else { return nil }
    let found = checkpoint.tensors.filter {
      $0.shape.count > 2 && !$0.shape.contains(1) && $0.dtype.floatFormat != nil
        && UnitSorter.block(of: $0.name) != nil
    }
    let bytes = found.reduce(0) { $0 + $1.byteCount }
    let all = checkpoint.tensors.reduce(0) { $0 + $1.byteCount }
    guard let first = found.first, bytes > all / 100 else { return nil }
    return
      "\(Self.name(first, found.count)): weights of \(first.shape.count) dimensions stay float, and no "
      + "engine was seen to load the format \(exporter.name) so for \(shown(type)). Use --format "
      + "compressed-tensors, a version that knows \(shown(type)), or another model."
  }

  private static func name(_ tensor: Checkpoint.Tensor, _ count: Int) -> String {
    count == 1 ? shown(tensor.name) : "\(shown(tensor.name)) and \(count - 1) more"
  }
}
