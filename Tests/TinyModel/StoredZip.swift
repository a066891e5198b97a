/// A ZIP archive of stored files, laid out as torch.save lays it out.
public struct StoredZip: Sendable {
  public struct Entry: Sendable {
    public var name: String
    public var data: [UInt8]

    public init(_ name: String, _ data: [UInt8]) {
      self.name = name
      self.data = data
    }
  }

  public var entries: [Entry]
  /// Whether sizes and offsets stand in 64-bit fields, as those over 4 GiB must.
  public var isWide = false

  public init(_ entries: [Entry]) { self.entries = entries }

  public var bytes: [UInt8] {
    var (bytes, directory): ([UInt8], [UInt8]) = ([], [])
    for entry in entries {
      let (name, size) = (Array(entry.name.utf8), entry.data.count)
      let offset = bytes.count
      let narrow = isWide ? UInt32.max : UInt32(size)
      let padding = (64 - (offset + 30 + name.count + 4) % 64) % 64
      bytes += Self.u32(0x0403_4B50) + Self.u16(0, 0x0808, 0, 0, 0) + Self.u32(0, 0, 0)
      bytes += Self.u16(name.count, 4 + padding) + name
      bytes += Array("FB".utf8) + Self.u16(padding) + [UInt8](repeating: 0x5A, count: padding)
      bytes += entry.data + Self.u32(0x0807_4B50, 0, UInt32(size), UInt32(size))
      let extra = isWide ? Self.u16(1, 24) + Self.u64(size, size, offset) : []
      directory += Self.u32(0x0201_4B50) + Self.u16(0, 0, 0x0808, 0, 0, 0)
      directory += Self.u32(0, narrow, narrow) + Self.u16(name.count, extra.count, 0, 0, 0)
      directory += Self.u32(0, isWide ? .max : UInt32(offset)) + name + extra
    }
    let (count, start) = (entries.count, bytes.count)
    bytes += directory
    let wideRecord = bytes.count
    bytes += Self.u32(0x0606_4B50) + Self.u64(44) + Self.u16(0x031E, 45) + Self.u32(0, 0)
    bytes += Self.u64(count, count, directory.count, start)
    bytes += Self.u32(0x0706_4B50, 0) + Self.u64(wideRecord) + Self.u32(1)
    let narrowCount = isWide ? 0xFFFF : count
    bytes += Self.u32(0x0605_4B50) + Self.u16(0, 0, narrowCount, narrowCount)
    bytes += Self.u32(
      isWide ? .max : UInt32(directory.count), isWide ? .max : UInt32(start))
    return bytes + Self.u16(0)
  }

  public static func u16(_ values: Int...) -> [UInt8] {
    values.flatMap { value in (0..<2).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) } }
  }

  public static func u32(_ values: UInt32...) -> [UInt8] {
    values.flatMap { value in (0..<4).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) } }
  }

  public static func u64(_ values: Int...) -> [UInt8] {
    values.flatMap { value in (0..<8).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) } }
  }
}
