import Foundation
import NibbleFormats
import NibbleModel
import NibbleTensor

/// The hidden states of token windows in two models: the source, and the quantized one.
/// There each block reads the output of the quantized blocks before it.
///
/// Held-out windows run through both models. Calibration windows run through those that the recipe
/// learns from. Their hidden states are empty in the other.
struct StateStreams {
  static let filePrefix = "states-"

  /// Token ids of each window.
  let windows: [[Int]]
  /// Number of held-out windows, which are last in `windows`.
  let heldOut: Int
  var source: WindowStates
  var quantized: WindowStates
  var pass: ForwardPass
  /// Ranges of keys and values in the most recent block that calibration ran.
  var keyValues = KeyValueRecord()
  /// The highest priority of the calibration tokens that a uniform sample keeps.
  let sampleBound: UInt64
  /// Where unnamed files with hidden states lie.
  let folder: String
  /// Indices of the calibration windows.
  var calibration: Range<Int> { 0..<windows.count - heldOut }

  /// Sets the hidden states to the embeddings of the windows.
  ///
  /// - Parameter folder: holds unnamed files with hidden states that exceed the memory limit.
  init(
    calibration: [[Int]], heldOut: [[Int]], needs: StepNeeds, config: DecoderShape,
    ends: DecoderEnds, in folder: String, on compute: Compute
  ) throws(QuantizeError) {
    windows = calibration + heldOut
    self.heldOut = heldOut.count
    self.folder = folder
    sampleBound = TokenSample.bound(of: calibration, capacity: ActivationRecord.sampled)
    let sizes = windows.map { $0.count * config.stateWidth }
    func followed(_ isFollowed: Bool) -> [Int] {
      isFollowed || needs.isEmpty
        ? sizes : sizes.enumerated().map { $0.offset < calibration.count ? 0 : $0.element }
    }
    source = try WindowStates(sizes: followed(!needs.isDisjoint(with: .sourceStates)), in: folder)
    quantized = try WindowStates(sizes: followed(needs.contains(.quantized)), in: folder)
    do {
      for (index, window) in windows.enumerated() {
        let states = try ends.states(of: window, on: compute)
        if source.sizes[index] > 0 { source[index] = states }
        if quantized.sizes[index] > 0 { quantized[index] = states }
      }
      pass = try ForwardPass(
        config, positions: windows.map(\.count).max() ?? 1, on: compute)
    } catch { throw .model(error) }
  }

  /// Runs both blocks over some windows. Returns the relative error of the quantized stream,
  /// `sqrt(Σ(x - x̂)² / Σx²)`.
  ///
  /// - Parameter cache: scales of the quantized block's KV cache; nil for a float cache.
  mutating func run(
    source block: Block, quantized other: Block, cache: KeyValueScales?, over range: Range<Int>
  ) -> Double {
    var (error, signal) = (0.0, 0.0)
    var (block, other) = (block, other)
    if range.count > 1 {
      block.pack(on: pass.compute)
      other.pack(on: pass.compute)
    }
    for index in range {
      let capacity = windows[index].count
      let store = pass.sequenceStore(of: block.shape, tokens: capacity)
      pass.run(block, on: &source[index], from: 0, keeping: store)
      var otherStore = store
      if let cache, let attention = block.shape.attention?.core {
        otherStore = .keysAndValues(
          KeyValueStore(
            attention, capacity: capacity, format: cache.format.cache, calibrated: cache))
      }
      pass.run(other, on: &quantized[index], from: 0, keeping: otherStore)
      let (left, right) = (quantized[index], source[index])
      // Without the carried values.
      let count = capacity * pass.shape.hidden
      let energy = errorEnergy(
        of: left.span.extracting(first: count), against: right.span.extracting(first: count))
      error += energy.error
      signal += energy.signal
    }
    return signal > 0 ? (error / signal).squareRoot() : 0
  }

  /// Moves the calibration windows of the quantized model past a block, if they run at all.
  mutating func advanceQuantized(past block: Block) {
    guard let first = calibration.first, quantized.sizes[first] > 0 else { return }
    var block = block
    block.pack(on: pass.compute)
    for index in calibration { pass.run(block, on: &quantized[index]) { _, _ in } }
  }

  /// Compares the logits of both models on the held-out windows.
  ///
  /// - Parameter kinds: of the held-out windows; nil when unknown.
  mutating func verdict(
    _ head: OutputHead, quantized quantizedHead: OutputHead, kinds: TextKinds?
  ) -> Verdict? {
    guard heldOut > 0 else { return nil }
    var comparison = StateComparison(quantizedHead, against: head, kinds: kinds)
    for (number, index) in windows.indices.suffix(heldOut).enumerated() {
      comparison.add(
        quantized[index], against: source[index], window: windows[index], index: number, &pass)
    }
    return Verdict(comparison.meter)
  }

  /// Writes the hidden states of both streams to a file. Returns the SHA-256 of the file.
  func spill(
    to folder: RunFolder<JournalEntry>, unit: Int
  ) throws(RunFolderError) -> String {
    let parts = (0..<2 * windows.count).lazy.map { index in
      FloatFormat.f32.encode(
        (index < windows.count ? source[index] : quantized[index - windows.count]).span)
    }
    return try folder.write(parts, to: Self.fileName(unit))
  }

  /// Reads the hidden states of both streams. Returns false if the file is not the one written.
  mutating func restore(
    from folder: RunFolder<JournalEntry>, unit: Int, sha256: String
  ) -> Bool {
    guard let file = try? MappedFile(path: folder.path + "/" + Self.fileName(unit)) else {
      return false
    }
    var end = 0
    let parts = (source.sizes + quantized.sizes).map { size in
      defer { end += 4 * size }
      return end..<end + 4 * size
    }
    guard end == file.count else { return false }
    var hash = Checksum(.sha256)
    for part in parts {
      let bytes = Bytes(file, part)
      hash.update(bytes)
      bytes.release()
    }
    guard hash.hexadecimal() == sha256 else { return false }
    for (index, part) in parts.enumerated() where !part.isEmpty {
      let bytes = Bytes(file, part)
      let states = FloatFormat.f32.decode(bytes)
      if index < windows.count {
        source[index] = states
      } else {
        quantized[index - windows.count] = states
      }
      bytes.release()
    }
    return true
  }

  /// Removes the file of an earlier unit, after the journal names a later one.
  func removeSpill(of unit: Int, from folder: RunFolder<JournalEntry>) {
    folder.remove(Self.fileName(unit))
  }

  private static func fileName(_ unit: Int) -> String { "\(filePrefix)\(unit).bin" }
}
