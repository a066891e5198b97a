import NibbleModel

/// The context length that a model was trained for. Beyond it the results are of little use.
struct ContextLimit {
  /// Nil for a model of an unknown family.
  let context: Int?

  init(_ context: Int?) { self.context = context }

  /// For a checkpoint whose family may be unknown.
  init(of checkpoint: Checkpoint) {
    context = try? checkpoint.describedShape().context
  }

  /// Tokens per window: the requested number, with a warning if it exceeds the context; by default
  /// `standard`, but at most the context.
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
