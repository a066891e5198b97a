internal import NibbleFormats

extension GGUFSource {
  func byteLevelPipeline() throws(TokenizerError) -> Pipeline {
    let pre = try GGUFPreTokenizer(gguf.pre)
    var merges: [JSON] = []
    merges.reserveCapacity(gguf.merges.count)
    for (rank, bytes) in gguf.merges.enumerated() {
      // A token may begin with a space; the separator is the first space after the first byte.
      guard String(validating: bytes, as: UTF8.self) != nil,
        let space = bytes.dropFirst().firstIndex(of: 0x20), space + 1 < bytes.count
      else { throw .badGGUF("merge \(rank) is not two tokens") }
      merges.append([
        .string(String(decoding: bytes[..<space], as: UTF8.self)),
        .string(String(decoding: bytes[(space + 1)...], as: UTF8.self)),
      ])
    }
    return Pipeline(
      preTokenizer: pre.json,
      decoder: [
        "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true,
      ],
      model: try model(
        merges: merges, unknown: nil, byteFallback: false, ignoresMerges: pre.ignoresMerges),
      addsBOS: pre.addsBOS)
  }

  func sentencePiecePipeline() throws(TokenizerError) -> Pipeline {
    guard gguf.scores.count == tokens.count else {
      throw .badGGUF("the model llama needs a score for each token")
    }
    let mark = "\u{2581}"
    let prefixes = gguf.addSpacePrefix ?? true
    let replace: JSON = ["type": "Replace", "pattern": ["String": " "], "content": .string(mark)]
    var decoders: [JSON] = [
      ["type": "Replace", "pattern": ["String": .string(mark)], "content": " "],
      ["type": "ByteFallback"], ["type": "Fuse"],
    ]
    if prefixes { decoders.append(["type": "Strip", "content": " ", "start": 1, "stop": 0]) }
    let normalizer: JSON =
      prefixes
      ? [
        "type": "Sequence",
        "normalizers": [["type": "Prepend", "prepend": .string(mark)], replace],
      ] : replace
    let unknown = gguf.unknown ?? gguf.types.firstIndex(of: 2)
    return Pipeline(
      normalizer: normalizer, decoder: ["type": "Sequence", "decoders": .array(decoders)],
      model: try model(
        merges: scoredMerges(), unknown: unknown, byteFallback: true, ignoresMerges: false),
      addsBOS: true)
  }

  private func model(
    merges: [JSON], unknown: Int?, byteFallback: Bool, ignoresMerges: Bool
  ) throws(TokenizerError) -> JSON {
    [
      "type": "BPE", "dropout": .null, "unk_token": unknown.map { .string(tokens[$0]) } ?? .null,
      "continuing_subword_prefix": .null, "end_of_word_suffix": .null,
      "fuse_unk": .bool(byteFallback),
      "byte_fallback": .bool(byteFallback), "ignore_merges": .bool(ignoresMerges),
      "vocab": try vocabulary, "merges": .array(merges),
    ]
  }

  /// Only normal tokens (and user-defined ones, which are found earlier) result from merges:
  /// unknown, control, unused and byte tokens are not text.
  private func scoredMerges() throws(TokenizerError) -> [JSON] {
    func isText(_ id: Int) -> Bool {
      gguf.types.isEmpty || gguf.types[id] == 1 || gguf.types[id] == 4
    }
    if let id = gguf.scores.indices.first(where: { isText($0) && gguf.scores[$0].isNaN }) {
      throw .badGGUF("the score of token \(id) is not a number")
    }
    return try ScoredMerges(of: gguf.tokens, scores: gguf.scores, cut: .scalars, where: isText)
      .pairs.map { [.string(tokens[$0.left]), .string(tokens[$0.right])] }
  }
}
