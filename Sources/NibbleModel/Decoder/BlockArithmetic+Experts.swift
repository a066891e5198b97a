import Foundation
import NibbleTensor

/// The tokens that the router sends to one expert.
struct ExpertPortion {
  var expert: Int
  /// Indices of the tokens, ascending.
  var rows: [Int] = []
  /// Routing weight of each token: the factor of the expert's output.
  var shares: [Float] = []
}

extension BlockArithmetic {
  /// Routes each token of the router's input `[t, k]` to its experts.
  ///
  /// - Parameter scores: receives the router's logits, `[t, experts]`.
  /// - Returns: the experts with at least one token, ascending.
  func route(
    _ block: Block, _ shape: ExpertsShape, _ x: [Float], scores: inout [Float]
  ) -> [ExpertPortion] {
    apply(block, shape.router, x, into: &scores)
    let experts = shape.units.count
    var portions = (0..<experts).map { ExpertPortion(expert: $0) }
    for token in 0..<scores.count / experts {
      let row = Array(scores[token * experts..<(token + 1) * experts])
      for (expert, share) in Self.shares(row, shape) {
        portions[expert].rows.append(token)
        portions[expert].shares.append(share * (block.shareFactors?[expert] ?? 1))
      }
    }
    return portions.filter { !$0.rows.isEmpty }
  }

  /// The chosen experts of one token, largest logit first, and their routing weights.
  private static func shares(_ scores: [Float], _ shape: ExpertsShape) -> [(Int, Float)] {
    let chosen = largest(shape.chosen, of: scores)
    let largest = chosen.first.map { scores[$0] } ?? 0
    let powers = chosen.map { exp(scores[$0] - largest) }
    let sum: Float =
      switch shape.shares {
      case .softmaxOfAll(normalizes: false): scores.reduce(0) { $0 + exp($1 - largest) }
      case .softmaxOfAll(normalizes: true), .softmaxOfChosen: powers.reduce(0, +)
      }
    return zip(chosen, powers).map { ($0, $1 / sum) }
  }

  /// The indices of the `count` largest values, largest first, and of equal ones the first.
  static func largest(_ count: Int, of values: [Float]) -> [Int] {
    // Many of many are sorted; a few are kept in order as values come.
    guard count <= 32 else {
      let order = values.indices.sorted { a, b in
        values[a] == values[b] ? a < b : values[a] > values[b]
      }
      return Array(order.prefix(count))
    }
    var found: [Int] = []
    for (index, value) in values.enumerated() {
      if found.count == count {
        guard let last = found.last, value > values[last] else { continue }
        found.removeLast()
      }
      let place = found.firstIndex { value > values[$0] } ?? found.count
      found.insert(index, at: place)
    }
    return found
  }

  func gather(_ portion: ExpertPortion, of x: [Float], width: Int, into y: inout [Float]) {
    var out = y.mutableSpan
    compute.gather(portion.rows, of: x.span, width: width, into: &out)
  }

  /// Adds an expert's outputs, times their routing weights, to the rows of its tokens.
  func scatter(_ x: [Float], _ portion: ExpertPortion, width: Int, to y: inout [Float]) {
    var out = y.mutableSpan
    compute.scatter(x.span, times: portion.shares, width: width, to: portion.rows, of: &out)
  }

  /// Multiplies each row of the shared expert's outputs by `sigmoid(x · gate)`.
  func applyGate(_ block: Block, _ gate: LinearShape, _ x: [Float], to results: inout [Float]) {
    let tokens = x.count / gate.inputs
    var scores = [Float](repeating: 0, count: tokens)
    apply(block, gate, x, into: &scores)
    let width = results.count / tokens
    for (token, score) in scores.enumerated() {
      let share = 1 / (1 + exp(-score))
      for i in token * width..<(token + 1) * width { results[i] *= share }
    }
  }
}
