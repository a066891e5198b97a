public import NibbleFormats

/// A tokenizer whose tokens are bytes, so that every text can be read.
public enum ByteTokenizer {
  /// tokenizer.json: 256 tokens spelled as byte-level BPE spells the bytes, and no merges.
  public static let json: JSON = {
    var vocabulary = JSONObject()
    var next: UInt32 = 256
    for byte in UInt32(0)..<256 {
      let isShown = (33...126).contains(byte) || (161...172).contains(byte) || byte >= 174
      let scalar = isShown ? byte : next
      if !isShown { next += 1 }
      vocabulary[String(Character(Unicode.Scalar(scalar)!))] = JSON(Int(byte))
    }
    let byteLevel: JSON = [
      "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true,
    ]
    return [
      "version": "1.0", "added_tokens": [], "normalizer": .null, "pre_tokenizer": byteLevel,
      "post_processor": .null, "decoder": byteLevel,
      "model": [
        "type": "BPE", "dropout": .null, "unk_token": .null, "vocab": .object(vocabulary),
        "merges": [],
      ],
    ]
  }()

  /// The same with `<end>`, 256, which ends a text.
  public static let jsonWithEnd: JSON = {
    var json = ByteTokenizer.json
    json.set(
      "added_tokens",
      [
        [
          "id": 256, "content": "<end>", "single_word": false, "lstrip": false, "rstrip": false,
          "normalized": false, "special": true,
        ]
      ])
    return json
  }()
}
