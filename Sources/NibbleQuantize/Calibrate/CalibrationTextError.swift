public import NibbleFormats
public import NibbleTensor
public import NibbleText

/// Why calibration text cannot be used. Says where, what, and what to do next.
public enum CalibrationTextError: Error, Hashable, Sendable {
  case file(FileError)
  /// A kind of file that cannot be read, according to its name.
  case format(path: String, kind: String)
  case tooLarge(path: String, bytes: Int, limit: Int)
  /// The file holds no list of records.
  case noRecords(path: String, found: String)
  case record(path: String, RecordPlace, RecordFault)
  /// Every record was empty, or there were none.
  case empty(path: String)
  /// Field names were given for text without fields.
  case noFields(path: String, field: String)
  case tooFewTokens(path: String, tokens: Int, windows: Int, length: Int)
}

/// Position of a record in its file, counted from 1.
public enum RecordPlace: Hashable, Sendable {
  case line(Int)
  case record(Int)
}

/// A fault in a record.
public enum RecordFault: Error, Hashable, Sendable {
  case json(JSONError)
  case notAnObject(found: String)
  /// No known set of fields; the payload is the names of the record's fields.
  case unknownFields([String])
  case missingField(String, found: [String])
  case notText(field: String, found: String)
  /// The message, counted from 1.
  case message(Int, reason: String)
  case noChatTemplate(field: String)
  case chatTemplate(ChatTemplateError)
}

extension CalibrationTextError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .file(let error): error.isMissing ? "\(error). Check the path." : "\(error)"
    case .format(let path, let kind):
      "\(path): \(kind) files are not read. Write its records as JSON lines (.jsonl), as pandas' "
        + "to_json(orient=\"records\", lines=True) does, or its text as .txt."
    case .tooLarge(let path, let bytes, let limit):
      "\(path): \(bytes) bytes, and at most \(limit) are read. Give a part of it"
        + (path.lowercased().hasSuffix(".json") ? ", or JSON lines (.jsonl)." : ".")
    case .noRecords(let path, let found):
      "\(path): holds \(found), not a list of objects or strings. Give an array of records, an "
        + "object with one such array, or JSON lines (.jsonl)."
    case .record(let path, let place, let fault): "\(path): \(place): \(fault)"
    case .empty(let path): "\(path): there is no text in it. Give a file with text."
    case .noFields(let path, let field):
      "\(path): there are no records in it to read \"\(shown(field))\" of. --calibrate-field goes "
        + "with .jsonl and .json files; leave it out."
    case .tooFewTokens(let path, let tokens, let windows, let length):
      "\(path): \(tokens) tokens, and \(windows) windows of \(length) need \(windows * length). "
        + (tokens >= length
          ? "Use --samples \(tokens / length), a shorter --sample-length, or more text."
          : "Use a shorter --sample-length, or more text.")
    }
  }
}

extension RecordPlace: CustomStringConvertible {
  public var description: String {
    switch self {
    case .line(let number): "line \(number)"
    case .record(let number): "record \(number)"
    }
  }
}

extension RecordFault: CustomStringConvertible {
  public var description: String {
    switch self {
    case .json(let error): "not JSON: \(shown("\(error)")). Correct it or leave it out."
    case .notAnObject(let found): "\(found), where an object or a string should stand."
    case .unknownFields(let found):
      "no fields that Nibble knows: it has \(Self.list(found)). Name those to read with "
        + "--calibrate-field."
    case .missingField(let field, let found):
      "there is no field \"\(shown(field))\": it has \(Self.list(found))."
    case .notText(let field, let found):
      "\"\(shown(field))\" holds \(found), not text. Name other fields with --calibrate-field."
    case .message(let number, let reason): "message \(number) \(reason)."
    case .noChatTemplate(let field):
      "\"\(shown(field))\" is a conversation, and the model has no chat template. Name fields of "
        + "text with --calibrate-field, or give other text."
    case .chatTemplate(let error): shown("\(error)")
    }
  }

  private static func list(_ names: [String]) -> String {
    let limit = 12
    let listed = names.prefix(limit).map { "\"\(shown($0))\"" }.joined(separator: ", ")
    if names.isEmpty { return "none" }
    return names.count > limit ? "\(listed) and \(names.count - limit) more" : listed
  }
}
