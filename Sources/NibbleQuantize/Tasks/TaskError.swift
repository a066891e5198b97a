import NibbleFormats

/// Why a task cannot be evaluated. Says where, what, and what to do next.
public enum TaskError: Error, Hashable, Sendable {
  /// The file cannot be read, or a line of it is no JSON.
  case records(CalibrationTextError)
  /// A field of an item cannot be used.
  case field(path: String, RecordPlace, field: String, reason: String)
  /// An object with fields of no known layout.
  case unknownLayout(path: String, RecordPlace, fields: [String])
  /// An item whose layout is not that of the items before it.
  case mixedLayouts(path: String, RecordPlace, found: String, expected: String)
  case empty(path: String)
  /// A continuation of which no token is scored, or which is too long for the model.
  case unscorable(RecordPlace, choice: Int, reason: String)
}

extension TaskError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .records(let error): "\(error)"
    case .field(let path, let place, let field, let reason):
      "\(path): \(place): \"\(shown(field))\" \(reason). Correct the item or leave it out."
    case .unknownLayout(let path, let place, let fields):
      "\(path): \(place): it has \(Self.list(fields)), which is no layout of a task. Give objects such as "
        + "{\"context\": \"...\", \"choices\": [\"...\", \"...\"], \"gold\": 0}, {\"contexts\": [...], "
        + "\"continuation\": \"...\", \"gold\": 0} or {\"context\": \"...\", \"target\": \"...\"}, or the items of "
        + "\(TaskLayout.dumps)."
    case .mixedLayouts(let path, let place, let found, let expected):
      "\(path): \(place): an item of \(found) among items of \(expected). Give each task a file of its own."
    case .empty(let path): "\(path): there are no items in it. Give a file with items."
    case .unscorable(let place, let choice, let reason):
      "\(place): choice \(choice): \(reason). Correct the item or leave it out."
    }
  }

  private static func list(_ fields: [String]) -> String {
    let listed = fields.prefix(12).map { "\"\(shown($0))\"" }.joined(separator: ", ")
    if fields.isEmpty { return "no fields" }
    return fields.count > 12 ? "\(listed) and \(fields.count - 12) more" : listed
  }
}
