import NibbleFormats

/// A model of several modalities around a decoder: its text model is read, the towers are carried along.
struct Wrapper: Sendable {
  /// Value of `model_type`; the text model's own stands in `text_config`.
  let modelType: String
  /// What the names of the text model's tensors start with.
  let prefix: String
  /// What the names of the other parts start with.
  let towers: [String]

  static let all = [
    Wrapper(
      modelType: "gemma3", prefix: "language_model.",
      towers: ["vision_tower.", "multi_modal_projector."])
  ]

  /// The wrapper that a config is of; nil for a text model.
  static func of(_ json: JSON) -> Wrapper? {
    all.first { $0.modelType == json["model_type"]?.string && json["text_config"]?.object != nil }
  }

  /// The config of the text model: that inside a wrapper, or the whole.
  static func text(of json: JSON) -> JSON {
    of(json) == nil ? json : json["text_config"] ?? .null
  }
}

extension DecoderShape {
  /// The same shape whose parts lie below a module of a wrapper.
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

  /// Whether a tensor belongs to another modality, and is carried along.
  package func isOfTower(_ name: String) -> Bool { towers.contains { name.hasPrefix($0) } }
}
