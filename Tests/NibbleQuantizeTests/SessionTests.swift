import Foundation
import NibbleEngines
import NibbleFormats
import NibbleModel
import NibbleTensor
import Testing
import TinyModel

/// Logits by the name of a model in Tests/Golden/golden.py.
enum GoldenModel {
  static let names = GoldenLogits.logits.keys.sorted()

  /// Writes the model and loads it.
  static func load(_ name: String, in folder: String) throws -> Decoder {
    var model = TinyModel()
    (model.blocks, model.hidden, model.intermediate) = (2, 32, 40)
    (model.heads, model.keyHeads, model.headSize, model.vocabulary) = (4, 2, 8, 13)
    var config: [String: JSON] = [:]
    switch name {
    case "headSizeOfItsOwn":
      (model.hidden, model.heads, model.keyHeads, model.headSize) = (24, 3, 1, 10)
      (model.tiesHead, model.seed) = (true, 2)
    case "biases":
      (model.heads, model.keyHeads, model.headSize, model.seed) = (2, 2, 16, 3)
      config = ["attention_bias": true, "mlp_bias": true]
    case "llama3Rope":
      model.seed = 4
      config["rope_scaling"] = llama3
    case "linearRope":
      model.seed = 5
      config["rope_scaling"] = ["rope_type": "linear", "factor": 2.0]
    case "slidingWindow":
      (model.modelType, model.seed) = ("mistral", 6)
      config["sliding_window"] = 3
    default: break
    }
    let path = folder + "/" + name
    try model.write(in: path, config: config)
    if name == "biases" { try addBiases(to: model, in: path, config) }
    return try LoadedModel(path: path).decoder
  }

  static let llama3: JSON = [
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
  ]

  private static func addBiases(
    to model: TinyModel, in path: String, _ config: [String: JSON]
  ) throws {
    var random = TinyRandom(state: model.seed + 100)
    let biases = model.tensors.filter { $0.name.contains("_proj") }.map { weight in
      (
        SafetensorsLayout.Tensor(
          name: weight.name.replacingOccurrences(of: ".weight", with: ".bias"), dtype: .f16,
          shape: [weight.shape[0]]),
        (0..<weight.shape[0]).map { _ in 0.5 * random.next() }
      )
    }
    try model.write(in: path, adding: biases)
    var json = model.config
    for (field, value) in config { json.set(field, value) }
    try Data(json.text().utf8).write(to: URL(fileURLWithPath: path + "/config.json"))
  }
}

@Suite struct SessionTests {
  private let compute = Compute(threads: 2, precision: .f32)

  /// Logits after each token, `[t][vocabulary]`.
  private func logits(_ decoder: Decoder, _ tokens: [Int], parts: [Int]) throws -> [[Float]] {
    var session = try Session(decoder, capacity: tokens.count, on: compute)
    let vocabulary = decoder.shape.vocabulary
    var rows: [[Float]] = []
    var at = 0
    for part in parts {
      let states = try session.states(after: Array(tokens[at..<at + part]))
      session.withLogits(states, 0..<part) { all in
        for row in 0..<part { rows.append(Array(all[row * vocabulary..<(row + 1) * vocabulary])) }
      }
      at += part
    }
    return rows
  }

  private func distance(_ a: [[Float]], _ b: [[Float]]) -> Float {
    zip(a.joined(), b.joined()).reduce(0) { max($0, abs($1.0 - $1.1)) }
  }

  @Test(arguments: GoldenModel.names)
  func logitsAreThoseOfTransformers(_ name: String) throws {
    try inTemporaryFolder { folder in
      let decoder = try GoldenModel.load(name, in: folder)
      let expected = try #require(GoldenLogits.logits[name])
      let ours = try logits(decoder, GoldenLogits.tokens, parts: [8])
      #expect(expected.count == 8 * 13 && ours.joined().count == expected.count)
      // Six decimals are recorded; float sums in another order differ by about 1e-6.
      #expect(zip(ours.joined(), expected).allSatisfy { abs($0 - $1) < 2e-5 })
    }
  }

  @Test func theGoldenModelsDifferFromOneAnother() throws {
    try inTemporaryFolder { folder in
      // The scalings and the window change the logits, so that the golden test can fail.
      for (name, plain) in [("llama3Rope", 4), ("linearRope", 5), ("slidingWindow", 6)] {
        let decoder = try GoldenModel.load(name, in: folder)
        var model = TinyModel()
        (model.blocks, model.hidden, model.intermediate) = (2, 32, 40)
        (model.heads, model.keyHeads, model.headSize, model.vocabulary) = (4, 2, 8, 13)
        model.seed = UInt64(plain)
        try model.write(in: folder + "/\(plain)", config: [:])
        let other = try LoadedModel(path: folder + "/\(plain)").decoder
        let difference = distance(
          try logits(decoder, GoldenLogits.tokens, parts: [8]),
          try logits(other, GoldenLogits.tokens, parts: [8]))
        #expect(difference > 1e-2, "\(name)")
      }
    }
  }

  @Test(arguments: GoldenModel.names)
  func readingTokensAtOnceOrOneByOneGivesTheSameLogits(_ name: String) throws {
    try inTemporaryFolder { folder in
      let decoder = try GoldenModel.load(name, in: folder)
      let tokens = someTokens(33, below: 13)
      let whole = try logits(decoder, tokens, parts: [33])
      for parts in [[Int](repeating: 1, count: 33), [1, 31, 1], [16, 17], [4, 5, 24], [32, 1]] {
        let pieces = try logits(decoder, tokens, parts: parts)
        // Products of few rows sum in another order than those of many.
        #expect(distance(whole, pieces) < 1e-4, "\(name) \(parts)")
      }
    }
  }

  @Test func aLongPrefillCrossesTheSlabsOfAttention() throws {
    try inTemporaryFolder { folder in
      for name in ["plain", "slidingWindow"] {
        let decoder = try GoldenModel.load(name, in: folder)
        let tokens = someTokens(300, below: 13)
        let whole = try logits(decoder, tokens, parts: [300])
        let pieces = try logits(decoder, tokens, parts: [127, 1, 129, 43])
        #expect(distance(whole, pieces) < 1e-4, "\(name)")
      }
    }
  }

  @Test func whatWasForgottenLeavesNoTrace() throws {
    try inTemporaryFolder { folder in
      let decoder = try GoldenModel.load("plain", in: folder)
      let tokens = someTokens(20, below: 13)
      var session = try Session(decoder, capacity: 20, on: compute)
      let first = try session.append(tokens)
      session.truncate(to: 7)
      #expect(session.count == 7)
      _ = try session.append(someTokens(10, below: 13, seed: 9))
      session.truncate(to: 7)
      let again = try session.append(Array(tokens[7...]))
      #expect(distance([first], [again]) < 1e-4)
      session.truncate(to: 0)
      #expect(try session.append(tokens) == first, "the same products give the same bits")
    }
  }

  @Test func laterTokensDoNotReachBack() throws {
    try inTemporaryFolder { folder in
      let decoder = try GoldenModel.load("plain", in: folder)
      let tokens = someTokens(16, below: 13)
      let whole = try logits(decoder, tokens, parts: [16])
      var other = tokens
      other[12] = (other[12] + 1) % 13
      let changed = try logits(decoder, other, parts: [16])
      #expect(Array(whole[..<12]) == Array(changed[..<12]))
      #expect(distance(Array(whole[12...]), Array(changed[12...])) > 1e-3)
    }
  }

  @Test func aSlidingWindowHidesWhatLiesBeforeIt() throws {
    try inTemporaryFolder { folder in
      // Two blocks of window 3: a token reaches back 2 positions a block, 4 in all.
      let decoder = try GoldenModel.load("slidingWindow", in: folder)
      let tokens = someTokens(12, below: 13)
      var other = tokens
      other[0] = (other[0] + 1) % 13
      let (a, b) = (
        try logits(decoder, tokens, parts: [12]), try logits(decoder, other, parts: [12])
      )
      #expect(Array(a[5...]) == Array(b[5...]))
      for t in 0...4 { #expect(distance([a[t]], [b[t]]) > 1e-5, "position \(t)") }
    }
  }

  @Test func moreTokensThanTheCacheHoldsIsAnErrorThatChangesNothing() throws {
    try inTemporaryFolder { folder in
      let decoder = try GoldenModel.load("plain", in: folder)
      var session = try Session(decoder, capacity: 5, on: compute)
      _ = try session.append([1, 2, 3])
      #expect(throws: ModelError.self) { try session.append([4, 5, 6]) }
      #expect(throws: ModelError.tokenOutsideVocabulary(13, vocabulary: 13)) {
        try session.append([13])
      }
      #expect(session.count == 3)
      let last = try session.append([4, 5])
      var fresh = try Session(decoder, capacity: 5, on: compute)
      #expect(distance([last], [try fresh.append([1, 2, 3, 4, 5])]) < 1e-4)
    }
  }

  @Test func oneThreadAndTwoGiveTheSameBits() throws {
    try inTemporaryFolder { folder in
      let decoder = try GoldenModel.load("plain", in: folder)
      let tokens = someTokens(150, below: 13)
      let results = try [1, 2].map { threads in
        var session = try Session(
          decoder, capacity: 151, on: Compute(threads: threads, precision: .f32))
        return [try session.append(tokens), try session.append([1])]
      }
      #expect(results[0] == results[1])
    }
  }
}
