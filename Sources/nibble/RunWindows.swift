import NibbleExport
import NibbleFormats
import NibbleModel
import NibbleQuantize
import NibbleTensor

/// The token windows that run through the blocks of a quantization.
struct RunWindows {
  private(set) var windows = QuantizeRun.Windows()

  init(
    _ options: MeasureOptions, _ checkpoint: Checkpoint, _ plan: Plan, _ compute: Compute
  ) throws {
    guard let decoder = plan.decoder else {
      if options.calibrationSource(for: plan.recipe) != nil {
        throw QuantizeError.unmeasurable(
          "calibration needs a model that can run: \(plan.familyError.map { "\($0)" } ?? "")")
      }
      return
    }
    let (length, count) = (options.verdictWindow, options.verdictWindows)
    guard let tokenizer = try checkpoint.tokenizer() else {
      if options.calibrationSource(for: plan.recipe) != nil {
        throw QuantizeError.unmeasurable("calibration needs a tokenizer.json beside the weights")
      }
      Terminal.note("no tokenizer: the verdict is measured on pseudo-random tokens")
      windows.heldOut = (0..<count).map { Self.randomTokens($0, length, decoder.vocabulary) }
      return
    }
    guard tokenizer.vocabularySize <= decoder.vocabulary else {
      throw ModelError.tokenOutsideVocabulary(
        tokenizer.vocabularySize - 1, vocabulary: decoder.vocabulary)
    }
    windows.heldOut = try Self.spread(
      tokenizer.encode(TextSource.read(options.verdictText)), length, count, options.verdictText)
    guard let source = options.calibrationSource(for: plan.recipe) else { return }
    let calibration = try Self.calibration(
      source, options, options.sampling(for: plan.recipe), checkpoint, tokenizer, compute)
    Terminal.note("calibration: \(calibration.audit)")
    windows.calibration = calibration.windows
  }

  private static func calibration(
    _ source: String, _ options: MeasureOptions, _ sampling: CalibrationSampling,
    _ checkpoint: Checkpoint, _ tokenizer: Tokenizer, _ compute: Compute
  ) throws -> CalibrationWindows {
    let text: CalibrationText
    if source != "self", source != "builtin", try CalibrationText.holdsRecords(path: source) {
      text = try CalibrationText(
        records: source, fields: options.fields, template: checkpoint.chatTemplate(),
        tokenizer: tokenizer)
      if text.emptyRecords > 0 {
        Terminal.note("\(source): empty records left out: \(text.emptyRecords)")
      }
    } else if let field = options.fields.first {
      throw CalibrationTextError.noFields(path: source, field: field)
    } else if source == "self" {
      return try SelfWritten(checkpoint, tokenizer, compute).windows(sampling)
    } else {
      text = CalibrationText(
        source == "builtin" ? BuiltinText.calibration : try TextSource.read(source), path: source)
    }
    return try sampling.cut(text, with: tokenizer)
  }

  /// `count` windows at even distances, fewer when the text is short; at least one.
  private static func spread(
    _ tokens: [Int], _ length: Int, _ count: Int, _ source: String
  ) throws -> [[Int]] {
    let available = tokens.count / length
    guard available > 0 else {
      if tokens.count >= 2 { return [tokens] }
      throw ModelError.unsupported("\(source): \(tokens.count) tokens are too few to measure with")
    }
    let taken = min(count, available)
    return (0..<taken).map { index in
      let start = index * available / taken * length
      return Array(tokens[start..<start + length])
    }
  }

  private static func randomTokens(_ window: Int, _ length: Int, _ vocabulary: Int) -> [Int] {
    var state = UInt64(window + 1)
    return (0..<length).map { _ in
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int(state >> 33) % vocabulary
    }
  }
}

/// Text that the source model writes itself, at temperature 1 from the beginning-of-text token.
private struct SelfWritten {
  private let checkpoint: Checkpoint
  private let tokenizer: Tokenizer
  private let compute: Compute

  init(_ checkpoint: Checkpoint, _ tokenizer: Tokenizer, _ compute: Compute) {
    self.checkpoint = checkpoint
    self.tokenizer = tokenizer
    self.compute = compute
  }

  func windows(_ asked: CalibrationSampling) throws -> CalibrationWindows {
    let (count, length) = (asked.windows, asked.length)
    let decoder = try Decoder(checkpoint.decoderConfig(), from: checkpoint)
    guard let start = tokenizer.bos ?? tokenizer.eos else {
      throw QuantizeError.unmeasurable(
        "--calibrate self needs a beginning- or end-of-text token in the tokenizer")
    }
    var sampling = Sampling()
    sampling.temperature = 1
    let windows = try (0..<count).map { index in
      sampling.seed = asked.seed &* 0x9E37_79B9_7F4A_7C15 &+ UInt64(index)
      var sampler = Sampler(sampling)
      var session = try Session(decoder, capacity: length, on: compute)
      var window = [start]
      while window.count < length {
        window.append(
          sampler.choose(try session.append([window[window.count - 1]]), history: window))
        Terminal.progress(
          "the source model writes text: \(index * length + window.count) tokens of \(count * length)"
        )
      }
      return window
    }
    return CalibrationWindows(windows: windows, documents: count, tokenizer: tokenizer)
  }
}
