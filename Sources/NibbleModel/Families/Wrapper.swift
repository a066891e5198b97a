import NibbleFormats

/// A model of several modalities around a decoder. Its text model is read; the tensors of other
/// modalities are copied unchanged.
struct Wrapper: Sendable {
  /// Value of `model_type`. That of the text model is in `text_config`.
  let modelType: String
  /// Prefix of the tensor names of the text model.
  let prefix: String
  /// Prefixes of the tensor names of the other modalities.
  let towers: [String]

  static let all = [
    Wrapper(
      modelType: "gemma3", prefix: "language_model.",
      towers: ["vision_tower.", "multi_modal_projector."])
  ]

  /// The wrapper that a config describes; nil for a plain text model.
  static func of(_ json: JSON) -> Wrapper? {
    all.first { $0.modelType == json["model_type"]?.string && json["text_config"]?.object != nil }
  }

  /// The config of the text model: `text_config` of a wrapper, else the whole config.
  static func text(of json: JSON) -> JSON {
    of(json) == nil ? json : json["text_config"] ?? .null
  }
}

extension DecoderShape {
  /// The same shape, with all paths below the text model's module in a wrapper.
  func wrapped(in wrapper: Wrapper) -> DecoderShape {
    var shape = self
    func below(_ path: inout String) { path = wrapper.prefix + path }
    func below(_ path: inout String?) { path = path.map { wrapper.prefix + $0 } }
    below(&shape.embedding.path)
    below(&shape.embedding.projection)
    if shape.embedding.positions != nil { below(&shape.embedding.positions!.path) }
    if shape.embedding.norm != nil { below(&shape.embedding.norm!.path) }
    below(&shape.blockPrefix)
    for index in shape.blocks.indices { below(&shape.blocks[index].path) }
    if shape.finalNorm != nil { below(&shape.finalNorm!.path) }
    below(&shape.head.path)
    below(&shape.head.projection)
    shape.towers = wrapper.towers
    return shape
  }

  /// Whether a tensor belongs to another modality, so it is copied unchanged.
  package func isOfTower(_ name: String) -> Bool { towers.contains { name.hasPrefix($0) } }
}
