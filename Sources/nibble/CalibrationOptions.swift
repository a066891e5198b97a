import ArgumentParser
import Foundation
import NibbleFormats
import NibbleModel
import NibbleQuantize
import NibbleTensor
import NibbleText

/// The calibration text of a recipe.
struct CalibrationOptions: ParsableArguments {
  @Option(
    help: """
      Text to learn from: a text file, records (.jsonl or .json), builtin, self (the source model writes \
      it), or random (tokens without meaning). Default: builtin, when the recipe learns from text.
      """)
  var calibrate: String?

  @Option(
    help: """
      Fields to read of each record, such as title,passage,question. Default: text, content, messages \
      and others that are known.
      """)
  var calibrateField: String?

  @Option(help: "Windows of calibration text. Default: 64, fewer when the text is short.")
  var samples: Int?

  @Option(
    help: """
      Tokens in a window of calibration text. Default: 512, or the model's context where that is less.
      """)
  var sampleLength: Int?

  @Option(
    help: """
      0 spreads the windows over the calibration text; another number draws them, the same each time.
      """)
  var seed: UInt64 = 0

  func validate() throws {
    if let samples, !(1...65_536).contains(samples) {
      throw ValidationError("--samples is \(samples); use 1 to 65536.")
    }
    if let sampleLength, !(2...65_536).contains(sampleLength) {
      throw ValidationError("--sample-length is \(sampleLength); use 2 to 65536.")
    }
    guard calibrate != nil || calibrateField == nil else {
      throw ValidationError("--calibrate-field needs --calibrate FILE.")
    }
    guard fields.allSatisfy({ !$0.isEmpty }) else {
      throw ValidationError("--calibrate-field is empty or has an empty name.")
    }
  }

  /// The names in --calibrate-field.
  private var fields: [String] {
    calibrateField?.split(separator: ",", omittingEmptySubsequences: false)
      .map { $0.trimmingCharacters(in: .whitespaces) } ?? []
  }

  /// Whether any option sets the choice of windows.
  /// What stands for text and is read from no file.
  static let made = ["self", "random"]

  var choosesWindows: Bool { samples != nil || sampleLength != nil || seed != 0 }

  /// The choice of windows; fewer than the default are accepted.
  private func sampling(_ limit: ContextLimit) -> CalibrationSampling {
    var sampling = CalibrationSampling()
    sampling.windows = samples ?? 64
    sampling.length = limit.length(sampleLength, "--sample-length", default: 512)
    sampling.seed = seed
    sampling.allowsFewer = samples == nil && sampleLength == nil
    return sampling
  }

  /// Lengths of the windows, known before any text is read.
  func windowSizes(_ context: Int?) -> [Int] {
    Array(
      repeating: sampleLength ?? max(2, min(512, context ?? 512)), count: samples ?? 64)
  }

  /// Reads and tokenizes the text, and splits it into windows.
  func windows(
    of source: String, for checkpoint: Checkpoint, _ tokenizer: Tokenizer, beginning: [Int],
    on compute: Compute
  ) throws -> CalibrationWindows {
    let sampling = self.sampling(ContextLimit(of: checkpoint))
    guard sampling.length > beginning.count else {
      throw ValidationError(
        "--sample-length is \(sampling.length), and \(beginning.count) tokens precede the text.")
    }
    let text: CalibrationText
    if !Self.made.contains(source), source != "builtin",
      try CalibrationText.holdsRecords(path: source)
    {
      text = try CalibrationText(
        records: source, fields: fields, template: checkpoint.chatTemplate(), tokenizer: tokenizer)
      if text.emptyRecords > 0 {
        Terminal.note("\(source): empty records left out: \(text.emptyRecords)")
      }
    } else if let field = fields.first {
      throw CalibrationTextError.noFields(path: source, field: field)
    } else if source == "self" {
      return try SelfWrittenText(checkpoint, tokenizer, compute).windows(sampling)
    } else if source == "random" {
      return CalibrationWindows(
        windows: sampling.randomWindows(below: tokenizer.vocabularySize, beginning: beginning),
        documents: sampling.windows, tokenizer: tokenizer)
    } else {
      text = CalibrationText(
        source == "builtin" ? BuiltinText.calibration : try TextSource.read(source), path: source)
    }
    return try sampling.cut(text, with: tokenizer, beginning: beginning)
  }
}
