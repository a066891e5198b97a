import ArgumentParser
import NibbleEngines
import NibbleFormats
import NibbleModel
import NibbleQuantize
import NibbleTensor
import NibbleText

/// The token windows that run through the blocks of a quantization.
struct RunWindows {
  private(set) var windows = QuantizeRun.Windows()
  /// The tokens before the text of each window, as part of its length.
  private(set) var beginning: [Int] = []

  init(
    _ options: VerdictOptions, _ calibration: CalibrationOptions, _ rule: BeginningOptions,
    _ source: String?, _ checkpoint: Checkpoint, _ decoder: DecoderShape, _ compute: Compute
  ) throws {
    let length = ContextLimit(decoder.context).length(
      options.verdictWindow, "--verdict-window", default: 256)
    let count = options.verdictWindows
    guard let tokenizer = try checkpoint.tokenizer() else {
      if source != nil {
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
    beginning = try rule.tokens(of: tokenizer)
    guard length > beginning.count else {
      throw ValidationError(
        "--verdict-window is \(length), and \(beginning.count) tokens precede the text.")
    }
    let tokens = tokenizer.encode(try TextSource.read(options.verdictText))
    let ranges = try Self.spread(
      tokens.count, length - beginning.count, count, options.verdictText)
    windows.heldOut = ranges.map { beginning + tokens[$0] }
    if options.verdictText == "builtin" {
      windows.heldOutKinds = BuiltinText.heldOutKinds(
        of: ranges, beginning: beginning.count, with: tokenizer)
    }
    guard let source else { return }
    let calibration = try calibration.windows(
      of: source, for: checkpoint, tokenizer, beginning: beginning, on: compute)
    Terminal.note("calibration: \(calibration.audit)\(BeginningOptions.text(beginning))")
    windows.calibration = calibration.windows
  }

  /// The tokens of `count` evenly spaced windows, fewer when the text is short; at least one.
  private static func spread(
    _ tokens: Int, _ length: Int, _ count: Int, _ source: String
  ) throws -> [Range<Int>] {
    let available = tokens / length
    guard available > 0 else {
      if tokens >= 2 { return [0..<tokens] }
      throw ModelError.unsupported("\(source): \(tokens) tokens are too few to measure with")
    }
    let taken = min(count, available)
    return (0..<taken).map { index in
      let start = index * available / taken * length
      return start..<start + length
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
