import NibbleModel

/// The positions that a model was made for: beyond them it computes, and says little.
struct ContextLimit {
  /// Nil for a model whose family is not known.
  let context: Int?

  init(_ context: Int?) { self.context = context }

  /// Of a checkpoint that may be of no known family.
  init(of checkpoint: Checkpoint) {
    context = try? checkpoint.describedShape().context
  }

  /// Tokens in a window: as asked for, with a warning where that is past the context; else the default,
  /// or the context where that is less.
  func length(_ asked: Int?, _ option: String, default standard: Int) -> Int {
    guard let asked else { return max(2, min(standard, context ?? standard)) }
    warn(of: asked, option)
    return asked
  }

  func warn(of tokens: Int, _ option: String) {
    guard let context, tokens > context else { return }
    Terminal.note(
      "warning: \(option): \(tokens) tokens are past the \(context) that the model was made for")
  }
}
