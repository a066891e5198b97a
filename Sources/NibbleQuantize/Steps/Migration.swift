/// Exponents of the smoothing factors `s = x^a / w^b` of a channel, with x the largest magnitude of
/// its inputs or their root mean square, and w the largest magnitude of its weights.
struct Migration: CustomStringConvertible {
  enum Loudness: String { case peak, rms }
  var inputs: Float
  var weights: Float
  var loudness: Loudness

  /// SmoothQuant's exponents: `x^α / w^(1-α)`.
  init(strength: Float) { self.init(.peak, strength, 1 - strength) }

  init(_ loudness: Loudness, _ inputs: Float, _ weights: Float) {
    (self.loudness, self.inputs, self.weights) = (loudness, inputs, weights)
  }

  /// Candidate strengths of SmoothQuant, the only candidates for sparse codes, whose steps outliers
  /// do not set.
  static let strengths = (0...20).map { Migration(strength: Float($0) / 20) }

  static let searched =
    strengths
    + (3...8).flatMap { a in (0...3).map { Migration(.rms, Float(a) / 10, Float($0) / 10) } }

  var description: String { "\(loudness.rawValue)^\(inputs) / w^\(weights)" }
}
