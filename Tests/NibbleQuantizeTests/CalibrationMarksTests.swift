import Foundation
import NibbleFormats
import NibbleModel
import NibbleQuantize
import Testing
import TinyModel

@Suite struct CalibrationMarksTests {
  @Test func aTextThatHoldsAWindowIsRecognized() {
    let windows = (0..<5).map { someTokens(64, below: 1000, seed: 10 + UInt64($0)) }
    let marks = CalibrationMarks(windows)
    #expect(marks.count == 5)
    let other = someTokens(3000, below: 1000, seed: 99)
    #expect(marks.occurrences(in: other) == 0)
    // At any place, with a token before it that the text does not have.
    let text = other[..<77] + windows[2] + other[77...] + windows[4].dropFirst()
    #expect(marks.occurrences(in: Array(text)) == 2)
    #expect(marks.occurrences(in: Array(windows[0].dropLast())) == 0)
    #expect(CalibrationMarks([Array(1..<CalibrationMarks.length)]).isEmpty)
    #expect(marks.occurrences(in: []) == 0)
  }

  /// The report of a model that learned from text names its windows; others do not.
  @Test(arguments: ["w8a8", "w8a8-smooth"])
  func theReportHoldsTheMarks(_ name: String) throws {
    try inTemporaryFolder { folder in
      try TinyModel().write(in: folder + "/source", config: [:])
      var run = TinyRun(try .preset(name))
      run.windows.calibration = [someTokens(48, below: 128), someTokens(48, below: 128, seed: 8)]
      try run.run(folder + "/source", to: folder + "/out")
      let marks = CalibrationMarks(
        report: try Checkpoint.json(folder + "/out/nibble_report.json"))
      #expect(marks == CalibrationMarks(name == "w8a8" ? [] : run.windows.calibration))
    }
  }

  @Test func reportsWithoutMarksOrWithOtherThingsHaveNone() {
    #expect(CalibrationMarks(report: .null).isEmpty)
    #expect(CalibrationMarks(report: ["calibration_marks": "x"]).isEmpty)
    #expect(CalibrationMarks(report: ["calibration_marks": [1, "zz", "-5", ""]]).isEmpty)
  }
}
