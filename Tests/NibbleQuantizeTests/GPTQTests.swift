import NibbleTensor
import Testing

@testable import NibbleQuantize

@Suite struct GPTQTests {
  private let compute = Compute(threads: 1, precision: .f32)
  private let scheme = WeightScheme(
    format: .int(bits: 4, symmetric: false), granularity: .group(16))

  private func moments(_ x: [Float], channels: Int) -> GramMatrix {
    var moments = GramMatrix(channels: channels)
    moments.add(x, on: compute)
    moments.finish(on: compute)
    return moments
  }

  private func values(_ count: Int, seed: UInt64) -> [Float] {
    var random = SplitMix(state: seed)
    return (0..<count).map { _ in Float.random(in: -1...1, using: &random) }
  }

  private func apply(_ gptq: GPTQ, _ weight: FloatRows, _ moments: GramMatrix) -> QuantizedMatrix {
    gptq.round(
      weight, gptq.feedback(moments, on: compute), scheme: scheme, scaleFormat: .f32,
      on: compute)
  }

  @Test(arguments: [true, false])
  func momentsThatSayNothingRoundToNearest(_ isOrdered: Bool) throws {
    let k = 48
    let weight = FloatRows(values(5 * k, seed: 1), columns: k)
    var gptq = GPTQ()
    (gptq.activationOrder, gptq.search) = (isOrdered, .extremes)
    let nearest = try QuantizedMatrix(
      rounding: weight.matrix, to: scheme, scaleFormat: .f32, on: compute)
    var alone = values(9 * k, seed: 2)
    alone[3] = .nan
    for x in [
      [Float](repeating: 0, count: k), [Float](repeating: 3e38, count: k), alone,
      [Float](repeating: .infinity, count: k),
    ] {
      let rounded = apply(gptq, weight, moments(x, channels: k))
      #expect(rounded.codes.array == nearest.codes.array && rounded.scales == nearest.scales)
    }
  }

  @Test(arguments: [0, 0.01, 10] as [Float])
  func fewerTokensThanChannelsAreEnough(_ damping: Float) {
    let k = 64
    let weight = FloatRows(values(7 * k, seed: 3), columns: k)
    let x = values(2 * k, seed: 4)
    var gptq = GPTQ()
    gptq.damping = damping
    let seen = moments(x, channels: k)
    // What the outputs of those two tokens lose.
    func loss(_ matrix: QuantizedMatrix) -> Double {
      let rounded = matrix.decoded()
      var total = 0.0
      for row in 0..<7 {
        for token in 0..<2 {
          var error = 0.0
          for c in 0..<k {
            error +=
              Double(rounded[row * k + c] - weight.values[row * k + c]) * Double(x[token * k + c])
          }
          total += error * error
        }
      }
      return total
    }
    let nearest = QuantizedMatrix(
      nearest: weight, to: WeightRounding(scheme: scheme, scaleFormat: .f32, search: .extremes),
      on: compute)
    let ours = loss(apply(gptq, weight, seen))
    #expect(ours < (damping < 1 ? 0.1 : 1) * loss(nearest), "\(ours), \(loss(nearest))")
  }
}
