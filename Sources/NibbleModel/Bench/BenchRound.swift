import Foundation
public import NibbleTensor

/// Measures one model in this process, which should not have done any other work.
public struct BenchRound {
  private let settings: BenchSettings

  public init(_ settings: BenchSettings) { self.settings = settings }

  /// Reads the prompt once with all first-time costs, and again for the prefill figure; then writes
  /// tokens after the context for the decode figure.
  ///
  /// - Parameters:
  ///   - start: system uptime when the process was started, in seconds.
  ///   - load: the work before a prompt can be read.
  ///   - format: format of the KV cache.
  public func run(
    since start: Double, keeping format: CacheFormat = .f16, load: () throws -> (Decoder, Compute)
  ) throws -> BenchFigures {
    let clock = ContinuousClock()
    let (decoder, compute) = try load()
    let ready = ProcessInfo.processInfo.systemUptime
    let vocabulary = decoder.shape.vocabulary
    let prompt = settings.tokens(settings.promptTokens, vocabulary: vocabulary)
    var session = try Session(
      decoder, capacity: settings.capacity, keeping: format, on: compute)
    var token = try likeliest(after: prompt, &session)
    let first = ProcessInfo.processInfo.systemUptime
    session.truncate(to: 0)
    let prefill = try clock.measure { token = try likeliest(after: prompt, &session) }
    session.truncate(to: 0)
    if settings.context > 0 {
      _ = try session.states(after: settings.tokens(settings.context, vocabulary: vocabulary))
    }
    // One untimed step: products of one token allocate their own memory.
    _ = try session.append([token])
    session.truncate(to: settings.context)
    // A recurrent decoder has removed the context too.
    if session.count < settings.context {
      _ = try session.states(after: settings.tokens(settings.context, vocabulary: vocabulary))
    }
    let decode = try clock.measure {
      for _ in 0..<settings.decodeTokens {
        token = try likeliest(after: [token], &session)
      }
    }
    return BenchFigures(
      prefill: Double(settings.promptTokens) / (prefill / .seconds(1)),
      decode: Double(settings.decodeTokens) / (decode / .seconds(1)),
      firstToken: first - start, loading: ready - start,
      peakBytes: ProcessMemory.peakResidentBytes,
      work: DecoderWork(decoder, keeping: format, precision: compute.precision))
  }

  private func likeliest(after tokens: [Int], _ session: inout Session) throws(ModelError) -> Int {
    let logits = try session.append(tokens)
    return Logits.argmax(logits.span)
  }
}
