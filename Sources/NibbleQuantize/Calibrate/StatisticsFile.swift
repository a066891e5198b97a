import Foundation
import NibbleFormats
import NibbleModel
import NibbleTensor

/// Statistics of a model's activations on disk: a safetensors file with one record per block and
/// site.
///
/// A record of site `s` of block `i` has tensors `block.i.s.` and: `low`, `high` F32 `[k]`;
/// `magnitude`, `energy` I64 `[k, 2]`, the two words of an order-free sum; `sample`, `loudest` F32
/// `[r, k]` with `sample.keys`, `loudest.keys` U64 `[r]`. The down projection of an expert has
/// `tokens` I64 `[1]`, the tokens that reached it; its samples are padded with zeros to the size
/// that all tokens would fill. Each block has `block.i.` and `keys.low`, `keys.high`, `values.low`,
/// `values.high` F32 `[keyHeads · d]`. `windows` U64 `[w]` identifies the windows seen, ascending.
/// The metadata holds the number of tokens and the model's fingerprint.
public struct StatisticsFile: Sendable {
  public let path: String
  public let tokens: Int
  /// The windows seen.
  public let windows: Set<WindowIdentity>
  let model: String
  private let file: SafetensorsFile

  public init(path: String) throws(QuantizeError) {
    self.path = path
    do { file = try SafetensorsFile(path: path) } catch { throw .format(error) }
    guard file.metadata["kind"] == Self.kind, let model = file.metadata["model"],
      let tokens = file.metadata["tokens"].flatMap(Int.init),
      (1...1 << 48).contains(tokens),
      let entry = file.entry("windows"), entry.dtype == .u64, let bytes = file.bytes(of: "windows")
    else { throw .statistics(path: path, reason: "it was not written by nibble calibrate") }
    self.model = model
    self.tokens = tokens
    windows = Set(Self.words(bytes).map(WindowIdentity.init(hash:)))
  }

  /// The key is not `format`, which is reserved in every safetensors file.
  static let kind = "nibble-statistics-1"

  /// SHA-256 of the content that affects the result of a run.
  func digest() throws(FileError) -> String {
    let file = try MappedFile(path: path)
    return Bytes(file, 0..<file.count).sha256()
  }

  /// Checks that the statistics are this model's.
  func check(_ checkpoint: Checkpoint) throws(QuantizeError) {
    guard model == Self.fingerprint(of: checkpoint) else {
      throw .statistics(path: path, reason: "it is of another model, or of changed weights")
    }
  }

  /// Identifies a model's weights: names, shapes, sizes, and the config.
  static func fingerprint(of checkpoint: Checkpoint) -> String {
    var lines = checkpoint.tensors.map { "\($0.name) \($0.dtype) \($0.shape)" }
    // The dates of files are left out: a copy of the model is the same model.
    lines.append(checkpoint.config.text())
    return Bytes(Array(lines.joined(separator: "\n").utf8)).sha256()
  }

  func record(_ block: Int, _ site: Site) throws(QuantizeError) -> ActivationRecord {
    let prefix = "block.\(block).\(site.rawValue)."
    let tokens = reached(prefix + "tokens")
    if tokens == 0, let low = floats(prefix + "low"), !low.isEmpty {
      return ActivationRecord(channels: low.count)
    }
    guard let low = floats(prefix + "low"), let high = floats(prefix + "high"),
      let magnitude = sums(prefix + "magnitude"), let energy = sums(prefix + "energy"),
      let sample = tokenSample(
        prefix + "sample", ActivationRecord.sampled, .any, low.count, of: tokens),
      let loudest = tokenSample(
        prefix + "loudest", ActivationRecord.loudest, .loudest, low.count, of: tokens),
      let record = ActivationRecord(
        tokens: tokens, low: low, high: high, magnitude: magnitude, energy: energy, sample: sample,
        loudest: loudest)
    else {
      throw .statistics(
        path: path, reason: "its record of block \(block), \(site.rawValue), is damaged")
    }
    return record
  }

  func keyValues(_ block: Int) throws(QuantizeError) -> KeyValueRecord {
    let prefix = "block.\(block)."
    func range(_ name: String) -> KeyValueRecord.ChannelRange {
      KeyValueRecord.ChannelRange(
        low: floats(prefix + name + ".low") ?? [], high: floats(prefix + name + ".high") ?? [])
    }
    guard
      let record = KeyValueRecord(
        tokens: tokens, keys: range("keys"), values: range("values"))
    else {
      throw .statistics(
        path: path, reason: "its ranges of keys and values of block \(block) are missing or damaged"
      )
    }
    return record
  }

  /// Number of tokens that reached a site: all of them unless the file stores another number.
  private func reached(_ name: String) -> Int {
    guard let entry = file.entry(name), entry.dtype == .i64, let bytes = file.bytes(of: name),
      let word = Self.words(bytes).first, word <= UInt64(tokens)
    else { return tokens }
    return Int(word)
  }

  private func floats(_ name: String) -> [Float]? {
    guard let entry = file.entry(name), entry.dtype == .f32, let bytes = file.bytes(of: name)
    else { return nil }
    let values = FloatFormat.f32.decode(bytes)
    return values.allSatisfy(\.isFinite) ? values : nil
  }

  private func sums(_ name: String) -> [OrderFreeSum]? {
    guard let entry = file.entry(name), entry.dtype == .i64, entry.shape.last == 2,
      let bytes = file.bytes(of: name)
    else { return nil }
    let words = Self.words(bytes).map { Int64(bitPattern: $0) }
    var sums: [OrderFreeSum] = []
    for index in 0..<words.count / 2 {
      guard let sum = OrderFreeSum(high: words[2 * index], low: words[2 * index + 1]) else {
        return nil
      }
      sums.append(sum)
    }
    return sums
  }

  private func tokenSample(
    _ name: String, _ capacity: Int, _ keeps: TokenSample.Choice, _ channels: Int,
    of tokens: Int
  ) -> TokenSample? {
    guard let values = floats(name), channels > 0, values.count.isMultiple(of: channels),
      let entry = file.entry(name + ".keys"), entry.dtype == .u64,
      let bytes = file.bytes(of: name + ".keys"), entry.elementCount * channels == values.count,
      entry.elementCount <= capacity
    else { return nil }
    let count = min(tokens, entry.elementCount)
    return TokenSample(
      channels: channels, capacity: capacity, keeps: keeps,
      rows: FloatRows(Array(values.prefix(count * channels)), columns: channels),
      priorities: Array(Self.words(bytes).prefix(count)))
  }

  private static func words(_ bytes: Bytes) -> [UInt64] {
    let array = bytes.array
    return (0..<array.count / 8).map { index in
      array[8 * index..<8 * index + 8].reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }
  }
}

/// Writes a statistics file record by record; the file gets its name when it is complete.
final class StatisticsWriter {
  private var output: OutputFile
  private let writer: SafetensorsWriter

  init(
    _ shape: DecoderShape, model: String, tokens: Int, windows: Set<WindowIdentity>,
    to path: String
  ) throws(QuantizeError) {
    do { output = try OutputFile(path) } catch { throw .folder(error) }
    var tensors: [SafetensorsLayout.Tensor] = []
    func add(_ name: String, _ dtype: DType, _ shape: [Int]) {
      tensors.append(SafetensorsLayout.Tensor(name: name, dtype: dtype, shape: shape))
    }
    for (block, shape) in shape.blocks.enumerated() {
      let width = shape.attention?.core.keyWidth ?? 0
      for name in Self.cacheParts { add("block.\(block).\(name)", .f32, [width]) }
      for site in shape.sites {
        let prefix = "block.\(block).\(site.site.rawValue)."
        let k = site.width
        if site.expert != nil { add(prefix + "tokens", .i64, [1]) }
        add(prefix + "low", .f32, [k])
        add(prefix + "high", .f32, [k])
        add(prefix + "magnitude", .i64, [k, 2])
        add(prefix + "energy", .i64, [k, 2])
        for (name, capacity) in [
          ("sample", ActivationRecord.sampled), ("loudest", ActivationRecord.loudest),
        ] {
          add(prefix + name, .f32, [min(tokens, capacity), k])
          add(prefix + name + ".keys", .u64, [min(tokens, capacity)])
        }
      }
    }
    add("windows", .u64, [windows.count])
    do {
      writer = try SafetensorsWriter(
        layout: SafetensorsLayout(
          tensors,
          metadata: [
            "kind": StatisticsFile.kind, "model": model, "tokens": "\(tokens)",
            "nibble": NibbleVersion.current,
          ]), path: output.partial)
      self.windows = windows
      self.tokens = tokens
    } catch { throw .format(error) }
  }

  private let tokens: Int
  private let windows: Set<WindowIdentity>
  private static let cacheParts = ["keys.low", "keys.high", "values.low", "values.high"]

  /// Must be called before the records of the block's sites.
  func append(_ record: KeyValueRecord, _ block: Int) throws(QuantizeError) {
    let parts = [record.keys.low, record.keys.high, record.values.low, record.values.high]
    do {
      for (name, values) in zip(Self.cacheParts, parts) {
        try writer.append(
          Bytes(FloatFormat.f32.encode(values.span)), of: "block.\(block).\(name)")
      }
    } catch { throw .format(error) }
  }

  func append(
    _ record: ActivationRecord, _ block: Int, _ shape: SiteShape
  ) throws(QuantizeError) {
    let prefix = "block.\(block).\(shape.site.rawValue)."
    // An expert may have been reached by fewer tokens than a sample holds, or by none.
    func filled<Element>(_ values: [Element], _ count: Int, _ zero: Element) -> [Element] {
      values + [Element](repeating: zero, count: max(0, count - values.count))
    }
    let none = [Float](repeating: 0, count: record.channels)
    let (low, high) = record.tokens > 0 ? (record.low, record.high) : (none, none)
    func sums(_ sums: [OrderFreeSum]) -> [UInt8] {
      Self.bytes(sums.flatMap { [UInt64(bitPattern: $0.high), UInt64(bitPattern: $0.low)] })
    }
    var parts: [(String, [UInt8])] = [
      ("low", FloatFormat.f32.encode(low.span)), ("high", FloatFormat.f32.encode(high.span)),
      ("magnitude", sums(record.magnitude)), ("energy", sums(record.energy)),
    ]
    for (name, sample, capacity) in [
      ("sample", record.sample, ActivationRecord.sampled),
      ("loudest", record.loudest, ActivationRecord.loudest),
    ] {
      let rows = min(tokens, capacity)
      let values = filled(sample.values.values, rows * record.channels, 0)
      parts.append((name, FloatFormat.f32.encode(values.span)))
      parts.append((name + ".keys", Self.bytes(filled(sample.priorities, rows, 0))))
    }
    if shape.expert != nil { parts.insert(("tokens", Self.bytes([UInt64(record.tokens)])), at: 0) }
    do {
      for (name, bytes) in parts { try writer.append(Bytes(bytes), of: prefix + name) }
    } catch { throw .format(error) }
  }

  func finish() throws(QuantizeError) {
    do {
      try writer.append(Bytes(Self.bytes(windows.map(\.hash).sorted())), of: "windows")
      try writer.finish()
      try output.publish()
    } catch { throw QuantizeError(wrapping: error) }
  }

  private static func bytes(_ words: [UInt64]) -> [UInt8] {
    words.flatMap { word in (0..<8).map { UInt8(truncatingIfNeeded: word >> (8 * $0)) } }
  }
}
