public import NibbleQuantize

/// A format of quantized checkpoints: what writes it, and what reads it.
///
/// Each format is a folder, which declares its value of this type; ``all`` is the only other place that
/// names it.
public struct EngineFormat: Sendable {
  /// The name that engines use.
  public let name: String
  /// Nil for a format that is read only.
  let writer: (any Exporter)?
  let reader: any EngineReader.Type

  init(_ writer: any Exporter, reader: any EngineReader.Type) {
    (name, self.writer, self.reader) = (writer.name, writer, reader)
  }

  init(reading reader: any EngineReader.Type) {
    (name, writer, self.reader) = (reader.method, nil, reader)
  }

  /// The format that is written when none is named comes first.
  public static let all: [EngineFormat] = [
    .compressedTensors, .awq, .fp8, .gptq, .mlx, .ascend, .mxfp4,
  ]

  /// The formats that can be written.
  public static let written = all.filter { $0.writer != nil }

  /// What writes the format.
  ///
  /// - Precondition: the format is one of ``written``.
  public var exporter: any Exporter {
    guard let writer else { preconditionFailure("\(name) is read only") }
    return writer
  }

  /// The format of this name; nil when there is none.
  public init?(named name: String) {
    guard let format = Self.all.first(where: { $0.name == name }) else { return nil }
    self = format
  }
}

extension EngineFormat: Hashable, CustomStringConvertible {
  public static func == (one: EngineFormat, other: EngineFormat) -> Bool { one.name == other.name }
  public func hash(into hasher: inout Hasher) { hasher.combine(name) }
  public var description: String { name }
}
