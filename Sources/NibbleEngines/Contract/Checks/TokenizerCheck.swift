import Foundation
import NibbleFormats
import NibbleModel
import NibbleTensor

/// TOK, EOS and VOC: the files beside the weights that make text of tokens.
enum TokenizerCheck {
  /// Parameters: `any`, lists of names of which the folder must have one each.
  static func files(_ facts: CheckpointFacts, _ rule: RuleParameters) -> [Fault] {
    (rule.json["any"]?.array ?? []).compactMap { list in
      let names = list.array?.compactMap(\.string) ?? []
      guard !names.contains(where: { facts.fileNames.contains($0) }) else { return nil }
      return Fault(names.first ?? "", "\(names.joined(separator: " or ")) is not there")
    }
  }

  /// The template in tokenizer_config.json; nil if there is none.
  private static func inlineTemplate(_ facts: CheckpointFacts) -> String? {
    let json = facts.file("tokenizer_config.json")?["chat_template"]
    if let list = json?.array {
      return list.first { $0["name"]?.string == "default" }?["template"]?.string
    }
    return json?.string
  }

  private static func fileTemplate(_ facts: CheckpointFacts) -> String? {
    guard facts.fileNames.contains("chat_template.jinja"),
      let file = try? MappedFile(path: facts.path + "/chat_template.jinja"), file.count <= 1 << 22
    else { return nil }
    return String(validating: Bytes(file, 0..<file.count).array, as: UTF8.self)
  }

  /// Names of turns in a vocabulary: a model that has them was trained to chat.
  private static let marks = [
    "<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|eom_id|>", "<|return|>",
  ]

  /// Parameters: `inline`, whether the engine reads tokenizer_config.json alone.
  static func template(_ facts: CheckpointFacts, _ rule: RuleParameters) -> [Fault] {
    let (inline, file) = (inlineTemplate(facts), fileTemplate(facts))
    if inline == nil, file != nil {
      guard rule.bool("inline") else { return [] }
      return [Fault("tokenizer_config.json", "the chat template is in chat_template.jinja alone")]
    }
    guard inline == nil, !rule.bool("inline"), isTunedForChat(facts) else { return [] }
    return [
      Fault("tokenizer_config.json", "there is no chat template, and the vocabulary has turns")
    ]
  }

  /// Whether the name of the model says that it chats.
  private static func isTunedForChat(_ facts: CheckpointFacts) -> Bool {
    let name = facts.config["_name_or_path"]?.string?.lowercased() ?? ""
    let folder = StoredModule.fileName(of: facts.path).lowercased()
    return ["instruct", "chat", "-it"].contains { name.contains($0) || folder.contains($0) }
  }

  /// Ids of the added tokens, by text.
  private static func addedTokens(_ facts: CheckpointFacts) -> [String: Int] {
    var ids: [String: Int] = [:]
    for token in facts.file("tokenizer.json")?["added_tokens"]?.array ?? [] {
      if let text = token["content"]?.string, let id = token["id"]?.int { ids[text] = id }
    }
    for (id, token) in facts.file("tokenizer_config.json")?["added_tokens_decoder"]?.object
      ?? JSONObject()
    {
      if let text = token["content"]?.string, let id = Int(id) { ids[text] = id }
    }
    return ids
  }

  /// Whether generation ends at the token that the template ends a turn with.
  static func ends(_ facts: CheckpointFacts) -> [Fault] {
    guard let template = inlineTemplate(facts) ?? fileTemplate(facts) else { return [] }
    let ids = addedTokens(facts)
    func ends(_ json: JSON?) -> [Int] {
      json?.int.map { [$0] } ?? json?.array?.compactMap(\.int) ?? []
    }
    let generation = facts.file("generation_config.json")
    var known = ends(generation?["eos_token_id"])
    let place = known.isEmpty ? "config.json: eos_token_id" : "generation_config.json: eos_token_id"
    if known.isEmpty { known = ends(facts.field("eos_token_id")) }
    let token = facts.file("tokenizer_config.json")?["eos_token"]
    if let text = token?.string ?? token?["content"]?.string, let id = ids[text] {
      known.append(id)
    }
    guard !known.isEmpty else { return [] }
    // The template may name the ends of several kinds of turns, of which one must end the text.
    let turns = marks.filter { template.contains($0) }.compactMap { text in
      ids[text].map { (text, $0) }
    }
    guard let first = turns.first, !turns.contains(where: { known.contains($0.1) }) else {
      return []
    }
    return [
      Fault(place, "it does not hold \(first.1), \(first.0), which ends a turn of the template")
    ]
  }

  static func vocabulary(_ facts: CheckpointFacts) -> [Fault] {
    var faults: [Fault] = []
    let table =
      facts.shape.flatMap { facts.modules[$0.embedding.path] }
      ?? facts.modules.values.filter { $0.name == "embed_tokens" }.min { $0.path < $1.path }
    guard let weight = table?["weight"] ?? table?["weight_packed"], weight.shape.count == 2 else {
      return []
    }
    if let size = facts.field("vocab_size")?.int, size != weight.rows {
      faults.append(
        Fault(weight.name, "it has \(weight.rows) rows, and vocab_size is \(size)"))
    }
    if let largest = addedTokens(facts).values.max(), largest >= weight.rows {
      faults.append(
        Fault(
          "tokenizer.json", "token \(largest) has no row among the \(weight.rows) of the embedding")
      )
    }
    return faults
  }
}
