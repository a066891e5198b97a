internal import NibbleFormats

/// The post-processor of a `tokenizer.json` that Nibble makes: one token before a text, one after it.
struct TemplateProcessing {
  /// A token's spelling and its id.
  typealias Token = (name: String, id: Int)

  var begin: Token?
  var end: Token?

  var json: JSON {
    var single: [JSON] = []
    var pair: [JSON] = []
    var special = JSONObject()
    func place(_ token: Token?, second: Bool) {
      guard let token else { return }
      let name = JSON.string(token.name)
      if !second { single.append(["SpecialToken": ["id": name, "type_id": 0]]) }
      pair.append(["SpecialToken": ["id": name, "type_id": second ? 1 : 0]])
      special[token.name] = ["id": name, "ids": [JSON(token.id)], "tokens": [name]]
    }
    place(begin, second: false)
    single.append(["Sequence": ["id": "A", "type_id": 0]])
    pair.append(["Sequence": ["id": "A", "type_id": 0]])
    place(end, second: false)
    place(begin, second: true)
    pair.append(["Sequence": ["id": "B", "type_id": 1]])
    place(end, second: true)
    return [
      "type": "TemplateProcessing", "single": .array(single), "pair": .array(pair),
      "special_tokens": .object(special),
    ]
  }
}
