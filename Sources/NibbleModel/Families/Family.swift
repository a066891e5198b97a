package import NibbleFormats

/// A decoder architecture: a function from a config.json to a ``DecoderShape``.
///
/// One file per family. A config key that its function does not read is refused, unless it is known
/// to have no effect. Tensors that the shape does not name are refused, too.
public struct Family: Sendable {
  public let name: String
  /// Values of `model_type` in config.json.
  public let modelTypes: [String]
  /// Keys of config.json with no effect in this family, besides those with no effect in any.
  let harmlessKeys: Set<String>
  /// Suffixes of stored tensors that are not parameters, such as masks.
  let harmlessTensors: [String]
  let shape: @Sendable (ConfigFields) throws(ModelError) -> DecoderShape

  /// - Parameters:
  ///   - modelTypes: values of `model_type` in config.json.
  ///   - harmlessKeys: keys of config.json with no effect in this family.
  ///   - harmlessTensors: suffixes of stored tensors that are not parameters.
  ///   - shape: makes the shape from a config. Keys that it does not read are refused.
  public init(
    _ name: String, modelTypes: [String], harmlessKeys: Set<String> = [],
    harmlessTensors: [String] = [],
    shape: @escaping @Sendable (ConfigFields) throws(ModelError) -> DecoderShape
  ) {
    self.name = name
    self.modelTypes = modelTypes
    self.harmlessKeys = harmlessKeys
    self.harmlessTensors = harmlessTensors
    self.shape = shape
  }

  public static let all: [Family] = [
    llama, opt, qwen2, qwen3, qwen35, qwen35MoE, gemma2, gemma3, gemma4, internLM, internLM2,
    internLM3,
    phi3,
    mixtral, qwen2MoE, qwen3MoE, gptOSS, gpt2, gptNeoX, bloom, smolLM3, olmo2, granite, glm, cohere,
    stableLM,
  ]

  /// The first of some families that has the config's `model_type`.
  static func of(
    _ json: JSON, path: String, among families: [Family]
  ) throws(ModelError) -> Family {
    guard let type = json["model_type"]?.string else {
      throw .config(path: path, field: "model_type", reason: "is missing")
    }
    if let family = families.first(where: { $0.modelTypes.contains(type) }) { return family }
    throw .unknownFamily(type, path: path)
  }
}

extension DecoderShape {
  /// Reads a config with the function of its family.
  ///
  /// - Parameters:
  ///   - families: the known families.
  ///   - ignored: keys that the user declares to have no effect.
  ///   - refusesUnknown: whether a key that may change the arithmetic is an error.
  ///   - holds: whether the checkpoint contains a tensor.
  /// - Throws: `ModelError` that names the field and the family it was read for.
  package init(
    _ json: JSON, path: String, families: [Family] = Family.all,
    ignoring ignored: Set<String> = [], refusesUnknown: Bool = true,
    holds: @escaping (String) -> Bool = { _ in false }
  ) throws(ModelError) {
    let (wrapper, whole) = (Wrapper.of(json), json)
    let json = Wrapper.text(of: json)
    let family = try Family.of(json, path: path, among: families)
    let fields = ConfigFields(json: json, path: path, family: family.name) {
      holds(wrapper?.path(of: $0) ?? $0)
    }
    self = try family.shape(fields)
    if let wrapper { self = wrapped(in: wrapper) }
    endOfText = try fields.integers("eos_token_id")
    if wrapper != nil {
      let outer = ConfigFields(json: whole, path: path, family: family.name)
      endOfText += try outer.integers("eos_token_id").filter { !endOfText.contains($0) }
    }
    let keys = ConfigKeys(shape: self, family: family, json: json, read: fields.read)
    let unknown = keys.unknown(ignoring: ignored)
    guard unknown.isEmpty || !refusesUnknown else {
      throw .unknownKeys(unknown, family: family.name, path: path)
    }
  }
}
