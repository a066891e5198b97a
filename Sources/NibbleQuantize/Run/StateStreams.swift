import Crypto
import Foundation
import NibbleFormats
import NibbleModel
import NibbleTensor

/// The hidden states of some windows of tokens in two models: the source, and the quantized one as it
/// really runs.
///
/// Held-out windows run through both. Calibration windows run through those that the recipe learns
/// from; in the other their states are empty.
struct StateStreams {
  static let filePrefix = "states-"

  /// Tokens of each window.
  let windows: [[Int]]
  /// How many of the windows, at the end, are held out for the verdict.
  let heldOut: Int
  /// `[window][t, hidden]`
  var source: [[Float]]
  var quantized: [[Float]]
  var pass: ForwardPass
  /// What calibration saw of the keys and values of the last block that it watched.
  var keyValues = KeyValueRecord()
  /// The windows that are not held out.
  var calibration: Range<Int> { 0..<windows.count - heldOut }

  /// Starts at the embedding.
  init(
    calibration: [[Int]], heldOut: [[Int]], needs: Step.Needs, config: DecoderConfig,
    ends: DecoderEnds, on compute: Compute
  ) throws(ModelError) {
    windows = calibration + heldOut
    self.heldOut = heldOut.count
    source = []
    for window in windows { source.append(try ends.states(of: window)) }
    quantized = source
    for index in calibration.indices where !needs.isEmpty {
      if needs.isDisjoint(with: .sourceStates) { source[index] = [] }
      if !needs.contains(.quantized) { quantized[index] = [] }
    }
    pass = try ForwardPass(
      config, positions: windows.map(\.count).max() ?? 1, on: compute)
  }

  /// Runs both blocks over some windows; returns the relative error of the quantized stream,
  /// `sqrt(Σ(x - x̂)² / Σx²)`.
  mutating func run(
    source block: Block, quantized other: Block, over range: Range<Int>
  ) -> Double {
    var (error, signal) = (0.0, 0.0)
    var (block, other) = (block, other)
    if range.count > 1 {
      block.pack(on: pass.compute)
      other.pack(on: pass.compute)
    }
    for index in range {
      let capacity = windows[index].count
      let store = KeyValueStore(pass.config.attention, capacity: capacity)
      pass.run(block, on: &source[index], from: 0, keeping: store)
      pass.run(other, on: &quantized[index], from: 0, keeping: store)
      let (left, right) = (quantized[index], source[index])
      let energy = errorEnergy(of: left.span, against: right.span)
      error += energy.error
      signal += energy.signal
    }
    return signal > 0 ? (error / signal).squareRoot() : 0
  }

  /// Compares the two models' logits on the held-out windows.
  mutating func verdict(
    norm: [Float], head: Weight, quantizedHead: Weight
  ) -> Verdict? {
    guard heldOut > 0 else { return nil }
    var (head, quantizedHead) = (PreparedWeight(head), PreparedWeight(quantizedHead))
    head.packForSteps(on: pass.compute)
    quantizedHead.packForSteps(on: pass.compute)
    var meter = LossMeter()
    let (width, vocabulary) = (pass.config.hidden, pass.config.vocabulary)
    var logits: [Float] = []
    var base: [Float] = []
    for index in windows.indices.suffix(heldOut) {
      let window = windows[index]
      for start in stride(from: 0, to: window.count - 1, by: logitRows) {
        let rows = start..<min(start + logitRows, window.count - 1)
        let values = rows.lowerBound * width..<rows.upperBound * width
        if logits.count != rows.count * vocabulary {
          logits = [Float](repeating: 0, count: rows.count * vocabulary)
          base = logits
        }
        pass.logits(Array(source[index][values]), norm: norm, head: head, into: &base)
        pass.logits(
          Array(quantized[index][values]), norm: norm, head: quantizedHead, into: &logits)
        meter.add(
          pass.compute.compare(
            logits.span, to: base.span, targets: rows.map { window[$0 + 1] }))
      }
    }
    return Verdict(meter)
  }

  /// Writes both streams; returns the file's SHA-256.
  func spill(to folder: RunFolder, unit: Int) throws(QuantizeError) -> String {
    var bytes: [UInt8] = []
    for window in source + quantized { bytes += FloatFormat.f32.encode(window.span) }
    try folder.write(bytes, to: Self.fileName(unit))
    return hexadecimal(SHA256.hash(data: bytes))
  }

  /// Reads both streams back; false, and nothing changes, when the file is not what was written.
  mutating func restore(from folder: RunFolder, unit: Int, sha256: String) -> Bool {
    guard let file = try? MappedFile(path: folder.path + "/" + Self.fileName(unit)) else {
      return false
    }
    let bytes = Bytes(file, 0..<file.count)
    let hash = unsafe bytes.withUnsafeBytes { unsafe SHA256.hash(data: $0) }
    let sizes = (source + quantized).map(\.count)
    guard hexadecimal(hash) == sha256, bytes.count == 4 * sizes.reduce(0, +) else { return false }
    var at = 0
    let states = sizes.map { count in
      defer { at += 4 * count }
      return FloatFormat.f32.decode(bytes[at..<at + 4 * count])
    }
    source = Array(states.prefix(source.count))
    quantized = Array(states.suffix(quantized.count))
    return true
  }

  /// Removes the file of an earlier unit, once the journal names a later one.
  func removeSpill(of unit: Int, from folder: RunFolder) { folder.remove(Self.fileName(unit)) }

  private static func fileName(_ unit: Int) -> String { "\(filePrefix)\(unit).bin" }
}
