/// One tensor of a safetensors file, as the header describes it.
public struct TensorEntry: Hashable, Sendable {
  public var name: String
  public var dtype: DType
  /// Row-major; empty for a scalar.
  public var shape: [Int]
  /// Range of the data, relative to the start of the file.
  public var range: Range<Int>

  public init(name: String, dtype: DType, shape: [Int], range: Range<Int>) {
    self.name = name
    self.dtype = dtype
    self.shape = shape
    self.range = range
  }

  public var byteCount: Int { range.count }

  public var elementCount: Int { shape.reduce(1, *) }
}
