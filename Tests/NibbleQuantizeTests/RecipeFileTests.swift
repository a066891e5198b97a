import Foundation
import NibbleFormats
import NibbleModel
import NibbleTensor
import Testing
import TinyModel

@testable import NibbleQuantize

@Suite struct RecipeFileTests {
  private func read(_ data: Data) throws -> Recipe {
    try inTemporaryFolder { folder in
      let path = folder + "/mine.yaml"
      try data.write(to: URL(fileURLWithPath: path))
      return try Recipe(path: path)
    }
  }

  private func read(_ text: String) throws -> Recipe { try read(Data(text.utf8)) }

  /// The reason why a file is refused; nil when it is read.
  private func fault(_ data: Data) throws -> String? {
    do {
      _ = try read(data)
      return nil
    } catch QuantizeError.recipeFile(let path, let reason) {
      #expect(path.hasSuffix("/mine.yaml") && !reason.isEmpty)
      return reason
    }
  }

  @Test func everyFieldIsRead() throws {
    let recipe = try read(
      """
      name: careful
      summary: "what it is for"
      weights: {format: int4, symmetric: false, group: 64}
      activations: {format: fp8, group: 128}
      exceptions:                       # the first that matches counts
        - layers: "*.mlp.down_proj"
          weights: {format: int8, per: tensor}
          activations: {format: int8, static: true, symmetric: false}
        - {layers: "*.0.*", keep: float}
      steps:
        - smooth: {strength: 0.25, norms_only: true, shift: true, norm_bias: true}
        - awq: {steps: 7}
        - gptq: {damping: 0.5, activation_order: false, search: extremes, align: {damping: 0.05, residual: false}}
      max_kl: 0.375
      quantize_head: true
      kv_cache: {format: int8, ranks: 2}
      """)
    var gptq = GPTQ()
    (gptq.damping, gptq.activationOrder, gptq.search) = (0.5, false, .extremes)
    gptq.alignment = Alignment(damping: 0.05, usesResidual: false)
    var awq = AWQ()
    awq.steps = 7
    var expected = Recipe(
      name: "careful", summary: "what it is for",
      scheme: LinearScheme(
        weights: WeightScheme(format: .int(bits: 4, symmetric: false), granularity: .group(64)),
        activations: .dynamicPerGroup(.e4m3, 128)),
      steps: [
        Smooth(strength: 0.25, normsOnly: true, shifts: true, biasesNorms: true),
        awq, gptq,
      ], maxKL: 0.375)
    expected.cache = KeyValueScheme(.int8, ranks: 2)
    expected.quantizesHead = true
    expected.exceptions = [
      Recipe.Exception(
        pattern: "*.mlp.down_proj",
        scheme: LinearScheme(
          weights: WeightScheme(format: .int(bits: 8, symmetric: true), granularity: .tensor),
          activations: .staticAsymmetric)), Recipe.Exception(pattern: "*.0.*", scheme: nil),
    ]
    #expect(recipe == expected)
  }

  @Test func whatIsLeftOutHasADefault() throws {
    let recipe = try read("weights: {format: fp8}\n")
    #expect(
      recipe
        == Recipe(
          name: "mine.yaml", summary: "",
          scheme: LinearScheme(weights: WeightScheme(format: .e4m3, granularity: .channel)),
          steps: [Round()], maxKL: 0.1))
    #expect(try read("weights: {format: int8}\nactivations: float").scheme.activations == nil)
    let steps = try read("weights: {format: int8}\nsteps: [smooth, awq, gptq, round]").steps
    #expect(
      StepList(wrappedValue: steps)
        == StepList(wrappedValue: [Smooth(), AWQ(), GPTQ(), Round()]))
  }

  @Test(
    arguments: [
      ("{format: int4}", .int(bits: 4, symmetric: true), .channel),
      ("{format: int8, symmetric: false, per: channel}", .int(bits: 8, symmetric: false), .channel),
      ("{format: fp8, per: tensor}", .e4m3, .tensor),
      ("{format: fp8, block: [128, 64]}", .e4m3, .block(rows: 128, columns: 64)),
      ("{format: int8, row_groups: 48}", .int(bits: 8, symmetric: true), .rowGroups(48)),
      ("{format: int4, group: 2}", .int(bits: 4, symmetric: true), .group(2)),
      ("{format: mxfp4}", .mxfp4, .group(32)), ("{format: nvfp4, group: 16}", .nvfp4, .group(16)),
      ("{format: e2m1, group: 32}", .minifloat(.e2m1), .group(32)),
      ("{format: e2m5}", .minifloat(.e2m5), .channel), ("{format: e4m3}", .e4m3, .channel),
      ("{format: e5m2, per: tensor}", .minifloat(.e5m2), .tensor),
    ] as [(String, WeightScheme.Format, WeightScheme.Granularity)])
  func weightsAreRead(
    _ text: String, _ format: WeightScheme.Format, _ granularity: WeightScheme.Granularity
  ) throws {
    #expect(
      try read("weights: \(text)").scheme.weights
        == WeightScheme(format: format, granularity: granularity))
  }

  @Test(
    arguments: [
      ("{format: int8}", .dynamicPerToken(.int8)),
      ("{format: fp8, per: token}", .dynamicPerToken(.e4m3)),
      ("{format: int8, per: tensor}", .dynamicPerTensor(.int8)),
      ("{format: fp8, group: 16}", .dynamicPerGroup(.e4m3, 16)),
      ("{format: int8, static: true}", .staticPerTensor(.int8)),
      ("{format: fp8, static: true, per: tensor}", .staticPerTensor(.e4m3)),
      ("{format: int8, static: true, symmetric: false}", .staticAsymmetric),
    ] as [(String, ActivationScheme)])
  func activationsAreRead(_ text: String, _ scheme: ActivationScheme) throws {
    #expect(try read("weights: {format: int8}\nactivations: \(text)").scheme.activations == scheme)
  }

  @Test(arguments: [
    ("{search: extremes}", ScaleSearch.extremes), ("{search: shrink}", .shrink(steps: 20)),
    ("{search: clip}", .clip), ("{search: codes}", .codes), ("{}", .extremes),
  ])
  func searchesAreRead(_ text: String, _ search: ScaleSearch) throws {
    #expect(
      StepList(
        wrappedValue: try read("weights: {format: int8}\nsteps: [{round: \(text)}]").steps)
        == StepList(wrappedValue: [Round(search: search)]))
  }

  /// Lines after `weights: {format: int8}`, and what the error names.
  @Test(arguments: [
    ("wieghts: 3", "wieghts"), ("3: 4", "3"), ("? [a]\n: b", "text"),
    ("max_kl: soon", "max_kl"), ("max_kl: .nan", "max_kl"), ("max_kl: .inf", "max_kl"),
    ("max_kl: [0.1]", "max_kl"), ("quantize_head: 3", "quantize_head"), ("name: [a]", "name"),
    ("summary: {a: b}", "summary"), ("activations: 8", "activations"),
    ("activations: [int8]", "activations"), ("activations: {format: int4}", "int4"),
    ("activations: {static: true}", "format"),
    ("activations: {format: int8, symmetric: false}", "asymmetric"),
    ("activations: {format: fp8, static: true, symmetric: false}", "asymmetric"),
    ("activations: {format: int8, group: 64}", "group"),
    ("activations: {format: fp8, group: 64, static: true}", "group"),
    ("activations: {format: fp8, group: 8}", "group"),
    ("activations: {format: int8, per: channel}", "channel"),
    ("activations: {format: int8, per: token, static: true}", "tensor"),
    ("activations: {format: int8, bits: 8}", "bits"), ("steps: round", "steps"),
    ("steps: {round: {}}", "steps"), ("steps: [rond]", "rond"), ("steps: [3]", "3"),
    ("steps: [{round: {}, gptq: {}}]", "step"), ("steps: [[round]]", "step"),
    ("steps: [{round: shrink}]", "round"), ("steps: [{round: {search: best}}]", "best"),
    ("steps: [{round: {steps: 3}}]", "steps"), ("steps: [{smooth: {strength: 1.5}}]", "strength"),
    ("steps: [{smooth: {strength: -0.1}}]", "strength"), ("steps: [{smooth: {alpha: 1}}]", "alpha"),
    ("steps: [{smooth: {shift: 2}}]", "shift"),
    ("steps: [{smooth: {norm_bias: no_}}]", "norm_bias"),
    ("steps: [{awq: {steps: 0}}]", "steps"), ("steps: [{awq: {steps: 2.5}}]", "steps"),
    ("steps: [{awq: {steps: 99999999999999999999}}]", "steps"),
    ("steps: [{gptq: {damping: -1}}]", "damping"), ("steps: [{gptq: {damping: 1e300}}]", "damping"),
    ("steps: [{gptq: {activation_order: 2}}]", "activation_order"),
    ("steps: [{gptq: {align: 3}}]", "align"), ("steps: [{gptq: {align: {damping: 0}}}]", "damping"),
    ("steps: [{gptq: {align: {lambda: 1}}}]", "lambda"),
    ("steps: [{outlier_round: {deviations: 3, align: true}}]", "align"),
    ("candidates: 3", "candidates"), ("candidates: [int8]", "candidate"),
    ("candidates: [{weights: {format: int8}}]", "instead"), ("exceptions: {}", "exceptions"),
    ("exceptions: [a]", "exception"),
    ("exceptions: [{keep: float}]", "layers"),
    ("exceptions: [{layers: [a], keep: float}]", "layers"),
    ("exceptions: [{layers: a, keep: int8}]", "int8"), ("exceptions: [{layers: a}]", "weights"),
    ("exceptions: [{layers: a, keep: float, weights: {format: int8}}]", "keep"),
    ("exceptions: [{layers: a, format: int8}]", "format"),
  ])
  func whatIsWrongIsNamed(_ text: String, _ word: String) throws {
    let reason = try #require(try fault(Data("weights: {format: int8}\n\(text)\n".utf8)), "\(text)")
    #expect(reason.contains(word), "\(text): \(reason)")
  }

  @Test(arguments: [
    "int8", "[int8]", "{}", "{format: int9}", "{format: 8}", "{format: fp8, symmetric: false}",
    "{format: int8, group: 1}", "{format: int8, group: -4}", "{format: int8, group: 1.5}",
    "{format: int8, group: 64, per: channel}", "{format: int8, row_groups: 0}",
    "{format: int8, block: 128}", "{format: int8, block: [128]}", "{format: int8, block: [0, 1]}",
    "{format: int8, block: [1, 2, 3]}", "{format: int8, block: [a, 2]}", "{format: int8, per: row}",
    "{format: mxfp4, group: 16}", "{format: nvfp4, per: channel}", "{format: mxfp4, per: tensor}",
    "{format: nvfp4, symmetric: false}", "{format: e2m5, symmetric: false}", "{format: e6m3}",
    "{format: int8, symmetric: 3}", "{format: int8, bits: 8}", "{format: [int8]}", "~",
  ])
  func weightsThatSayNothingSoundAreRefused(_ text: String) throws {
    let reason = try #require(try fault(Data("weights: \(text)\n".utf8)), "\(text)")
    #expect(["weights", "fp8"].contains { reason.contains($0) }, "\(text): \(reason)")
  }

  @Test func candidatesStandInsteadOfAScheme() throws {
    let recipe = try read(
      """
      candidates:
        - {weights: {format: int4, group: 32}}
        - {weights: {format: nvfp4}}
      steps: [{round: {search: codes}}]
      """)
    #expect(recipe.candidates == Recipe.mofq4.candidates && recipe.steps.count == 1)
    #expect(recipe.scheme == recipe.candidates[0] && recipe.isUndecided && recipe.fault == nil)
    for text in [
      "candidates: [{weights: {format: int8}}]",
      "candidates: [{weights: {format: int8}}, {weights: {format: int4, group: 32}}]",
      "candidates: [{weights: {format: int8}}, {weights: {format: fp8}, "
        + "activations: {format: fp8, static: true}}]",
    ] {
      #expect(try read(text).fault?.contains("candidates") == true, "\(text)")
    }
  }

  @Test func hostileFilesEndWithAnError() throws {
    func nested(_ depth: Int, _ open: String, _ close: String) -> String {
      String(repeating: open, count: depth) + String(repeating: close, count: depth)
    }
    let bomb =
      "a: &a [x,x,x,x,x,x,x,x,x]\n"
      + "bcdefghi".map { name in
        let before = String(UnicodeScalar(name.asciiValue! - 1))
        return "\(name): &\(name) ["
          + Array(repeating: "*\(before)", count: 9).joined(separator: ",")
          + "]\n"
      }.joined() + "weights: {format: int8}\n"
    let texts = [
      "", " ", "\n\n", "# nothing\n", "---\n", "...", "~", "weights", "[]", "3", "\u{0}",
      "\u{FEFF}",
      "\tweights: {format: int8}", "weights:\n\tformat: int8", "weights: {format: int8", "}", "]",
      "%",
      "%YAML 9.9\n---\nweights: {format: int8}", "weights: {format: int8}\n---\nname: b\n",
      "weights: {format: int8}\nweights: {format: int4}", "weights: &w {format: *w}", "weights: *w",
      "weights: {format: &a int8}", "name: !!str &a b\nweights: {format: int8}",
      "weights: !!binary zzz", "weights: {format: int8}\nname: \"\\x", "? ? ? ?", "- - - -", bomb,
      "steps: " + nested(50_000, "[", "]"), nested(50_000, "{a: ", "}"),
      String(repeating: "- ", count: 50_000), String(repeating: "? ", count: 20_000),
      (0..<5_000).map { String(repeating: " ", count: $0) + "a:\n" }.joined().prefix(1 << 20)
        .description,
      "weights: {format: int8}\nsummary: " + String(repeating: "x", count: 2 << 20),
      String(repeating: "a", count: 2 << 20),
    ]
    for text in texts {
      #expect(try fault(Data(text.utf8)) != nil, "\(text.prefix(60))")
    }
    let weights = Data("weights: {format: int8}\nname: ".utf8)
    for bytes in [
      [0xFF, 0xFE], [0xC0, 0x80], [0xED, 0xA0, 0x80], [0x80], [0xF5, 0x80, 0x80, 0x80],
    ]
      as [[UInt8]]
    {
      #expect(try fault(weights + bytes) != nil, "\(bytes) is no UTF-8")
    }
    let utf16 = try #require("weights: {format: int8}".data(using: .utf16))
    #expect(try fault(utf16) != nil)
  }

  @Test func damagedFilesAreReadOrRefused() throws {
    let text = Array(
      """
      name: careful
      weights: {format: int4, symmetric: false, group: 64}
      exceptions:
        - {layers: "*.0.*", keep: float}
      steps: [awq, {gptq: {damping: 0.5, search: shrink}}]
      max_kl: 0.375
      """.utf8)
    var random = SplitMix(state: 3)
    let alphabet = Array("{}[]:,-?&*#|>!%@\"'\n\t 0aé\u{0}".utf8)
    var read = 0
    for _ in 0..<300 {
      var damaged = text
      for _ in 0..<Int.random(in: 1...3, using: &random) {
        let place = Int.random(in: 0..<damaged.count, using: &random)
        switch Int.random(in: 0..<3, using: &random) {
        case 0: damaged[place] = alphabet[Int.random(in: 0..<alphabet.count, using: &random)]
        case 1: damaged.remove(at: place)
        default: damaged = Array(damaged[..<max(1, place)])
        }
      }
      if try fault(Data(damaged)) == nil { read += 1 }
    }
    // Nearly all damage is noticed; some changes a number or a name, which is as good as another.
    #expect(read == 7)
  }

  @Test func aFileThatIsNotThereIsAnError() throws {
    try inTemporaryFolder { folder in
      for path in [folder + "/none.yaml", folder] {
        #expect(throws: QuantizeError.self) { try Recipe(path: path) }
      }
    }
  }

  @Test func anAmpersandBesideAPatternIsText() throws {
    let recipe = try read(
      """
      summary: small & fast
      weights: {format: int8}
      exceptions: [{layers: "*.0.*", keep: float}]
      """)
    #expect(recipe.summary == "small & fast" && recipe.exceptions.count == 1)
  }
}
