import Foundation
import NibbleTensor

/// The sibling folder in which an output is written until it is complete: `OUT.nibble-partial`.
///
/// Its journal has one `Entry` per finished unit of work, each line with its own checksum. The
/// folder is locked while a run writes. A run with the same fingerprint continues it. After a crash
/// nothing in it is trusted until its checksum has been compared.
package final class RunFolder<Entry: Codable> {
  /// Final path of the output, links resolved.
  package let output: String
  /// Path while it is written.
  package let path: String
  package private(set) var entries: [Entry] = []
  private var journal: Int32 = -1
  /// Ends of the header and of each entry in the journal.
  private var lineEnds: [Int] = []
  private let lastFile: String
  private let scratchPrefix: String?
  private static var journalName: String { "journal.jsonl" }

  /// Opens the folder for `output`, or continues one whose run had the same fingerprint.
  ///
  /// - Parameters:
  ///   - source: the model that is read; the output must be neither it nor inside it.
  ///   - lastFile: the file that a run writes last. A folder with this file and without a journal
  ///     was left by a run that was killed while it published; its content cannot be checked, so it
  ///     starts over.
  ///   - scratchPrefix: prefix of the names of temporary files.
  package init(
    output: String, source: String?, fingerprint: String, lastFile: String,
    scratchPrefix: String? = nil
  ) throws(RunFolderError) {
    self.lastFile = lastFile
    self.scratchPrefix = scratchPrefix
    self.output = try OutputPath.checked(output, source: source)
    path = self.output + OutputPath.partialSuffix
    do {
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    } catch { throw .file(FileError("create the folder", path)) }
    var names = try Self.names(in: path)
    if names.contains(lastFile), !names.contains(Self.journalName) {
      try Self.empty(path)
      names = []
    }
    let journalPath = path + "/" + Self.journalName
    if !names.isEmpty, !names.contains(Self.journalName) {
      throw .unfinishedRun(path, reason: "it has no journal, so it is not Nibble's")
    }
    journal = unsafe open(journalPath, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0o644)
    guard journal >= 0 else { throw .file(FileError("open", journalPath)) }
    guard flock(journal, LOCK_EX | LOCK_NB) == 0 else { throw .busy(path) }
    try readJournal(journalPath, fingerprint: fingerprint)
  }

  deinit { if journal >= 0 { close(journal) } }

  /// The journal ends at the first line that a crash cut off.
  private func readJournal(_ path: String, fingerprint: String) throws(RunFolderError) {
    let header = RunFolderHeader(fingerprint: fingerprint)
    guard let text = try? String(contentsOfFile: path, encoding: .utf8), text.contains("\n") else {
      try cutAfterLastLine()
      return try append(line: header)
    }
    var lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    lines.removeLast()
    let decoder = JSONDecoder()
    guard let first = lines.first,
      let found = try? decoder.decode(
        RunFolderHeader.self, from: Data(Self.content(first).utf8))
    else { throw .unfinishedRun(self.path, reason: "its journal is not Nibble's") }
    guard found == header else {
      // A run that finished no unit has nothing to lose.
      guard lines.count > 1 else { return try startOver(header) }
      throw .unfinishedRun(
        self.path, reason: "of another source, recipe, option or version of Nibble")
    }
    lineEnds = [first.utf8.count + 1]
    for line in lines.dropFirst() {
      guard let entry = try? decoder.decode(Entry.self, from: Data(Self.content(line).utf8))
      else { break }
      entries.append(entry)
      lineEnds.append((lineEnds.last ?? 0) + line.utf8.count + 1)
    }
    // A cut-off line must not remain before the next one.
    try cutAfterLastLine()
  }

  private func startOver(_ header: RunFolderHeader) throws(RunFolderError) {
    try Self.empty(path, keeping: Self.journalName)
    lineEnds = []
    try cutAfterLastLine()
    try append(line: header)
  }

  /// Records that a unit of work is finished.
  package func append(_ entry: Entry) throws(RunFolderError) {
    try append(line: entry)
    entries.append(entry)
  }

  private func append(line value: some Encodable) throws(RunFolderError) {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys]
    guard var line = try? encoder.encode(value) else { throw .notFinite }
    line = Data((Self.checksum(Array(line)) + " ").utf8) + line
    line.append(UInt8(ascii: "\n"))
    let written = unsafe line.withUnsafeBytes {
      unsafe Foundation.write(journal, $0.baseAddress, $0.count)
    }
    guard written == line.count else { throw .file(FileError("write the journal in", path)) }
    lineEnds.append((lineEnds.last ?? 0) + line.count)
  }

  /// The content of a line; empty when the line is damaged. Each line starts with the first 16
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
  package func keep(_ count: Int) throws(RunFolderError) {
    guard count < entries.count else { return }
    entries.removeLast(entries.count - count)
    lineEnds.removeLast(lineEnds.count - 1 - count)
    try cutAfterLastLine()
  }

  private func cutAfterLastLine() throws(RunFolderError) {
    guard ftruncate(journal, off_t(lineEnds.last ?? 0)) == 0 else {
      throw .file(FileError("shorten the journal in", path))
    }
  }

  package func write(_ bytes: [UInt8], to name: String) throws(RunFolderError) {
    try write(CollectionOfOne(bytes), to: name)
  }

  /// Writes a file, part by part, and waits for the disk; returns its SHA-256.
  @discardableResult
  package func write(
    _ parts: some Sequence<[UInt8]>, to name: String
  ) throws(RunFolderError) -> String {
    try DurableFile.write(parts, to: path + "/" + name)
  }

  package func remove(_ name: String) { unsafe unlink(path + "/" + name) }

  /// The SHA-256 of every file that will be published, by its path in the folder, to be listed in
  /// the last file. The last file itself is left out, even if a killed run has written it already.
  package func checksums() throws(RunFolderError) -> [(name: String, sha256: String)] {
    var found: [(name: String, sha256: String)] = []
    for name in try Self.files(in: path).sorted() where !isScratch(name) && name != lastFile {
      do {
        let file = try MappedFile(path: path + "/" + name)
        found.append((name, Bytes(file, 0..<file.count).sha256()))
      } catch { throw .file(error) }
    }
    return found
  }

  private func isScratch(_ name: String) -> Bool {
    name == Self.journalName || scratchPrefix.map(name.hasPrefix) == true
  }

  /// Removes temporary files, waits for the disk, and gives the folder its name.
  package func publish() throws(RunFolderError) {
    let names = try Self.files(in: path)
    for name in names where isScratch(name) { remove(name) }
    for folder in try Self.folders(in: path) {
      try DurableFile.synchronize(folder: path + "/" + folder)
    }
    try DurableFile.synchronize(folder: path)
    // An empty folder may exist there: rename replaces it.
    guard unsafe rename(path, output) == 0 else { throw .file(FileError("name", output)) }
    let parent = (output as NSString).deletingLastPathComponent
    try DurableFile.synchronize(folder: parent.isEmpty ? "." : parent)
  }

  private static func names(in folder: String) throws(RunFolderError) -> [String] {
    do { return try FileManager.default.contentsOfDirectory(atPath: folder) } catch {
      throw .file(FileError("list the folder", folder, code: EACCES))
    }
  }

  private static func empty(
    _ folder: String, keeping kept: String? = nil
  ) throws(RunFolderError) {
    for name in try names(in: folder) where name != kept {
      do { try FileManager.default.removeItem(atPath: folder + "/" + name) } catch {
        throw .file(FileError("remove", folder + "/" + name))
      }
    }
  }

  /// Files in the folder and in the folders below it.
  private static func files(in folder: String) throws(RunFolderError) -> [String] {
    let folders = try Self.folders(in: folder)
    var files = try names(in: folder).filter { !folders.contains($0) }
    for below in folders {
      files += try Self.files(in: folder + "/" + below).map { below + "/" + $0 }
    }
    return files
  }

  private static func folders(in folder: String) throws(RunFolderError) -> [String] {
    try names(in: folder).filter { name in
      var isFolder: ObjCBool = false
      return unsafe FileManager.default.fileExists(
        atPath: folder + "/" + name, isDirectory: &isFolder) && isFolder.boolValue
    }
  }
}

/// The first line of a journal.
private struct RunFolderHeader: Codable, Hashable {
  var fingerprint: String
}
