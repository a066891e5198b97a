import NibbleFormats

/// A model of several modalities around a decoder. Its text model is read; the tensors of other
/// modalities are copied unchanged.
struct Wrapper: Sendable {
  /// Value of `model_type`. That of the text model is in `text_config`.
  let modelType: String
  /// Beginning of the paths of a plain text model that the wrapper changes. Other paths, such as
  /// that of the head, stay.
  var plain = ""
  /// What replaces it.
  let prefix: String
  /// Prefixes of the tensor names of the other modalities.
  let towers: [String]

  static let all = [
    Wrapper(
      modelType: "gemma3", prefix: "language_model.",
      towers: ["vision_tower.", "multi_modal_projector."]),
    Wrapper(
      modelType: "gemma4", plain: "model.", prefix: "model.language_model.",
      towers: [
        "model.vision_tower.", "model.audio_tower.", "model.embed_vision.", "model.embed_audio.",
      ]),
    Wrapper(
      modelType: "qwen3_5", plain: "model.", prefix: "model.language_model.",
      towers: ["model.visual."]),
    Wrapper(
      modelType: "qwen3_5_moe", plain: "model.", prefix: "model.language_model.",
      towers: ["model.visual."]),
  ]

  /// The wrapper that a config describes; nil for a plain text model.
  static func of(_ json: JSON) -> Wrapper? {
    all.first { $0.modelType == json["model_type"]?.string && json["text_config"]?.object != nil }
  }

  /// The config of the text model: `text_config` of a wrapper, else the whole config. Whether the
  /// head is tied is up to the wrapper, if it says so.
  static func text(of json: JSON) -> JSON {
    guard of(json) != nil, var text = json["text_config"] else { return json }
    if let tied = json["tie_word_embeddings"], !tied.isNull {
      text.set("tie_word_embeddings", tied)
    }
    return text
  }

  /// The path in the wrapper of a module or tensor of a plain text model.
  func path(of path: String) -> String {
    path.hasPrefix(plain) ? prefix + path.dropFirst(plain.count) : path
  }
}

extension DecoderShape {
  /// The same shape, with all paths as they are in a wrapper.
  func wrapped(in wrapper: Wrapper) -> DecoderShape {
    var shape = self
    func move(_ path: inout String) { path = wrapper.path(of: path) }
    func move(_ path: inout String?) { path = path.map { wrapper.path(of: $0) } }
    move(&shape.embedding.path)
    move(&shape.embedding.projection)
    if shape.embedding.positions != nil { move(&shape.embedding.positions!.path) }
    if shape.embedding.norm != nil { move(&shape.embedding.norm!.path) }
    if shape.embedding.blockInputs != nil {
      move(&shape.embedding.blockInputs!.path)
      move(&shape.embedding.blockInputs!.projection)
      move(&shape.embedding.blockInputs!.norm.path)
    }
    move(&shape.blockPrefix)
    for index in shape.blocks.indices { move(&shape.blocks[index].path) }
    if shape.finalNorm != nil { move(&shape.finalNorm!.path) }
    move(&shape.head.path)
    move(&shape.head.projection)
    shape.towers += wrapper.towers
    return shape
  }

  /// Whether a tensor belongs to another modality or to a block that drafts tokens, so it is copied
  /// unchanged.
  package func isOfTower(_ name: String) -> Bool { towers.contains { name.hasPrefix($0) } }
}
