/// Which linear layers engines put into one, and how ranks share them: by the last components of
/// their paths.
enum FusedModules {
  /// Name of the fused layer, and of its parts in order. Source: `packed_modules_mapping` of vLLM
  /// 0.32.
  static let parts: [(name: String, parts: [String])] = [
    ("qkv_proj", ["q_proj", "k_proj", "v_proj"]),
    ("gate_up_proj", ["gate_proj", "up_proj"]),
    ("w13", ["w1", "w3"]),
    ("fused_qkv_a_proj", ["q_a_proj", "kv_a_proj_with_mqa"]),
    ("in_proj_qkvz", ["in_proj_qkv", "in_proj_z"]),
    ("in_proj_ba", ["in_proj_b", "in_proj_a"]),
  ]

  /// Layers that some families store fused.
  static let storedFused: Set<String> = [
    "qkv_proj", "gate_up_proj", "query_key_value", "Wqkv", "wqkv", "c_attn", "qkv",
  ]

  /// Layers of which every rank has a copy. Source: vLLM 0.32 `deepseek_v2.py`.
  static let replicated: Set<String> = ["q_a_proj", "kv_a_proj_with_mqa"]

  /// Layers whose inputs ranks share, so that each holds some columns.
  static let rowParallel: Set<String> = [
    "o_proj", "down_proj", "w2", "out_proj", "dense", "dense_4h_to_h", "c_proj", "fc2", "wo",
    "proj_out",
  ]

  /// The fused layer that a layer becomes a part of; nil if it stays alone.
  static func fused(_ path: String) -> String? {
    let name = StoredModule.lastComponent(of: path)
    guard let fused = parts.first(where: { $0.parts.contains(name) }) else { return nil }
    return StoredModule.parent(of: path) + "." + fused.name
  }

  /// The parts of a fused layer's path; empty for other layers.
  static func parts(of path: String) -> [String] {
    let name = StoredModule.lastComponent(of: path)
    let parent = StoredModule.parent(of: path)
    return parts.first { $0.name == name }?.parts.map { "\(parent).\($0)" } ?? []
  }
}
