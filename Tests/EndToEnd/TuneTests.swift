import Foundation
import NibbleFormats
import Testing
import TinyModel

@Suite struct TuneTests {
  private let settings = [
    "--samples", "20", "--sample-length", "48", "--steps", "24", "--tokens", "192", "--rate",
    "0.01", "--verdict-windows", "2", "--verdict-window", "32",
  ]

  private func models(_ folder: String) throws -> [String] {
    let (source, output) = (folder + "/source", folder + "/out")
    try SmallModel.write(source)
    let run = try Call(
      ["quantize", source, "-o", output, "--group", "32"]
        + SmallModel.short.map {
          $0 == "w8a8" ? "w4a16" : $0
        }
    ).wait()
    #expect(run.status == 0, "\(run)")
    return [output, "--against", source, "-o", folder + "/tuned"]
  }

  @Test func aTunedModelIsWrittenAndLoads() throws {
    try inTemporaryFolder { folder in
      let arguments = try ["tune"] + models(folder)
      let run = try Call(arguments + settings + ["--json"]).wait()
      #expect(run.status == 0, "\(run)")
      let json = try run.json()
      let before = try #require(json["kl_before"]?.double)
      #expect(try #require(json["verdict"]?["kl"]?.double) < before)
      #expect(json["peak_rss_bytes"] != nil && json["chosen_step"]?.int != 0)
      #expect(try nibble("check", folder + "/tuned").status == 0)
      let bound = try Call([
        "eval", folder + "/tuned", "--against", folder + "/source", "--text", "builtin", "--window",
        "64", "--windows", "2", "--json",
      ]).wait()
      #expect(bound.status == 0, "\(bound)")
      // An output that exists is not replaced.
      #expect(try Call(arguments + settings).wait().status == 73)
    }
  }

  @Test func aRunThatGainsNothingWritesNothingAndSaysSo() throws {
    try inTemporaryFolder { folder in
      let run = try Call(["tune"] + models(folder) + settings + ["--rate", "0.5", "--steps", "4"])
        .wait()
      #expect(run.status == 2 && run.errors.contains("nothing was written"), "\(run)")
      #expect(!exists(folder + "/tuned"))
    }
  }

  @Test func anInterruptedRunContinues() throws {
    try inTemporaryFolder { folder in
      let arguments = try ["tune"] + models(folder) + settings
      let call = try Call(arguments)
      while call.isRunning, !call.errors.contains("[8/24]") { usleep(500) }
      call.send(SIGINT)
      let stopped = try call.wait()
      #expect(stopped.status == 75 && stopped.errors.contains("continue"), "\(stopped)")
      let again = try Call(arguments).wait()
      #expect(again.status == 0 && again.errors.contains("learned earlier"), "\(again)")
    }
  }

  @Test(arguments: [
    ["--steps", "0"], ["--tokens", "0"], ["--rate", "0"], ["--rate", "nan"],
    ["--temperature", "0"], ["--threads", "0"], ["--max-kl", "-1"], ["--samples", "0"],
  ])
  func numbersWithoutMeaningAreRefused(_ options: [String]) throws {
    let run = try Call(["tune", "a", "--against", "b", "-o", "c"] + options).wait()
    #expect(run.status == 64 && run.errors.contains(options[0]), "\(run)")
  }
}
