import Testing

@testable import NibbleHub

@Suite struct HubListingTests {
  func listing(_ text: String) throws(HubError) -> HubListing {
    try HubListing(
      parsing: Array(text.utf8), repository: "acme/tiny", address: "here", limits: HubLimits())
  }

  func listing(names: [String]) throws -> HubListing {
    let siblings = names.map { "{\"rfilename\":\"\($0)\"}" }.joined(separator: ",")
    return try listing("{\"siblings\":[\(siblings)]}")
  }

  @Test(arguments: [
    "../config.json", "/etc/passwd", "a/../../b", "a//b", "./a", ".", "..", "a/", "", "a\\\\b",
    "a\\u0000b", "a\\nb", "model.safetensors",
  ])
  func refusesNamesThatLeaveTheFolderOrComeTwice(_ name: String) {
    #expect(throws: HubError.self) { try listing(names: ["model.safetensors", name]) }
  }

  @Test(arguments: [
    "", "[]", "{}", "{\"siblings\":[{}]}", "{\"siblings\":[{\"rfilename\":\"a\",\"size\":-1}]}",
    "{\"siblings\":[{\"rfilename\":\"a\",\"size\":\"1\"}]}",
    "{\"siblings\":[{\"rfilename\":\"a\",\"size\":1e300}]}",
    "{\"siblings\":[{\"rfilename\":\"a\",\"lfs\":{\"sha256\":\"abc\"}}]}",
    "{\"siblings\":[{\"rfilename\":\"a\",\"blobId\":\"zz\"}]}",
    "{\"sha\":\"main\",\"siblings\":[]}",
  ])
  func refusesWhatNoHubSends(_ text: String) {
    #expect(throws: HubError.self) { try listing(text) }
  }

  @Test func prefersSafetensorsAndLeavesTheRest() throws {
    let names = [
      "config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "README.md",
      "LICENSE", "model.safetensors", "model.fp16.safetensors", "pytorch_model.bin", "a.gguf",
      "onnx/config.json", "modeling_tiny.py", "tokenizer.model", "spiece.model",
    ]
    let listing = try listing(names: names)
    let reference = try HubReference(parsing: "acme/tiny")
    #expect(try listing.weights(for: reference) == .files([listing.file("model.safetensors")!]))
    #expect(
      listing.companions().map(\.name) == [
        "config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
        "README.md", "LICENSE", "tokenizer.model", "spiece.model",
      ])
  }

  @Test func asksWhichOfSeveralGGUFs() throws {
    let listing = try listing(names: ["b.gguf", "a.gguf"])
    #expect(throws: HubError.severalGGUF(repository: "acme/tiny", files: ["a.gguf", "b.gguf"])) {
      try listing.weights(for: try HubReference(parsing: "acme/tiny"))
    }
    let picked = try listing.weights(for: try HubReference(parsing: "acme/tiny:b.gguf"))
    #expect(picked == .files([listing.file("b.gguf")!]))
    #expect(throws: HubError.missingFile(repository: "acme/tiny", file: "c.gguf")) {
      try listing.weights(for: try HubReference(parsing: "acme/tiny:c.gguf"))
    }
  }

  @Test func namesWhatItFoundInsteadOfWeights() throws {
    let listing = try listing(names: ["training_args.bin", "model.h5", "config.json"])
    let found = ["model.h5", "training_args.bin"]
    #expect(throws: HubError.noWeights(repository: "acme/tiny", found: found)) {
      try listing.weights(for: try HubReference(parsing: "acme/tiny"))
    }
  }

  @Test func takesPyTorchWeightsOnlyWhereThereAreNoSafetensors() throws {
    let reference = try HubReference(parsing: "acme/tiny")
    let index = "pytorch_model.bin.index.json"
    var names = ["config.json", "a.gguf", "training_args.bin", "pytorch_model.bin"]
    var listing = try listing(names: names)
    #expect(try listing.weights(for: reference) == .files([listing.file("pytorch_model.bin")!]))
    #expect(listing.file("pytorch_model.bin")?.isWeights == true)
    names += [index, "pytorch_model-00001-of-00001.bin"]
    listing = try self.listing(names: names)
    #expect(try listing.weights(for: reference) == .indexed(listing.file(index)!))
    #expect(!listing.companions().contains { $0.name.contains("pytorch_model") })
    listing = try self.listing(names: names + ["odd.safetensors"])
    #expect(try listing.weights(for: reference) == .files([listing.file("odd.safetensors")!]))
  }

  @Test func takesTheShardsThatAnIndexOfPyTorchNames() throws {
    let index = "pytorch_model.bin.index.json"
    let listing = try listing(names: [index, "b.bin", "a.bin", "c.safetensors"])
    func shards(_ text: String) throws -> [String] {
      try listing.shards(index: Array(text.utf8), named: index, repository: "acme/tiny").map(\.name)
    }
    let map = #"{"weight_map":{"x":"b.bin","y":"a.bin","z":"b.bin"}}"#
    #expect(try shards(map) == ["a.bin", "b.bin"])
    for text in [
      "{}", #"{"weight_map":{"x":"c.safetensors"}}"#, #"{"weight_map":{"x":"../a.bin"}}"#,
      #"{"weight_map":{"x":"missing.bin"}}"#,
    ] {
      #expect(throws: HubError.self) { try shards(text) }
    }
  }

  @Test func takesTheShardsThatTheIndexNames() throws {
    let names = ["model.safetensors.index.json", "a.safetensors", "b.safetensors", "c.safetensors"]
    let listing = try listing(names: names)
    let index = #"{"weight_map":{"x":"b.safetensors","y":"a.safetensors","z":"b.safetensors"}}"#
    let shards = try listing.shards(index: Array(index.utf8), repository: "acme/tiny")
    #expect(shards.map(\.name) == ["a.safetensors", "b.safetensors"])
  }

  @Test(arguments: [
    "", "{}", #"{"weight_map":{}}"#, #"{"weight_map":{"x":1}}"#,
    #"{"weight_map":{"x":"../a.safetensors"}}"#, #"{"weight_map":{"x":"/a.safetensors"}}"#,
    #"{"weight_map":{"x":"missing.safetensors"}}"#, #"{"weight_map":{"x":"config.json"}}"#,
  ])
  func refusesAnIndex(_ text: String) throws {
    let listing = try listing(names: ["model.safetensors.index.json", "a.safetensors"])
    #expect(throws: HubError.self) {
      try listing.shards(index: Array(text.utf8), repository: "acme/tiny")
    }
  }
}
