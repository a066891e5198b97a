import CNibble

/// Int8 codes `[n, k]` in the lossless compressed form that Ascend's hardware reads: a byte stream
/// and an index of its blocks.
///
/// Each block of up to 32 KiB is written in a prefix code with the weight's dictionary, or
/// uncompressed where that is no longer. The index has eight bytes per block: its length in units
/// of 128 bytes and whether it is compressed, two zeros, and its offset.
public struct CompressedCodes: Hashable, Sendable {
  public let grid: FractalGrid
  public let data: [UInt8]
  public let index: [UInt8]

  static let unit = 128
  static let indexEntry = 8

  /// Codes as stored; they are checked when they are decompressed.
  public init(grid: FractalGrid, data: [UInt8], index: [UInt8]) {
    self.grid = grid
    self.data = data
    self.index = index
  }

  /// - Parameter codes: `[n, k]` row-major.
  public init(compressing codes: Bytes, grid: FractalGrid, on compute: Compute) {
    let (n, k) = (grid.outputs, grid.inputs)
    precondition(codes.count == n * k, "\(codes.count) codes for [\(n), \(k)]")
    var counts = [UInt64](repeating: 0, count: 256)
    counts[0] = UInt64(grid.paddedBytes - n * k)
    unsafe codes.withUnsafeBytes { codes in
      unsafe counts.withUnsafeMutableBufferPointer {
        unsafe nibble_count_bytes(
          codes.baseAddress!.assumingMemoryBound(to: UInt8.self), codes.count, $0.baseAddress!)
      }
    }
    let dictionary = ByteDictionary(counts: counts, for: .low)
    var parts = [CompressedBlock](repeating: CompressedBlock(), count: grid.blocks)
    unsafe parts.withUnsafeMutableBufferPointer { parts in
      unsafe codes.withUnsafeBytes { codes in
        compute.pool.run(grid.blocks) { index, _ in
          let block = grid.block(index)
          let bytes = unsafe [UInt8](unsafeUninitializedCapacity: block.bytes) { out, count in
            unsafe nibble_pack_fractals(
              codes.baseAddress!.assumingMemoryBound(to: Int8.self), n, k, block.output,
              block.input, block.outputFractals, block.inputFractals, out.baseAddress!)
            count = block.bytes
          }
          unsafe parts[index] = CompressedBlock(compressing: bytes, dictionary, .low)
        }
      }
    }
    var data: [UInt8] = []
    data.reserveCapacity(parts.reduce(0) { $0 + $1.bytes.count })
    var index: [UInt8] = []
    for part in parts {
      index += part.indexEntry(at: data.count)
      data += part.bytes
    }
    self.grid = grid
    self.data = data
    self.index = index
  }
}

/// One block of up to 32 KiB, compressed where that makes it shorter.
public struct CompressedBlock: Hashable, Sendable {
  public private(set) var bytes: [UInt8] = []
  public private(set) var isCompressed = false

  init() {}

  /// - Parameter block: a multiple of 512 bytes, at most 32768.
  public init(compressing block: [UInt8], _ dictionary: ByteDictionary, _ code: FractalCode) {
    precondition(
      block.count.isMultiple(of: 512) && block.count <= Int(NIBBLE_BLOCK_BYTES) && !block.isEmpty,
      "a block of \(block.count) bytes")
    precondition(dictionary.bytes.count == code.entries, "a dictionary for another code")
    bytes = unsafe [UInt8](unsafeUninitializedCapacity: block.count + 512) { out, count in
      let written = unsafe block.withUnsafeBufferPointer { block in
        unsafe dictionary.bytes.withUnsafeBufferPointer {
          unsafe nibble_compress_block(
            block.baseAddress!, block.count, $0.baseAddress!, code == .high ? 1 : 0,
            out.baseAddress!)
        }
      }
      count = written > 0 ? written : block.count
      isCompressed = written > 0
    }
  }

  /// The block's eight bytes of the index.
  public func indexEntry(at offset: Int) -> [UInt8] {
    let units = UInt16(bytes.count / CompressedCodes.unit) | (isCompressed ? 0x8000 : 0)
    let start = UInt32(offset / CompressedCodes.unit)
    return [UInt8(truncatingIfNeeded: units), UInt8(units >> 8), 0, 0]
      + (0..<4).map { UInt8(truncatingIfNeeded: start >> ($0 * 8)) }
  }
}
