import Foundation
import NibbleFormats

extension EvaluationTask {
  /// Reads a task from JSON lines, a JSON array, or a task.json of BIG-bench.
  ///
  /// Nibble's own items are `{"context": "..", "choices": ["..", ".."], "gold": 1}`, `{"contexts":
  /// ["..", ".."], "continuation": "..", "gold": 0}` or `{"context": "..", "target": ".."}`; `gold` is an
  /// index, the text of a choice, or a list of them. `id`, `group` and `delimiter` (a space) may be
  /// added. Items of HellaSwag, ARC, OpenBookQA, PIQA, WinoGrande, MMLU, BoolQ and SciQ are read by
  /// the names of their fields, and their requests are lm-eval's.
  ///
  /// A header `{"task": "..", "metric": "acc_norm", "shots": ".."}` may come first. Its `description` and
  /// `shots` stand before each context: a text as it is, or a list whose texts are each followed by
  /// an empty line.
  public init(path: String) throws(TaskError) {
    var reader = TaskReader(path: path)
    var fault: TaskError?
    do throws(CalibrationTextError) {
      try RecordFile(
        path: path,
        isRecord: { $0["examples"] != nil || $0.object.flatMap { TaskLayout($0) } != nil }
      ).visit { (place, record) throws(CalibrationTextError) in
        guard fault == nil else { return }
        do throws(TaskError) { try reader.read(record, at: place) } catch { fault = error }
      }
    } catch { throw fault ?? .records(error) }
    if let fault { throw fault }
    try self.init(reader)
  }

  private init(_ reader: TaskReader) throws(TaskError) {
    guard !reader.items.isEmpty else { throw .empty(path: reader.path) }
    let file = ((reader.path as NSString).lastPathComponent as NSString).deletingPathExtension
    name = reader.name ?? file
    preamble = reader.preamble
    metric = reader.metric
    items = reader.items
  }
}

/// Reads the records of a task's file.
private struct TaskReader {
  let path: String
  private(set) var name: String?
  private(set) var items: [TaskItem] = []
  private var source: Source?
  private var header = Header()

  private enum Source: Equatable {
    case items(TaskLayout)
    case bigBench

    var name: String {
      switch self {
      case .items(let layout): layout.rawValue
      case .bigBench: "BIG-bench"
      }
    }
  }

  private struct Header {
    static let fields = ["task", "metric", "description", "shots", "delimiter"]
    var isRead = false
    var metric: TaskMetric?
    var preamble = ""
    var delimiter = " "
  }

  init(path: String) { self.path = path }

  var preamble: String { header.preamble }

  var metric: TaskMetric {
    if let metric = header.metric { return metric }
    if case .items(let layout) = source { return layout.metric }
    return .acc
  }

  mutating func read(_ json: JSON, at place: RecordPlace) throws(TaskError) {
    guard let object = json.object else {
      throw .field(path: path, place, field: "item", reason: "is \(json.kind), not an object")
    }
    let record = TaskRecord(object: object)
    let found: Source
    if record.has("examples") {
      found = .bigBench
    } else if let layout = TaskLayout(object) {
      found = .items(layout)
    } else if record.has("task"), items.isEmpty, !header.isRead {
      do { try readHeader(record) } catch { throw fault(error, at: place) }
      return
    } else {
      throw .unknownLayout(path: path, place, fields: object.keys)
    }
    if let source, source != found || source == .bigBench {
      throw .mixedLayouts(path: path, place, found: found.name, expected: source.name)
    }
    source = found
    do {
      switch found {
      case .items(let layout): try readItem(record, layout, at: place)
      case .bigBench: try readBigBench(record, at: place)
      }
    } catch { throw fault(error, at: place) }
  }

  private func fault(_ fault: TaskFault, at place: RecordPlace) -> TaskError {
    .field(path: path, place, field: fault.field, reason: fault.reason)
  }

  private mutating func readHeader(_ record: TaskRecord) throws(TaskFault) {
    header.isRead = true
    if let unknown = record.object.keys.first(where: { !Header.fields.contains($0) }) {
      throw TaskFault(
        field: unknown,
        reason: "is no field of a header; those are " + Header.fields.joined(separator: ", "))
    }
    name = try record.text("task")
    if record.has("metric") {
      let metrics = TaskMetric.allCases
      header.metric =
        metrics[
          try record.index("metric", in: metrics.map(\.rawValue), of: "metrics")]
    }
    header.delimiter = try record.text("delimiter", default: " ")
    for field in ["description", "shots"] where record.has(field) {
      header.preamble +=
        record.object[field]?.array == nil
        ? try record.text(field) : try record.texts(field).map { $0 + "\n\n" }.joined()
    }
  }

  private mutating func readItem(
    _ record: TaskRecord, _ layout: TaskLayout, at place: RecordPlace
  ) throws(TaskFault) {
    let delimiter = try record.text("delimiter", default: header.delimiter)
    let content = try layout.content(of: record, delimiter: delimiter)
    append(
      content, id: try id(of: record),
      group: record.has("group") ? try record.text("group") : nil, at: place)
  }

  private mutating func readBigBench(
    _ record: TaskRecord, at place: RecordPlace
  ) throws(TaskFault) {
    let task = try BigBenchTask(record)
    if name == nil, !task.name.isEmpty { name = task.name }
    for index in 0..<task.count {
      append(try task.content(of: index), id: nil, group: nil, at: .record(index + 1))
    }
  }

  private mutating func append(
    _ content: TaskContent, id: String?, group: String?, at place: RecordPlace
  ) {
    items.append(
      TaskItem(
        place: place, id: id ?? "\(items.count + 1)", group: group,
        requests: zip(content.contexts, content.continuations).map {
          TaskItem.Request(context: $0, continuation: $1)
        },
        texts: content.texts, answer: content.answer))
  }

  /// The name of an item, text or number; nil for none.
  private func id(of record: TaskRecord) throws(TaskFault) -> String? {
    for field in ["id", "ind", "idx"] where record.has(field) {
      if let number = record.object[field]?.int { return "\(number)" }
      return try record.text(field)
    }
    return nil
  }
}
