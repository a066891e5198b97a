import NibbleModel
import NibbleQuantize
import NibbleTensor
import NibbleText

/// Text written by the source model itself, at temperature 1 from the beginning-of-text token.
struct SelfWrittenText {
  private let checkpoint: Checkpoint
  private let tokenizer: Tokenizer
  private let compute: Compute

  init(_ checkpoint: Checkpoint, _ tokenizer: Tokenizer, _ compute: Compute) {
    self.checkpoint = checkpoint
    self.tokenizer = tokenizer
    self.compute = compute
  }

  func windows(_ asked: CalibrationSampling) throws -> CalibrationWindows {
    let (count, length) = (asked.windows, asked.length)
    let decoder = try Decoder(checkpoint.decoderShape(), from: checkpoint)
    guard let start = tokenizer.bos ?? tokenizer.eos else {
      throw QuantizeError.unmeasurable(
        "--calibrate self needs a beginning- or end-of-text token in the tokenizer")
    }
    var sampling = Sampling()
    sampling.temperature = 1
    let windows = try (0..<count).map { index in
      sampling.seed = asked.seed &* 0x9E37_79B9_7F4A_7C15 &+ UInt64(index)
      var sampler = Sampler(sampling)
      var session = try Session(decoder, capacity: length, on: compute)
      var window = [start]
      while window.count < length {
        window.append(
          sampler.choose(try session.append([window[window.count - 1]]), history: window))
        Terminal.progress(
          "the source model writes text: \(index * length + window.count) tokens of \(count * length)"
        )
      }
      return window
    }
    return CalibrationWindows(windows: windows, documents: count, tokenizer: tokenizer)
  }
}
