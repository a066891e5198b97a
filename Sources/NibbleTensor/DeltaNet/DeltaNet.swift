import CNibble
import Foundation

/// The part of a gated delta net between its linears: a short causal convolution, and per value
/// head a matrix `S` that every token decays, corrects and reads.
///
/// Each key head serves `valueHeads / keyHeads` value heads. Source: Gated Delta Networks, arXiv
/// 2412.06464; transformers `modeling_qwen3_5.py`.
public struct DeltaNet: Hashable, Sendable {
  /// Heads of queries and of keys.
  public var keyHeads: Int
  public var valueHeads: Int
  /// Channels of a query or a key.
  public var keySize: Int
  /// Channels of a value.
  public var valueSize: Int
  /// Tokens that the convolution covers, the current one included.
  public var kernel: Int

  public init(keyHeads: Int, valueHeads: Int, keySize: Int, valueSize: Int, kernel: Int) {
    self.keyHeads = keyHeads
    self.valueHeads = valueHeads
    self.keySize = keySize
    self.valueSize = valueSize
    self.kernel = kernel
  }

  /// Channels of all queries, and of all keys.
  public var keyWidth: Int { keyHeads * keySize }
  /// Channels of all values.
  public var valueWidth: Int { valueHeads * valueSize }
  /// Channels of the convolution: queries, keys, values.
  public var channels: Int { 2 * keyWidth + valueWidth }

  /// Multiply-adds per token of convolution and state.
  public var operations: Int {
    channels * kernel + 3 * valueHeads * keySize * valueSize
  }

  /// The parameters that are not linears.
  public struct Parameters: Hashable, Sendable {
    /// `[kernel, channels]`: factors of the channels, oldest token first.
    let convolution: [Float]
    /// `[valueHeads]`: `-exp(A)`, below zero.
    let rates: [Float]
    /// `[valueHeads]`: added to the step size before softplus.
    let stepBias: [Float]

    /// - Parameters:
    ///   - convolution: `[channels, kernel]`, oldest token first.
    ///   - logRates: `[valueHeads]`: `A`, the logarithms of the decay rates.
    ///   - stepBias: `[valueHeads]`.
    public init(_ net: DeltaNet, convolution: [Float], logRates: [Float], stepBias: [Float]) {
      precondition(convolution.count == net.channels * net.kernel, "\(convolution.count) factors")
      precondition(
        logRates.count == net.valueHeads && stepBias.count == net.valueHeads,
        "\(logRates.count) rates of \(net.valueHeads) heads")
      self.convolution = (0..<net.kernel * net.channels).map {
        convolution[$0 % net.channels * net.kernel + $0 / net.channels]
      }
      rates = logRates.map { -exp($0) }
      self.stepBias = stepBias
    }
  }

  /// `y[t, c] = silu(Σ_i w[c, i] · x[t - kernel + 1 + i, c])`. The tokens before the first row are
  /// in the state, which then keeps the last `kernel - 1` rows of `x`.
  ///
  /// - Parameters:
  ///   - x: `[t, channels]`.
  ///   - y: `[t, channels]`, overwritten.
  public func convolve(
    _ x: Span<Float>, _ parameters: Parameters, _ state: DeltaNetState,
    into y: inout MutableSpan<Float>, on compute: Compute
  ) {
    let width = channels
    precondition(x.count.isMultiple(of: width) && y.count == x.count, "rows of \(width)")
    precondition(state.net == self, "a state of another net")
    let (t, old) = (x.count / width, kernel - 1)
    unsafe x.withUnsafeBufferPointer { x in
      unsafe y.withUnsafeMutableBufferPointer { y in
        unsafe parameters.convolution.withUnsafeBufferPointer { factors in
          unsafe state.tail.withUnsafeBufferPointer { tail in
            compute.ranges(of: t, grain: 16) { tokens, _ in
              for token in tokens {
                let out = unsafe y.baseAddress! + token * width
                for c in 0..<width { unsafe out[c] = 0 }
                for i in 0..<kernel {
                  let from = token - old + i
                  let row =
                    unsafe from < 0
                    ? tail.baseAddress! + (from + old) * width : x.baseAddress! + from * width
                  let factor = unsafe factors.baseAddress! + i * width
                  for c in 0..<width { unsafe out[c] += row[c] * factor[c] }
                }
                unsafe nibble_activate(out, width, Int32(NIBBLE_SILU))
              }
            }
          }
        }
      }
    }
    let kept = min(t, old)
    var tail = Array(state.tail[kept * width..<old * width])
    tail.reserveCapacity(old * width)
    for i in (t - kept) * width..<t * width { tail.append(x[i]) }
    state.tail = tail
  }

  /// Runs the tokens through the states of all heads, one after the other. For each:
  /// `S = e^g · S`, `S += k · (β · (v - Sᵀ k))ᵀ`, `y = Sᵀ q`, with `q / (|q| · √d)`, `k / |k|`,
  /// `β = sigmoid(b)` and `g = -exp(A) · softplus(a + bias)`.
  ///
  /// - Parameters:
  ///   - mixed: `[t, channels]`: queries, keys, values. Queries and keys are overwritten.
  ///   - strengths: `[t, valueHeads]`: b.
  ///   - steps: `[t, valueHeads]`: a.
  ///   - y: `[t, valueWidth]`, overwritten.
  public func recur(
    _ mixed: inout MutableSpan<Float>, strengths: Span<Float>, steps: Span<Float>,
    _ parameters: Parameters, _ state: DeltaNetState, into y: inout MutableSpan<Float>,
    on compute: Compute
  ) {
    let t = mixed.count / channels
    precondition(
      mixed.count == t * channels && y.count == t * valueWidth, "rows of \(channels) channels")
    precondition(
      strengths.count == t * valueHeads && steps.count == strengths.count, "rows of \(valueHeads)")
    precondition(state.net == self, "a state of another net")
    unsafe mixed.withUnsafeMutableBufferPointer { mixed in
      let mixed = mixed.baseAddress!
      unsafe normalize(mixed, tokens: t, on: compute)
      unsafe y.withUnsafeMutableBufferPointer { y in
        let y = y.baseAddress!
        unsafe strengths.withUnsafeBufferPointer { strengths in
          unsafe steps.withUnsafeBufferPointer { steps in
            unsafe state.memory.withUnsafeMutableBufferPointer { memory in
              let memory = memory.baseAddress!
              compute.pool.run(valueHeads) { head, _ in
                let keyHead = head / (valueHeads / keyHeads)
                for token in 0..<t {
                  let row = unsafe mixed + token * channels
                  let at = token * valueHeads + head
                  let strength = unsafe 1 / (1 + exp(-strengths[at]))
                  let step = unsafe Self.softplus(steps[at] + parameters.stepBias[head])
                  unsafe nibble_delta_step(
                    memory + head * keySize * valueSize, row + keyHead * keySize,
                    row + keyWidth + keyHead * keySize, row + 2 * keyWidth + head * valueSize,
                    exp(parameters.rates[head] * step), strength, y + at * valueSize, keySize,
                    valueSize)
                }
              }
            }
          }
        }
      }
    }
  }

  /// Scales each query to the length `1 / √d` and each key to 1. 1e-6 is added to the square of
  /// the length.
  private func normalize(_ mixed: UnsafeMutablePointer<Float>, tokens: Int, on compute: Compute) {
    // nibble_rms_norm divides by the root of the mean, so its weight divides by √d once more.
    let root = Float(keySize).squareRoot()
    let ofQueries = [Float](repeating: 1 / Float(keySize), count: keySize)
    let ofKeys = [Float](repeating: 1 / root, count: keySize)
    unsafe ofQueries.withUnsafeBufferPointer { ofQueries in
      unsafe ofKeys.withUnsafeBufferPointer { ofKeys in
        compute.ranges(of: tokens, grain: 16) { tokens, _ in
          for token in tokens {
            for head in 0..<2 * keyHeads {
              let row = unsafe mixed + token * channels + head * keySize
              let weight = unsafe head < keyHeads ? ofQueries : ofKeys
              unsafe nibble_rms_norm(
                row, weight.baseAddress!, row, keySize, 1e-6 / Float(keySize))
            }
          }
        }
      }
    }
  }

  /// `log(1 + e^x)`; x itself above 20, as torch computes it.
  private static func softplus(_ x: Float) -> Float { x > 20 ? x : log1p(exp(x)) }
}

/// What a gated delta net keeps of the tokens that it has seen: a matrix per value head, and the
/// last inputs of its convolution. Its size does not depend on the number of tokens.
///
/// This is a reference type: copies share the memory.
@safe public final class DeltaNetState: @unchecked Sendable {
  // Sendable by hand: one caller at a time, as with `Compute`.
  public let net: DeltaNet
  /// `[valueHeads, keySize, valueSize]`
  fileprivate(set) var memory: [Float]
  /// `[kernel - 1, channels]`
  fileprivate(set) var tail: [Float]

  /// The state before the first token.
  public init(_ net: DeltaNet) {
    self.net = net
    memory = [Float](repeating: 0, count: net.valueHeads * net.keySize * net.valueSize)
    tail = [Float](repeating: 0, count: (net.kernel - 1) * net.channels)
  }

  /// Forgets all tokens.
  public func clear() {
    for i in memory.indices { memory[i] = 0 }
    for i in tail.indices { tail[i] = 0 }
  }

  /// Bytes of the state of one sequence.
  public static func bytes(_ net: DeltaNet) -> Int {
    4 * (net.valueHeads * net.keySize * net.valueSize + (net.kernel - 1) * net.channels)
  }
}
