import ArgumentParser
import Foundation
import NibbleFormats
import NibbleModel
import NibbleQuantize
import NibbleTensor

@main struct Nibble: ParsableCommand {
  @Argument var model: String
  @Argument var ids: String
  @Option var precision: String = "f32"
  @Option var windows: Int = 20
  func run() throws {
    let c = try Checkpoint(path: model)
    let d = try Decoder(c.decoderConfig(), from: c)
    let ids = try Checkpoint.json(ids).array!.compactMap(\.int)
    let compute = Compute(precision: Precision(rawValue: precision)!)
    var w = EvaluationWindows()
    w.count = windows
    let t = ContinuousClock().now
    let e = try Evaluation(d, tokens: ids, windows: w, on: compute) { print($0, $1, $2) }
    print(e, ContinuousClock().now - t)
  }
}
