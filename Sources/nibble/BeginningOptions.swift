import ArgumentParser
import NibbleModel
import NibbleText

/// Whether text begins with the tokenizer's beginning-of-text token.
struct BeginningOptions: ParsableArguments {
  enum Rule: String, ExpressibleByArgument, CaseIterable {
    case auto
    case on
    case off
  }

  @Option(
    help: """
      Put the beginning-of-text token before each window of text, or before a --raw prompt: on, off, \
      or auto, which does as the model's tokenizer does with a text. Windows of calibration and of the \
      verdict count it in their length; those of eval hold as many tokens of text without it.
      """)
  var bos = Rule.auto

  /// The tokens before each text; empty without BOS.
  func tokens(of tokenizer: Tokenizer) throws -> [Int] {
    switch bos {
    case .auto: return tokenizer.beginning
    case .off: return []
    case .on:
      if !tokenizer.beginning.isEmpty { return tokenizer.beginning }
      guard let token = tokenizer.bos else {
        throw ModelError.unsupported(
          "--bos on: the tokenizer names no beginning-of-text token (bos_token in "
            + "tokenizer_config.json). Use --bos auto or off.")
      }
      return [token]
    }
  }

  /// Text after the number of windows in a message; empty without BOS.
  static func text(_ beginning: [Int]) -> String {
    beginning.isEmpty ? "" : ", with BOS before each window"
  }
}
