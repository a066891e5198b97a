import Foundation
import NibbleFormats
import Testing
import TinyModel

@Suite struct SearchTests {
  private let short = ["--sensitivity-windows", "1", "--sensitivity-length", "24"]

  @Test func theChoiceIsARecipeThatKeepsTheSize() throws {
    try inTemporaryFolder { folder in
      let (source, recipe) = (folder + "/source", folder + "/found.yaml")
      try SmallModel.write(source)
      let candidates = folder + "/candidates.yaml"
      try Data(
        """
        candidates:
          - {weights: {format: int8}, activations: float}
          - {weights: {format: int4, group: 32}, activations: float}
        """.utf8
      ).write(to: URL(fileURLWithPath: candidates))
      let common = ["search", source, "--candidates", candidates, "--points", "5"] + short
      let table = try Call(common + ["--json"]).wait()
      #expect(table.status == 0, "\(table)")
      let front = try #require(try table.json()["front"]?.array)
      let sizes = front.compactMap { $0["bytes"]?.int }
      #expect(sizes.count >= 3 && sizes == sizes.sorted())
      let bound = sizes[1] + 100
      let found = try Call(common + ["--size", "\(bound)B", "-o", recipe]).wait()
      #expect(found.status == 0 && found.output.contains("chosen:"), "\(found)")
      let run = try Call(
        ["quantize", source, "-o", folder + "/out", "--samples", "4", "--sample-length", "32"]
          + SmallModel.short.map { $0 == "w8a8" ? recipe : $0 } + ["--json"]
      ).wait()
      #expect(run.status == 0, "\(run)")
      #expect(try #require(try run.json()["bytes"]?.int) <= bound)
      // A file that exists is kept.
      #expect(try Call(common + ["--size", "\(bound)B", "-o", recipe]).wait().status == 73)

      let small = try Call(common + ["--size", "\(sizes[0] - 1)B"]).wait()
      #expect(small.status == 2 && small.errors.contains("The nearest are"), "\(small)")
      let both = try Call(common + ["--size", "\(sizes[0])B", "--max-kl", "0"]).wait()
      #expect(both.status == 2, "\(both)")
    }
  }

  /// Groups of 128 fit no layer of this model, and groups of 64 not all.
  @Test(arguments: ["vllm", "transformers"])
  func schemesThatFitNoLayerAreLeftOut(_ engine: String) throws {
    try inTemporaryFolder { folder in
      try SmallModel.write(folder + "/source")
      let found = try Call(["search", folder + "/source", "--for", engine, "--json"] + short).wait()
      #expect(found.status == 0, "\(found)")
      let json = try found.json()
      let schemes = (json["candidates"]?.array ?? []).compactMap(\.string)
      #expect(schemes.count == 4)
      #expect(schemes.contains { $0.contains("asymmetric") } == (engine == "vllm"))
      for group in json["groups"]?.array ?? [] {
        let options = try #require(group["options"]?.array)
        #expect(options[1].isNull && !options[0].isNull)
      }
    }
  }

  @Test(arguments: [
    ["--size", "nothing"], ["--max-kl", "-1"], ["--for", "ascend"], ["--points", "1"],
    ["-o", "somewhere"],
  ])
  func optionsWithoutMeaningAreRefused(_ options: [String]) throws {
    let run = try Call(["search", "a"] + options).wait()
    #expect(run.status == 64, "\(run)")
  }
}
