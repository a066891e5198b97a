/// Assembles GGUF files, sound and unsound.
struct GGUFBytes {
  typealias Member = (key: String, type: UInt32, value: [UInt8])

  struct Tensor {
    var name: [UInt8]
    var sizes: [UInt64]
    var type: UInt32 = 0
    var offset: UInt64
    var dimensions: UInt32?

    init(
      _ name: String, _ sizes: [UInt64], type: UInt32 = 0, at offset: UInt64,
      dimensions: UInt32? = nil
    ) {
      self.name = Array(name.utf8)
      self.sizes = sizes
      self.type = type
      self.offset = offset
      self.dimensions = dimensions
    }
  }

  var magic = Array("GGUF".utf8)
  var version: UInt32 = 3
  var tensorCount: UInt64?
  var memberCount: UInt64?
  var members: [Member] = [("a", 4, u32(7)), ("general.architecture", 8, string("llama"))]
  /// 32 and 8 floats.
  var tensors: [Tensor] = [Tensor("x", [8, 4], at: 0), Tensor("y", [8], at: 128)]
  var alignment = 32
  var data = [UInt8](repeating: 1, count: 160)

  var file: [UInt8] {
    var bytes = magic + Self.u32(version)
    bytes += Self.u64(tensorCount ?? UInt64(tensors.count))
    bytes += Self.u64(memberCount ?? UInt64(members.count))
    for member in members {
      bytes += Self.string(member.key) + Self.u32(member.type) + member.value
    }
    for tensor in tensors {
      bytes += Self.string(tensor.name)
      bytes += Self.u32(tensor.dimensions ?? UInt32(tensor.sizes.count))
      for size in tensor.sizes { bytes += Self.u64(size) }
      bytes += Self.u32(tensor.type) + Self.u64(tensor.offset)
    }
    bytes += repeatElement(0, count: (alignment - bytes.count % alignment) % alignment)
    return bytes + data
  }

  static func u32(_ value: UInt32) -> [UInt8] { u64(UInt64(value)).dropLast(4) }

  static func u64(_ value: UInt64) -> [UInt8] {
    (0..<8).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
  }

  static func string(_ text: String) -> [UInt8] { string(Array(text.utf8)) }
  static func string(_ bytes: [UInt8]) -> [UInt8] { u64(UInt64(bytes.count)) + bytes }

  /// The value of an array: element type, count, elements.
  static func array(_ type: UInt32, _ count: UInt64, _ elements: [UInt8] = []) -> [UInt8] {
    u32(type) + u64(count) + elements
  }
}
