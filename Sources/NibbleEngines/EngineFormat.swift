public import NibbleQuantize

/// The formats that can be written, under the names that engines use.
public enum EngineFormat: String, CaseIterable, Sendable {
  case compressedTensors = "compressed-tensors"
  case awq
  case fp8
  case ascend

  public var exporter: any Exporter {
    switch self {
    case .compressedTensors: CompressedTensors()
    case .awq: AWQ()
    case .fp8: FP8()
    case .ascend: Ascend()
    }
  }
}
