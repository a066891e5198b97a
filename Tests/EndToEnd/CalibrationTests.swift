import Foundation
import NibbleFormats
import Testing
import TinyModel

@Suite struct CalibrationTests {
  /// The lines that a run says about its calibration text.
  private func said(_ text: String, as name: String, _ options: String...) throws -> [String] {
    try inTemporaryFolder { folder in
      try SmallModel.write(folder + "/source")
      try write(text, folder + "/" + name)
      let outcome = try Call(
        ["quantize", folder + "/source", "-o", folder + "/out"] + SmallModel.short
          + ["--calibrate", folder + "/" + name] + options
      ).wait()
      #expect(outcome.status == 0, "\(outcome)")
      return outcome.errors.split(separator: "\n").map(String.init)
        .filter { $0.hasPrefix("calibration: ") || $0.contains("empty") }
    }
  }

  @Test func recordsAreCountedAndCut() throws {
    let lines = (0..<40).map { #"{"title": "T", "body": "line \#($0)"}"# }
    #expect(
      try said(
        lines.joined(separator: "\n"), as: "a.jsonl", "--calibrate-field", "title,body",
        "--samples", "3", "--sample-length", "50", "--seed", "1"
      ).first?.hasPrefix("calibration: 3 windows, 150 tokens of ") == true)
    let records = try said(#"["abcd", "", {"text": "é"}]"#, as: "a.json")
    #expect(records.count == 2 && records[0].hasSuffix("a.json: empty records left out: 1"))
    // Two line feeds between the documents.
    #expect(records.last == "calibration: 1 window, 8 tokens of 2 documents: Latin 100 %")
  }

  @Test func plainTextIsOneDocument() throws {
    #expect(
      try said(
        String(repeating: "word\r\n", count: 100), as: "a.txt", "--samples", "2",
        "--sample-length", "32"
      ) == [
        "calibration: 2 windows, 64 tokens of 1 document: Latin 100 %"
      ])
  }

  /// A recipe that learns is satisfied with tokens without meaning.
  @Test func randomTokensStandForText() throws {
    try inTemporaryFolder { folder in
      try SmallModel.write(folder + "/source")
      let outcome = try Call(
        ["quantize", folder + "/source", "-o", folder + "/out"] + SmallModel.short
          + ["--recipe", "w8a8-smooth", "--calibrate", "random", "--samples", "3"]
          + ["--sample-length", "20"]
      ).wait()
      #expect(outcome.status == 0, "\(outcome)")
      #expect(outcome.errors.contains("calibration: 3 windows, 60 tokens"), "\(outcome)")
    }
  }
}
