import NibbleFormats

/// What llama.cpp demands of a GGUF file: keys, tensors, their order, the tokenizer.
enum GGUFCheck {
  private static func architecture(_ file: GGUFFile) -> String? {
    file.metadata["general.architecture"]?.string
  }

  /// Parameters: `architectures`, those that the loader knows.
  static func architecture(_ facts: CheckpointFacts, _ rule: RuleParameters) -> [Fault] {
    guard let file = facts.gguf else { return [] }
    let name = architecture(file) ?? "missing"
    guard !rule.strings("architectures").contains(name) else { return [] }
    return [Fault("general.architecture", "it is \(shown(name))")]
  }

  /// Parameters: `required`, keys after the name of the architecture; `plain`, whole keys.
  static func keys(_ facts: CheckpointFacts, _ rule: RuleParameters) -> [Fault] {
    guard let file = facts.gguf else { return [] }
    let name = architecture(file) ?? "llama"
    let keys = rule.strings("plain") + rule.strings("required").map { "\(name).\($0)" }
    var faults = keys.filter { file.metadata[$0] == nil }.map { Fault($0, "the key is missing") }
    func int(_ key: String) -> Int? { file.metadata["\(name).\(key)"]?.int }
    if name == "llama", let rotary = int("rope.dimension_count"),
      let size = int("attention.key_length")
        ?? headSize(int("embedding_length"), int("attention.head_count")),
      rotary != size
    {
      faults.append(
        Fault("llama.rope.dimension_count", "it is \(rotary), and heads have \(size) channels"))
    }
    return faults
  }

  private static func headSize(_ hidden: Int?, _ heads: Int?) -> Int? {
    guard let hidden, let heads, heads > 0 else { return nil }
    return hidden / heads
  }

  /// Parameters: `architectures`, by name: `model` and `block`, tensors that must be there; `optional`,
  /// tensors of either kind that may be there, and `any`, lists of which each block has one.
  static func tensors(_ facts: CheckpointFacts, _ rule: RuleParameters) -> [Fault] {
    guard let file = facts.gguf, let name = architecture(file),
      let lists = rule.json["architectures"]?[name], lists.object != nil
    else { return [] }
    let parts = RuleParameters(json: lists)
    let blocks = min(max(0, file.metadata["\(name).block_count"]?.int ?? 0), 1 << 14)
    var wanted = Set(parts.strings("model"))
    for block in 0..<blocks {
      wanted.formUnion(parts.strings("block").map { "blk.\(block).\($0)" })
    }
    let stored = Set(file.tensors.map(\.name))
    var faults = wanted.subtracting(stored).sorted().map { name in
      Fault(name, "the tensor is missing")
    }
    let choices = parts.json["any"]?.array?.map { $0.array?.compactMap(\.string) ?? [] } ?? []
    for block in 0..<blocks {
      for names in choices where !names.contains(where: { stored.contains("blk.\(block).\($0)") }) {
        faults.append(Fault("blk.\(block).\(names.first ?? "")", "the tensor is missing"))
      }
    }
    let optional = Set(parts.strings("optional") + choices.flatMap(\.self))
    for tensor in file.tensors where !wanted.contains(tensor.name) {
      var rest = tensor.name[...]
      if rest.hasPrefix("blk."), let dot = rest.dropFirst(4).firstIndex(of: "."),
        let block = Int(rest.dropFirst(4)[..<dot]), block < blocks
      {
        rest = rest[rest.index(after: dot)...]
      }
      if optional.contains(String(rest)) || rest.hasSuffix(".scale")
        || rest.hasSuffix(".input_scale")
      {
        continue
      }
      faults.append(Fault(shown(tensor.name), "the architecture has no such tensor"))
    }
    return faults + shapes(file, name)
  }

  /// Sizes that follow from the keys.
  private static func shapes(_ file: GGUFFile, _ name: String) -> [Fault] {
    guard let hidden = file.metadata["\(name).embedding_length"]?.int else { return [] }
    return file.tensors.compactMap { tensor in
      let ends = [
        "attn_q.weight", "attn_k.weight", "attn_v.weight", "ffn_gate.weight", "ffn_up.weight",
      ]
      let reads =
        ends.contains { tensor.name.hasSuffix($0) }
        || ["token_embd.weight", "output.weight"].contains(tensor.name)
      guard reads, tensor.shape.count == 2, tensor.rowLength != hidden else { return nil }
      return Fault(shown(tensor.name), "its rows have \(tensor.rowLength) values, not \(hidden)")
    }
  }

  /// Tensors back to back in the order of the header, names of less than 64 bytes.
  static func layout(_ facts: CheckpointFacts) -> [Fault] {
    guard let file = facts.gguf else { return [] }
    let alignment = max(1, file.metadata["general.alignment"]?.int ?? 32)
    var faults: [Fault] = []
    for (left, right) in zip(file.tensors, file.tensors.dropFirst()) {
      let end = left.range.upperBound
      let padded = end.isMultiple(of: alignment) ? end : end - end % alignment + alignment
      if right.range.lowerBound != padded {
        faults.append(
          Fault(shown(right.name), "its data do not follow those of the tensor before it"))
      }
    }
    for tensor in file.tensors where tensor.name.utf8.count >= 64 {
      faults.append(Fault(shown(tensor.name), "its name has 64 bytes or more"))
    }
    return faults
  }

  static func vocabulary(_ facts: CheckpointFacts) -> [Fault] {
    guard let file = facts.gguf, let table = file.tensor("token_embd.weight"),
      case .string(let tokens)? = file.metadata["tokenizer.ggml.tokens"]?.array
    else { return [] }
    guard table.rowCount != tokens.count else { return [] }
    return [
      Fault(
        table.name, "it has \(table.rowCount) rows, and the vocabulary has \(tokens.count) tokens")
    ]
  }

  /// Parameters: `pre`, the pre-tokenizers that the loader knows.
  static func tokenizer(_ facts: CheckpointFacts, _ rule: RuleParameters) -> [Fault] {
    guard let file = facts.gguf else { return [] }
    func value(_ key: String) -> GGUFValue? { file.metadata["tokenizer.ggml.\(key)"] }
    guard let model = value("model")?.string, model != "none" else { return [] }
    let tokens = value("tokens")?.array?.count
    var faults: [Fault] = []
    if tokens == nil { faults.append(Fault("tokenizer.ggml.tokens", "the key is missing")) }
    if model == "gpt2" {
      if (value("merges")?.array?.count ?? 0) == 0 {
        faults.append(Fault("tokenizer.ggml.merges", "the merges are missing"))
      }
      if let pre = value("pre")?.string {
        if !rule.strings("pre").contains(pre) {
          faults.append(Fault("tokenizer.ggml.pre", "it is \(shown(pre))"))
        }
      } else {
        faults.append(Fault("tokenizer.ggml.pre", "the key is missing"))
      }
    } else if model == "llama", value("scores") == nil {
      faults.append(Fault("tokenizer.ggml.scores", "the key is missing"))
    }
    for key in ["scores", "token_type"] {
      if let count = value(key)?.array?.count, let tokens, count < tokens {
        faults.append(
          Fault("tokenizer.ggml.\(key)", "it has fewer entries than there are tokens"))
      }
    }
    for key in ["bos_token_id", "eos_token_id", "unknown_token_id", "padding_token_id"] {
      if let id = value(key)?.int, let tokens, !(0..<tokens).contains(id) {
        faults.append(Fault("tokenizer.ggml.\(key)", "it is no token"))
      }
    }
    return faults
  }

  /// A tokenizer without a first token for which the loader would take its default. Parameters: `pre`,
  /// the pre-tokenizers of such families.
  static func beginning(_ facts: CheckpointFacts, _ rule: RuleParameters) -> [Fault] {
    guard let file = facts.gguf,
      let pre = file.metadata["tokenizer.ggml.pre"]?.string, rule.strings("pre").contains(pre),
      file.metadata["tokenizer.ggml.add_bos_token"]?.bool != false
    else { return [] }
    return [
      Fault(
        "tokenizer.ggml.add_bos_token", "it is not false, and \(pre) models have no first token")
    ]
  }

  /// Norms and vectors are F32.
  static func floats(_ facts: CheckpointFacts) -> [Fault] {
    guard let file = facts.gguf else { return [] }
    return file.tensors.compactMap { tensor in
      let isPlain =
        tensor.shape.count <= 1 || tensor.name.hasSuffix("_norm.weight")
        || tensor.name.hasSuffix("ffn_gate_inp.weight")
      guard isPlain, tensor.type != .f32 else { return nil }
      return Fault(shown(tensor.name), "it is \(tensor.type.name), not F32")
    }
  }
}
