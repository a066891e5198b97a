import NibbleModel
import NibbleQuantize
import NibbleTensor

/// Compares a recipe's candidates in each layer, and says how many take which.
func formatChoice(
  _ checkpoint: Checkpoint, _ recipe: Recipe, _ exporter: any Exporter, _ statistics: String?,
  _ compute: Compute
) throws -> FormatChoice {
  let choice = try FormatChoice(
    checkpoint, recipe, exporter: exporter,
    statistics: try statistics.map { try StatisticsFile(path: $0) }, on: compute,
    progress: { Terminal.progress("formats compared in \($0) of \($1) blocks") })
  if Terminal.isInteractive { Terminal.note("") }
  for (scheme, count) in zip(choice.candidates, choice.counts) {
    Terminal.note(
      "\(count) layers take \(scheme), by the error of their "
        + (choice.comparesOutputs ? "outputs" : "weights"))
  }
  return choice
}
