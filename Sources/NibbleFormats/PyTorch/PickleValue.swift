/// A value of a pickle. Containers are indices into a `PickleMachine`'s tables: two values may
/// refer to one container, and a container may contain itself.
enum PickleValue: Sendable {
  case none
  case bool(Bool)
  case int(Int64)
  case float(Double)
  /// Range of its bytes in the pickle; not checked to be UTF-8.
  case text(Range<Int32>)
  case tuple(Int)
  case list(Int)
  case dictionary(Int)
  case global(PickleGlobal)
  case storage(Int)
  case tensor(Int)

  /// Kind of value, for messages.
  var kind: String {
    switch self {
    case .none: "None"
    case .bool: "a bool"
    case .int: "an integer"
    case .float: "a float"
    case .text: "a string"
    case .tuple: "a tuple"
    case .list: "a list"
    case .dictionary: "a dict"
    case .global(let global): global.name
    case .storage: "a storage"
    case .tensor: "a tensor"
    }
  }
}

/// The classes and functions that a state dict names.
enum PickleGlobal: Hashable, Sendable {
  case orderedDict
  case rebuildTensor
  case rebuildParameter
  case storage(DType)

  /// Nil for all others.
  init?(module: String, name: String) {
    switch (module, name) {
    case ("collections", "OrderedDict"): self = .orderedDict
    case ("torch._utils", "_rebuild_tensor_v2"): self = .rebuildTensor
    case ("torch._utils", "_rebuild_parameter"): self = .rebuildParameter
    case ("torch", _):
      guard let dtype = Self.storages[name] else { return nil }
      self = .storage(dtype)
    default: return nil
    }
  }

  var name: String {
    switch self {
    case .orderedDict: "OrderedDict"
    case .rebuildTensor: "_rebuild_tensor_v2"
    case .rebuildParameter: "_rebuild_parameter"
    case .storage(let dtype): "the storage class of \(dtype.rawValue)"
    }
  }

  private static let storages: [String: DType] = [
    "FloatStorage": .f32, "HalfStorage": .f16, "BFloat16Storage": .bf16, "DoubleStorage": .f64,
    "LongStorage": .i64, "IntStorage": .i32, "ShortStorage": .i16, "CharStorage": .i8,
    "ByteStorage": .u8, "BoolStorage": .bool, "ComplexFloatStorage": .c64,
  ]
}

/// A file of the archive that holds elements of one type.
struct PickleStorage: Sendable {
  var dtype: DType
  /// Its file's name below `data/`.
  var key: Range<Int32>
  /// Number of elements that the pickle claims.
  var count: Int64
}

/// A view of a storage, with the arguments of `_rebuild_tensor_v2`; only their kinds are checked.
struct PickleTensor: Sendable {
  var storage: Int
  /// First element.
  var offset: Int64
  /// Indices of tuples.
  var sizes: Int
  var strides: Int
}
