/// What a linear layer is in its block.
public enum Role: String, Hashable, Sendable, Codable, CaseIterable {
  case query, key, value, output, gate, up, down
}

/// A decoder architecture as data: what its parts are called on disk, and which linears share an
/// input.
public struct Family: Hashable, Sendable {
  public var name: String
  /// Values of `model_type` in config.json that this block shape fits.
  public var modelTypes: [String]
  /// Values of `general.architecture` in a GGUF file.
  public var ggufArchitectures: [String]
  /// Module paths below a block, in the order in which the block computes them.
  public var linears: [Linear]
  /// Prefix of block `i`: this, the number, a full stop.
  public var blockPrefix: String
  public var inputNorm: String
  public var postAttentionNorm: String
  public var embedding: String
  public var finalNorm: String
  public var head: String
  /// Keys of config.json that change nothing in this family, beside those that change nothing in any.
  public var harmlessKeys: Set<String> = []

  public struct Linear: Hashable, Sendable {
    public var role: Role
    public var path: String
  }

  /// `model.layers.3.self_attn.q_proj` and the like.
  public func path(of role: Role, block: Int) -> String {
    let linear = linears.first { $0.role == role }
    precondition(linear != nil, "\(name) has no \(role)")
    return "\(blockPrefix)\(block).\(linear?.path ?? "")"
  }

  /// `self_attn` and the like: the module that query, key and value belong to, below a block.
  var attention: String {
    let key = linears.first { $0.role == .key }?.path ?? ""
    return key.split(separator: ".").dropLast().joined(separator: ".")
  }

  /// `model.layers.3.self_attn` and the like.
  public func attentionPath(block: Int) -> String { "\(blockPrefix)\(block).\(attention)" }

  public func normPath(_ norm: String, block: Int) -> String { "\(blockPrefix)\(block).\(norm)" }
}

extension Family {
  /// Llama 1, 2, 3 and 3.1, Mistral, SmolLM: RMS norm, rotary grouped-query attention, gated SiLU.
  public static let llama = Family(
    name: "Llama",
    modelTypes: ["llama", "mistral", "smollm"],
    ggufArchitectures: ["llama"],
    linears: [
      Linear(role: .query, path: "self_attn.q_proj"), Linear(role: .key, path: "self_attn.k_proj"),
      Linear(role: .value, path: "self_attn.v_proj"),
      Linear(role: .output, path: "self_attn.o_proj"), Linear(role: .gate, path: "mlp.gate_proj"),
      Linear(role: .up, path: "mlp.up_proj"), Linear(role: .down, path: "mlp.down_proj"),
    ],
    blockPrefix: "model.layers.",
    inputNorm: "input_layernorm",
    postAttentionNorm: "post_attention_layernorm",
    embedding: "model.embed_tokens",
    finalNorm: "model.norm",
    head: "lm_head")

  public static let all = [llama]
}
