public import NibbleFormats
public import NibbleTensor

/// The sizes and constants of a decoder, read from config.json and checked.
public struct DecoderConfig: Hashable, Sendable {
  public var family: Family
  public var hidden: Int
  public var intermediate: Int
  public var blocks: Int
  public var attention: Attention
  public var vocabulary: Int
  public var normEpsilon: Float
  public var rotary: RotaryScaling
  /// Positions the model was made for.
  public var context: Int
  /// Whether the head is the embedding.
  public var tiesHead: Bool
  /// Ids that end an answer.
  public var endOfText: [Int]
  /// Whether the config asks for biases of query, key, value and output.
  public var attentionBias: Bool
  /// Whether the config asks for biases of gate, up and down.
  public var feedForwardBias: Bool

  /// - Throws: `ModelError` that names the field and the family it was read for.
  public init(_ json: JSON, path: String) throws(ModelError) {
    family = try Self.family(json, path: path)
    let fields = ConfigFields(json: json, path: path, family: family.name)
    hidden = try fields.size("hidden_size")
    intermediate = try fields.size("intermediate_size")
    blocks = try fields.size("num_hidden_layers", atMost: 10_000)
    vocabulary = try fields.size("vocab_size")
    let heads = try fields.size("num_attention_heads", atMost: 65_536)
    let keyHeads = try fields.optionalSize("num_key_value_heads") ?? heads
    guard heads.isMultiple(of: keyHeads) else {
      throw fields.bad("num_key_value_heads", "does not divide \(heads) heads")
    }
    let headSize: Int
    if let given = try fields.optionalSize("head_dim") {
      headSize = given
    } else {
      guard hidden.isMultiple(of: heads) else {
        throw fields.bad("num_attention_heads", "does not divide hidden_size \(hidden)")
      }
      headSize = hidden / heads
    }
    guard headSize.isMultiple(of: 2) else {
      throw fields.bad("head_dim", "\(headSize) is odd; rotary embedding needs pairs")
    }
    attention = Attention(
      heads: heads, keyHeads: keyHeads, headSize: headSize,
      window: try fields.optionalSize("sliding_window"))
    normEpsilon = Float(try fields.number("rms_norm_eps", in: 1e-12...0.1))
    context = try fields.optionalSize("max_position_embeddings") ?? 2048
    rotary = try RotaryScaling(fields, headSize: headSize, context: context)
    attentionBias = try fields.flag("attention_bias")
    feedForwardBias = try fields.flag("mlp_bias")
    tiesHead = try fields.flag("tie_word_embeddings")
    endOfText = try fields.tokens("eos_token_id")
    let activation = json["hidden_act"] ?? "silu"
    guard activation == "silu" || activation == "swish" else {
      throw fields.bad(
        "hidden_act", "is \(shown(activation.text())); \(family.name) blocks use silu")
    }
  }

  /// Whether a linear must have a bias; one that has it anyway uses it.
  public func needsBias(_ role: Role) -> Bool {
    switch role {
    case .query, .key, .value, .output: attentionBias
    case .gate, .up, .down: feedForwardBias
    }
  }

  /// Outputs and inputs of a linear.
  public func shape(of role: Role) -> (outputs: Int, inputs: Int) {
    let queries = attention.heads * attention.headSize
    let keys = attention.keyHeads * attention.headSize
    return switch role {
    case .query: (queries, hidden)
    case .key, .value: (keys, hidden)
    case .output: (hidden, queries)
    case .gate, .up: (intermediate, hidden)
    case .down: (hidden, intermediate)
    }
  }

  /// Channels of the activation at a site.
  public func inputs(of site: Site) -> Int { shape(of: site.roles[0]).inputs }

  private static func family(_ json: JSON, path: String) throws(ModelError) -> Family {
    guard let type = json["model_type"]?.string else {
      throw .config(path: path, field: "model_type", reason: "is missing")
    }
    if let family = Family.all.first(where: { $0.modelTypes.contains(type) }) { return family }
    throw .unknownFamily(type, path: path)
  }
}

/// Reads numbers from a config and says which field is wrong.
struct ConfigFields {
  let json: JSON
  let path: String
  let family: String

  func bad(_ field: String, _ reason: String) -> ModelError {
    .config(path: path, field: field, reason: reason)
  }

  func optionalSize(_ field: String, atMost limit: Int = 1 << 28) throws(ModelError) -> Int? {
    guard let value = json[field], !value.isNull else { return nil }
    guard let size = value.int, size > 0, size <= limit else {
      throw bad(field, "is \(value.text()); a whole number in 1...\(limit) is needed")
    }
    return size
  }

  func size(_ field: String, atMost limit: Int = 1 << 28) throws(ModelError) -> Int {
    guard let size = try optionalSize(field, atMost: limit) else {
      throw bad(field, "is missing; a \(family) model needs it")
    }
    return size
  }

  func number(_ field: String, in range: ClosedRange<Double>) throws(ModelError) -> Double {
    guard let value = json[field], !value.isNull else {
      throw bad(field, "is missing; a \(family) model needs it")
    }
    guard let number = value.double, range.contains(number) else {
      throw bad(
        field,
        "is \(shown(value.text())); a number in \(range.lowerBound)...\(range.upperBound) is needed"
      )
    }
    return number
  }

  /// False where it is missing or null.
  func flag(_ field: String) throws(ModelError) -> Bool {
    guard let value = json[field], !value.isNull else { return false }
    guard let flag = value.bool else {
      throw bad(field, "is \(shown(value.text())), not true or false")
    }
    return flag
  }

  /// The ids of a token or of a list of them; none where it is missing or null.
  func tokens(_ field: String) throws(ModelError) -> [Int] {
    guard let value = json[field], !value.isNull else { return [] }
    let values = value.array ?? [value]
    let ids = values.compactMap(\.int)
    guard ids.count == values.count else {
      throw bad(field, "is \(shown(value.text())), not the id of a token or a list of such")
    }
    return ids
  }
}
