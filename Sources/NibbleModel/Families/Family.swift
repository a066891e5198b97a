package import NibbleFormats

/// A decoder architecture: a function from a config to a ``DecoderShape``.
///
/// Each family is a file of its own. What its function does not read of a config is refused, unless
/// it is known to change nothing; so are tensors that the shape does not name.
public struct Family: Sendable {
  public let name: String
  /// Values of `model_type` in config.json.
  public let modelTypes: [String]
  /// Keys of config.json that change nothing in this family, beside those that change nothing in any.
  let harmlessKeys: Set<String>
  /// Ends of names of stored tensors that are not parameters, such as masks.
  let harmlessTensors: [String]
  let shape: @Sendable (ConfigFields) throws(ModelError) -> DecoderShape

  /// - Parameters:
  ///   - modelTypes: values of `model_type` in config.json.
  ///   - harmlessKeys: keys of config.json that change nothing in this family.
  ///   - harmlessTensors: what names of stored tensors end with that are not parameters.
  ///   - shape: makes the shape of a config. What it does not read is refused.
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
    llama, opt, qwen2, qwen3, gemma2, gemma3, internLM, internLM2, internLM3, phi3, mixtral,
    qwen2MoE,
    qwen3MoE, gptOSS, gpt2, gptNeoX, bloom, smolLM3, olmo2, granite, glm, cohere, stableLM,
  ]

  /// The family of a config, the first of some.
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
  /// Reads a config by its family.
  ///
  /// - Parameters:
  ///   - families: those that are known.
  ///   - ignored: keys that whoever runs the model says change nothing.
  ///   - refusesUnknown: whether a key that may change the arithmetic is an error.
  ///   - holds: whether the checkpoint stores a tensor.
  /// - Throws: `ModelError` that names the field and the family it was read for.
  package init(
    _ json: JSON, path: String, families: [Family] = Family.all,
    ignoring ignored: Set<String> = [], refusesUnknown: Bool = true,
    holds: @escaping (String) -> Bool = { _ in false }
  ) throws(ModelError) {
    let (wrapper, whole) = (Wrapper.of(json), json)
    let json = Wrapper.text(of: json)
    let family = try Family.of(json, path: path, among: families)
    let prefix = wrapper?.prefix ?? ""
    let fields = ConfigFields(json: json, path: path, family: family.name) { holds(prefix + $0) }
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
