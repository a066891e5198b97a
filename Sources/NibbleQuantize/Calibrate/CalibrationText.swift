import NibbleTensor
public import NibbleText

/// The documents that calibration windows are cut from.
///
/// One plain text, or the records of a JSON file: `RecordText` says which fields are read.
public struct CalibrationText: Sendable {
  /// Origin of the text, for errors.
  public let path: String
  /// The documents; none is empty.
  public private(set) var documents: [String] = []
  /// Number of records whose fields were all empty; they give no document.
  public private(set) var emptyRecords = 0

  /// One plain text.
  public init(_ text: String, path: String) {
    self.path = path
    documents = text.isEmpty ? [] : [text]
  }

  /// Whether a file holds records, according to its name.
  public static func holdsRecords(path: String) throws(CalibrationTextError) -> Bool {
    try RecordFile.Kind(path: path) != .text
  }

  /// The records of a `.jsonl`, `.ndjson` or `.json` file.
  ///
  /// - Parameters:
  ///   - fields: the fields to read of each record, in this order, joined by line feeds; empty to
  ///     detect.
  ///   - template: renders conversations as text.
  public init(
    records path: String, fields: [String] = [], template: ChatTemplate?, tokenizer: Tokenizer
  ) throws(CalibrationTextError) {
    self.path = path
    let text = RecordText(
      fields: fields, template: template, variables: tokenizer.templateVariables)
    try RecordFile(path: path, isRecord: text.isRecord).visit {
      (place, record) throws(CalibrationTextError) in
      do throws(RecordFault) {
        let document = try text.document(record)
        if document.isEmpty { emptyRecords += 1 } else { documents.append(document) }
      } catch { throw .record(path: path, place, error) }
    }
    guard !documents.isEmpty else { throw .empty(path: path) }
  }
}
