import Foundation
import NibbleFormats
import NibbleModel
import NibbleTensor
import Testing

@Suite struct DecoderShapeTests {
  private static let llama: JSON = [
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100, "rms_norm_eps": 1e-5,
    "max_position_embeddings": 512,
  ]

  private func config(_ changes: [String: JSON]) throws -> DecoderShape {
    var json = Self.llama
    for (field, value) in changes { json.set(field, value) }
    return try DecoderShape(json, path: "a/config.json")
  }

  private func rotary(_ changes: [String: JSON]) throws -> RotaryShape {
    try #require(config(changes).attentions[0].rotary)
  }

  /// `inv_freq` of transformers 5.23.0, head size 16, theta 10000: Tests/Golden/golden.py.
  private static let frequencies: [String: [Float]] = [
    "default": [
      1, 0.316227764, 0.100000001, 0.0316227786, 0.00999999978, 0.00316227786, 0.00100000005,
      0.000316227786,
    ],
    "linear": [
      0.5, 0.158113882, 0.0500000007, 0.0158113893, 0.00499999989, 0.00158113893, 0.000500000024,
      0.000158113893,
    ],
    "llama3": [
      0.576056361, 0.0395284705, 0.0125000002, 0.00395284733, 0.00124999997, 0.000395284733,
      0.000125000006, 3.95284733e-05,
    ],
  ]

  private static let scalings: [String: JSON] = [
    "default": ["rope_type": "default"],
    "linear": ["rope_type": "linear", "factor": 2.0],
    "llama3": [
      "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
      "original_max_position_embeddings": 16,
    ],
  ]

  @Test(arguments: ["default", "linear", "llama3"])
  func frequenciesAreThoseOfTransformers(_ kind: String) throws {
    let scaling = try #require(Self.scalings[kind])
    var old = scaling
    old.set("type", old["rope_type"])
    old.set("rope_type", nil)
    var new = scaling
    new.set("rope_theta", 10000.0)
    for changes in [
      ["rope_scaling": scaling], ["rope_scaling": old, "rope_theta": 10000.0],
      ["rope_parameters": new, "rope_theta": 7.0],
    ] as [[String: JSON]] {
      let ours = try rotary(changes).frequencies(positions: 512)
      let theirs = try #require(Self.frequencies[kind])
      // powf of two libraries and the ramp's order of operations differ in the last two bits.
      for (x, y) in zip(ours, theirs) { #expect(abs(x - y) <= 3e-7 * y, "\(x) for \(y)") }
      #expect(ours.count == theirs.count)
    }
  }

  @Test func llama3KeepsShortWavesDividesLongOnesAndRampsBetween() throws {
    // The published numbers of Llama 3.1, by its formula in double.
    let scaling: JSON = [
      "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
      "original_max_position_embeddings": 8192,
    ]
    let ours = try rotary([
      "head_dim": 128, "rope_theta": 500000.0, "rope_scaling": scaling,
    ]).frequencies(positions: 512)
    var kinds: Set<String> = []
    for (i, found) in ours.enumerated() {
      let plain = pow(500_000, -2 * Double(i) / 128)
      let wave = 2 * Double.pi / plain
      let smooth = (8192 / wave - 1) / 3
      let expected: Double
      if wave < 2048 {
        (expected, _) = (plain, kinds.insert("short"))
      } else if wave > 8192 {
        (expected, _) = (plain / 8, kinds.insert("long"))
      } else {
        (expected, _) = ((1 - smooth) * plain / 8 + smooth * plain, kinds.insert("between"))
      }
      #expect(abs(Double(found) / expected - 1) < 1e-5, "\(i)")
    }
    #expect(kinds.count == 3)
  }

  /// The base grows with the positions that a sequence may have, beyond those the model was made for:
  /// `t (factor · n / M - (factor - 1))^(d / (d - 2))`, d 16, M 512.
  @Test func dynamicScalingFollowsTheCapacity() throws {
    let dynamic = try rotary(["rope_scaling": ["rope_type": "dynamic", "factor": 2.0]])
    let plain = try rotary([:]).frequencies(positions: 512)
    #expect(dynamic.frequencies(positions: 512) == plain)
    for (index, found) in dynamic.frequencies(positions: 1024).enumerated() {
      let base = 10_000 * pow(3, 16.0 / 14)
      #expect(abs(Double(found) / pow(base, -2 * Double(index) / 16) - 1) < 1e-6)
    }
  }

  @Test func sizesThatTheFileLeavesOutFollowFromTheOthers() throws {
    let plain = try config([:])
    #expect(plain.attentions[0].core.headSize == 16 && plain.attentions[0].core.window == nil)
    #expect(plain.head.isTied == false && plain.endOfText == [])
    let other = try config([
      "head_dim": 10, "num_key_value_heads": .null, "sliding_window": 7, "eos_token_id": [1, 2],
      "tie_word_embeddings": true, "model_type": "mistral",
    ])
    let core = other.attentions[0].core
    #expect(core.headSize == 10 && core.keyHeads == 4)
    #expect(core.window == 7 && other.endOfText == [1, 2] && other.head.isTied)
    let sizes = other.blocks[0].linears.map { [$0.outputs, $0.inputs] }
    #expect(
      sizes == [[40, 64], [40, 64], [40, 64], [64, 40], [96, 64], [96, 64], [64, 96]])
    #expect(try config(["eos_token_id": 3]).endOfText == [3])
  }

  @Test(arguments: [
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "vocab_size", "head_dim", "sliding_window", "max_position_embeddings",
  ])
  func aSizeThatIsNoneIsRefusedByItsName(_ field: String) {
    let values: [JSON] = [
      0, -1, 1.5, "64", [64], ["n": 1], true, .number(.infinity), .number(.nan), 1e30,
      JSON(Int.max), .integer(.min),
    ]
    for value in values {
      do {
        let config = try config([field: value])
        Issue.record("\(value) became \(config)")
      } catch { #expect("\(error)".contains(field), "\(error)") }
    }
  }

  @Test(
    arguments: [
      ("hidden_act", 3), ("hidden_act", "mish"), ("eos_token_id", "x"),
      ("eos_token_id", [1, "x"]), ("eos_token_id", 1.5), ("attention_bias", "no"), ("mlp_bias", 1),
      ("tie_word_embeddings", "true"), ("rope_parameters", "x"), ("rope_parameters", []),
      ("rope_scaling", 3), ("rope_theta", "x"), ("rope_theta", []),
      ("rms_norm_eps", 0), ("rms_norm_eps", -1e-5), ("rms_norm_eps", 1e308), ("rms_norm_eps", 1),
      ("rms_norm_eps", 1e-30), ("rms_norm_eps", "1e-5"), ("rms_norm_eps", .number(.nan)),
      ("rms_norm_eps", .null),
    ] as [(String, JSON)])
  func aValueOfAWrongKindOrRangeIsRefusedByName(_ field: String, _ value: JSON) {
    do {
      let config = try config([field: value])
      Issue.record("\(field) \(value) became \(config)")
    } catch { #expect("\(error)".contains("a/config.json: \(field) "), "\(error)") }
  }

  @Test func nullIsAsGoodAsNothing() throws {
    let config = try config([
      "eos_token_id": .null, "attention_bias": .null, "mlp_bias": .null,
      "tie_word_embeddings": .null, "rope_scaling": .null, "rope_parameters": .null,
      "rope_theta": .null,
    ])
    #expect(config == (try self.config([:])))
  }

  @Test(
    arguments: [
      ["rope_parameters": ["rope_theta": "x"]], ["rope_parameters": ["rope_theta": .null]],
      ["rope_parameters": ["rope_theta": []]], ["rope_parameters": ["rope_type": 3]],
      ["rope_scaling": ["type": .null]], ["rope_theta": 1e300],
      ["rope_theta": 0.0], ["rope_theta": -1.0], ["rope_theta": .number(.infinity)],
      ["rope_scaling": ["rope_type": "linear"]],
      ["rope_scaling": ["rope_type": "linear", "factor": 0]],
      ["rope_scaling": ["rope_type": "linear", "factor": "2"]],
      ["rope_scaling": ["rope_type": "yarn", "factor": 0]],
      ["rope_scaling": ["rope_type": "su", "factor": 2]],
      [
        "rope_scaling": [
          "rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 1,
          "original_max_position_embeddings": 8192,
        ]
      ],
    ] as [[String: JSON]])
  func aRotaryScalingThatCannotBeFollowedIsRefused(_ changes: [String: JSON]) {
    do {
      let config = try config(changes)
      Issue.record("\(changes) became \(config)")
    } catch { #expect("\(error)".contains("rope"), "\(error)") }
  }

  @Test(arguments: ["mamba", "opt-ish", "llama4", ""])
  func anUnknownFamilyIsNamedWithThoseThatRun(_ type: String) {
    do {
      _ = try config(["model_type": .string(type)])
      Issue.record("\(type) is known")
    } catch {
      #expect(error as? ModelError == .unknownFamily(type, path: "a/config.json"))
      #expect("\(error)".contains("\"\(type)\""), "\(error)")
      for family in Family.all {
        for known in [family.name] + family.modelTypes { #expect("\(error)".contains(known)) }
      }
      #expect(!"\(error)".contains("nearest"))
    }
  }
}
