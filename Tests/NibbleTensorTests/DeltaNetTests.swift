import Foundation
import NibbleTensor
import Testing

/// The gated delta net, against its recurrence in double.
@Suite struct DeltaNetTests {
  private static let nets = [
    DeltaNet(keyHeads: 2, valueHeads: 6, keySize: 5, valueSize: 33, kernel: 4),
    DeltaNet(keyHeads: 1, valueHeads: 1, keySize: 1, valueSize: 1, kernel: 1),
    DeltaNet(keyHeads: 3, valueHeads: 3, keySize: 16, valueSize: 16, kernel: 2),
  ]

  /// The inputs of a number of tokens.
  private struct Inputs {
    let (mixed, strengths, steps): ([Float], [Float], [Float])
    let (convolution, rates, bias): ([Float], [Float], [Float])

    init(_ net: DeltaNet, tokens t: Int) {
      mixed = uniform(t * net.channels, seed: 1, times: 2)
      strengths = uniform(t * net.valueHeads, seed: 2, times: 3)
      steps = uniform(t * net.valueHeads, seed: 3, times: 30)
      convolution = uniform(net.channels * net.kernel, seed: 4)
      rates = uniform(net.valueHeads, seed: 5)
      bias = uniform(net.valueHeads, seed: 6)
    }
  }

  private func run(
    _ net: DeltaNet, _ inputs: Inputs, parts: [Int], threads: Int = 1
  ) -> [Float] {
    let compute = Compute(threads: threads, precision: .f32)
    let parameters = DeltaNet.Parameters(
      net, convolution: inputs.convolution, logRates: inputs.rates, stepBias: inputs.bias)
    let state = DeltaNetState(net)
    var result: [Float] = []
    var first = 0
    for count in parts {
      func rows(_ x: [Float], _ width: Int) -> [Float] {
        Array(x[first * width..<(first + count) * width])
      }
      let mixed = rows(inputs.mixed, net.channels)
      var convolved = [Float](repeating: .nan, count: mixed.count)
      var y = [Float](repeating: .nan, count: count * net.valueWidth)
      var convolvedSpan = convolved.mutableSpan
      net.convolve(mixed.span, parameters, state, into: &convolvedSpan, on: compute)
      var span = y.mutableSpan
      let (strengths, steps) = (
        rows(inputs.strengths, net.valueHeads), rows(inputs.steps, net.valueHeads)
      )
      net.recur(
        &convolvedSpan, strengths: strengths.span, steps: steps.span, parameters, state,
        into: &span, on: compute)
      result += y
      first += count
    }
    return result
  }

  /// The equations of the paper, one token and head at a time.
  private func expected(_ net: DeltaNet, _ inputs: Inputs, tokens t: Int) -> [Double] {
    func convolved(_ token: Int, _ channel: Int) -> Double {
      var sum = 0.0
      for i in 0..<net.kernel where token - net.kernel + 1 + i >= 0 {
        sum +=
          Double(inputs.convolution[channel * net.kernel + i])
          * Double(inputs.mixed[(token - net.kernel + 1 + i) * net.channels + channel])
      }
      return sum / (1 + exp(-sum))
    }
    func unit(_ x: [Double]) -> [Double] {
      let length = (x.reduce(0) { $0 + $1 * $1 } + 1e-6).squareRoot()
      return x.map { $0 / length }
    }
    let (d, v) = (net.keySize, net.valueSize)
    var result = [Double](repeating: 0, count: t * net.valueWidth)
    for head in 0..<net.valueHeads {
      let key = head / (net.valueHeads / net.keyHeads)
      var state = [[Double]](repeating: [Double](repeating: 0, count: v), count: d)
      for token in 0..<t {
        let at = token * net.valueHeads + head
        let q = unit((0..<d).map { convolved(token, key * d + $0) }).map {
          $0 / Double(d).squareRoot()
        }
        let k = unit((0..<d).map { convolved(token, net.keyWidth + key * d + $0) })
        let step = log1p(exp(Double(inputs.steps[at]) + Double(inputs.bias[head])))
        let decay = exp(-exp(Double(inputs.rates[head])) * step)
        let strength = 1 / (1 + exp(-Double(inputs.strengths[at])))
        for j in 0..<v {
          let value = convolved(token, 2 * net.keyWidth + head * v + j)
          for i in 0..<d { state[i][j] *= decay }
          let known = (0..<d).reduce(0) { $0 + state[$1][j] * k[$1] }
          for i in 0..<d { state[i][j] += k[i] * strength * (value - known) }
          result[at * v + j] = (0..<d).reduce(0) { $0 + state[$1][j] * q[$1] }
        }
      }
    }
    return result
  }

  @Test(arguments: nets) func isItsRecurrence(_ net: DeltaNet) {
    let inputs = Inputs(net, tokens: 37)
    let found = run(net, inputs, parts: [37])
    let expected = expected(net, inputs, tokens: 37)
    let largest = expected.reduce(0) { max($0, abs($1)) }
    // Sums over 16 channels and 37 tokens in float.
    for (a, b) in zip(found, expected) { #expect(abs(Double(a) - b) < 2e-6 * max(1, largest)) }
  }

  @Test(arguments: nets) func threadsAndPartsDoNotChangeABit(_ net: DeltaNet) {
    let inputs = Inputs(net, tokens: 37)
    let whole = run(net, inputs, parts: [37])
    #expect(run(net, inputs, parts: [37], threads: 3) == whole)
    #expect(run(net, inputs, parts: [1, 2, 17, 1, 16], threads: 2) == whole)
    #expect(run(net, inputs, parts: Array(repeating: 1, count: 37)) == whole)
  }
}
