import Foundation
import NibbleFormats
import NibbleModel
import NibbleTensor

/// The sibling folder in which a run is written until it is whole: `OUT.nibble-partial`.
///
/// Its journal says which units are finished and what their bytes hash to; it is locked while a run
/// writes. Nothing in it is trusted after a crash before its hash was checked again.
final class RunFolder {
  let output: String
  let path: String
  private(set) var entries: [JournalEntry] = []
  private var journal: Int32 = -1
  /// Where the header and each entry end in the journal.
  private var lineEnds: [Int] = []
  private static let journalName = "journal.jsonl"

  /// Opens the folder for `output`, or continues one whose run had the same fingerprint.
  ///
  /// - Parameter source: the model that is read, which the output must not be or lie in.
  init(output: String, source: String, fingerprint: String) throws(QuantizeError) {
    // Without a slash at the end, which would put the partial folder inside the output.
    self.output = URL(fileURLWithPath: output).standardizedFileURL.path
    path = self.output + ".nibble-partial"
    let source = URL(fileURLWithPath: source).standardizedFileURL.path
    guard self.output != source, !self.output.hasPrefix(source + "/") else {
      throw .outputIsSource(output)
    }
    try Self.checkOutput(self.output)
    do {
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    } catch { throw .format(.file(FileError("create the folder", path))) }
    var names = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
    if names.contains(CompanionFiles.reportName), !names.contains(Self.journalName) {
      // A run that was killed while it published: what is left cannot be checked, so it starts over.
      for name in names { unsafe unlink(path + "/" + name) }
      names = []
    }
    let isNew = names.isEmpty
    let journalPath = path + "/" + Self.journalName
    if !isNew, !FileManager.default.fileExists(atPath: journalPath) {
      throw .unfinishedRun(path, reason: "it has no journal, so it is not Nibble's")
    }
    journal = unsafe open(journalPath, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0o644)
    guard journal >= 0 else { throw .format(.file(FileError("open", journalPath))) }
    guard flock(journal, LOCK_EX | LOCK_NB) == 0 else { throw .busy(path) }
    try readJournal(journalPath, fingerprint: fingerprint)
  }

  deinit { if journal >= 0 { close(journal) } }

  private static func checkOutput(_ output: String) throws(QuantizeError) {
    var isFolder: ObjCBool = false
    guard unsafe FileManager.default.fileExists(atPath: output, isDirectory: &isFolder) else {
      return
    }
    let content = try? FileManager.default.contentsOfDirectory(atPath: output)
    guard isFolder.boolValue, content?.isEmpty == true else { throw .outputExists(output) }
  }

  /// Lines that were cut off by a crash end the journal.
  private func readJournal(_ path: String, fingerprint: String) throws(QuantizeError) {
    let header = JournalHeader(fingerprint: fingerprint)
    guard let text = try? String(contentsOfFile: path, encoding: .utf8), text.contains("\n") else {
      try cutAfterLastLine()
      return try append(header)
    }
    var lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    lines.removeLast()
    let decoder = JSONDecoder()
    guard let first = lines.first,
      let found = try? decoder.decode(JournalHeader.self, from: Data(Self.content(first).utf8))
    else { throw .unfinishedRun(self.path, reason: "its journal is not Nibble's") }
    guard found == header else {
      throw .unfinishedRun(
        self.path, reason: "of another source, recipe, option or version of Nibble")
    }
    lineEnds = [first.utf8.count + 1]
    for line in lines.dropFirst() {
      guard
        let entry = try? decoder.decode(JournalEntry.self, from: Data(Self.content(line).utf8)),
        entry.unit == entries.count
      else { break }
      entries.append(entry)
      lineEnds.append((lineEnds.last ?? 0) + line.utf8.count + 1)
    }
    // What was cut off must not stand before the next line.
    try cutAfterLastLine()
  }

  func append(_ entry: JournalEntry) throws(QuantizeError) {
    try append(entry as any Encodable)
    entries.append(entry)
  }

  private func append(_ value: any Encodable) throws(QuantizeError) {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys]
    guard var line = try? encoder.encode(value) else {
      throw .unmeasurable("the journal cannot hold a number that is not finite")
    }
    line = Data((Self.checksum(Array(line)) + " ").utf8) + line
    line.append(UInt8(ascii: "\n"))
    let written = unsafe line.withUnsafeBytes {
      unsafe Foundation.write(journal, $0.baseAddress, $0.count)
    }
    guard written == line.count else {
      throw .format(.file(FileError("write the journal in", path)))
    }
    lineEnds.append((lineEnds.last ?? 0) + line.count)
  }

  /// What a line says, or nothing when it is not what was written: each starts with the first 16
  /// digits of the SHA-256 of the rest.
  private static func content(_ line: Substring) -> Substring {
    let parts = line.split(separator: " ", maxSplits: 1)
    guard parts.count == 2, checksum(Array(parts[1].utf8)) == parts[0] else { return "" }
    return parts[1]
  }

  private static func checksum(_ content: [UInt8]) -> String {
    String(Checksum.sha256(content).prefix(16))
  }

  /// Keeps the first `count` entries.
  func keep(_ count: Int) throws(QuantizeError) {
    guard count < entries.count else { return }
    entries.removeLast(entries.count - count)
    lineEnds.removeLast(lineEnds.count - 1 - count)
    try cutAfterLastLine()
  }

  private func cutAfterLastLine() throws(QuantizeError) {
    guard ftruncate(journal, off_t(lineEnds.last ?? 0)) == 0 else {
      throw .format(.file(FileError("shorten the journal in", path)))
    }
  }

  func write(_ bytes: [UInt8], to name: String) throws(QuantizeError) {
    try write(CollectionOfOne(bytes), to: name)
  }

  /// Writes a file, part by part, and waits for the disk; returns its SHA-256.
  @discardableResult
  func write(
    _ parts: some Sequence<[UInt8]>, to name: String
  ) throws(QuantizeError) -> String {
    let file = unsafe open(path + "/" + name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
    guard file >= 0 else { throw .format(.file(FileError("create", path + "/" + name))) }
    defer { close(file) }
    var hash = Checksum(.sha256)
    for bytes in parts {
      var done = 0
      while done < bytes.count {
        let count = unsafe bytes.withUnsafeBytes {
          unsafe Foundation.write(file, $0.baseAddress! + done, $0.count - done)
        }
        guard count > 0 else { throw .format(.file(FileError("write", path + "/" + name))) }
        done += count
      }
      hash.update(bytes)
    }
    guard fsync(file) == 0 else { throw .format(.file(FileError("flush", path + "/" + name))) }
    return hash.hexadecimal()
  }

  func remove(_ name: String) { unsafe unlink(path + "/" + name) }

  /// Removes what only the run needed, and gives the folder its name.
  func publish() throws(QuantizeError) {
    for name in (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
    where name == Self.journalName || name.hasPrefix(StateStreams.filePrefix) { remove(name) }
    try synchronize(path)
    // An empty folder may stand there already: rename replaces it.
    guard unsafe rename(path, output) == 0 else { throw .format(.file(FileError("name", output))) }
    let parent = (output as NSString).deletingLastPathComponent
    try synchronize(parent.isEmpty ? "." : parent)
  }

  private func synchronize(_ folder: String) throws(QuantizeError) {
    let file = unsafe open(folder, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { throw .format(.file(FileError("open", folder))) }
    defer { close(file) }
    guard fsync(file) == 0 else { throw .format(.file(FileError("flush", folder))) }
  }
}

/// The first line of a journal.
struct JournalHeader: Codable, Hashable {
  var fingerprint: String
}

/// One finished unit.
struct JournalEntry: Codable, Hashable {
  var unit: Int
  /// Of the unit's bytes in its shard, hexadecimal.
  var sha256: String
  var layers: [LayerReport]
  var steps: [StepReport] = []
  /// Of the block's keys and values, when the recipe scales their cache.
  var cache: KeyValueRanges?
  /// Relative error of the quantized stream's states after this block.
  var runningError: Double?
  /// Of the states after this unit, when they were written out.
  var states: String?
}

/// What rounding cost one layer.
public struct LayerReport: Codable, Hashable, Sendable {
  public var path: String
  /// Signal-to-quantization-noise of the weight, dB; nil when nothing was lost.
  public var signalToNoise: Double?
  /// Of a layer whose codes are made to be compressed.
  public var sparsity: SparsityReport?
}
