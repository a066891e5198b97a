import CNibble

/// A fault in compressed codes.
public enum CompressedFault: Error, Hashable, Sendable {
  case indexLength(Int, expected: Int)
  /// A block's index entry does not start where the previous block ends, or reaches beyond the
  /// data.
  case blockIndex(Int)
  case dataLeft(Int)
  case block(Int, BlockFault)
  /// Padding bytes outside the weight that are not zero, or rows that differ between two blocks.
  case blockContent(Int)
}

/// A fault in the stream of one block.
public enum BlockFault: Hashable, Sendable {
  case truncated, header, dictionary, code, end, sum
}

extension CompressedFault: CustomStringConvertible {
  public var description: String {
    switch self {
    case .indexLength(let found, let expected):
      "the index has \(found) bytes, and its shape needs \(expected)"
    case .blockIndex(let block): "block \(block): the index points outside the data"
    case .dataLeft(let bytes): "\(bytes) bytes follow the last block"
    case .block(let block, let fault): "block \(block): \(fault)"
    case .blockContent(let block):
      "block \(block): it holds codes outside the weight, or others than its neighbour"
    }
  }
}

extension BlockFault: CustomStringConvertible {
  public var description: String {
    switch self {
    case .truncated: "its data end before it is complete"
    case .header: "its header is not that of a compressed block of its size"
    case .dictionary: "its dictionary names a byte twice"
    case .code: "it holds a code that stands for nothing"
    case .end: "its END mark is missing"
    case .sum: "its check bytes do not agree with its content"
    }
  }

  init?(_ status: Int32) {
    switch Int(status) {
    case NIBBLE_BLOCK_WHOLE: return nil
    case NIBBLE_BLOCK_TRUNCATED: self = .truncated
    case NIBBLE_BLOCK_HEADER: self = .header
    case NIBBLE_BLOCK_DICTIONARY: self = .dictionary
    case NIBBLE_BLOCK_CODE: self = .code
    case NIBBLE_BLOCK_END: self = .end
    default: self = .sum
    }
  }
}

extension CompressedCodes {
  /// The codes `[n, k]`, row-major.
  public func decompressed(on compute: Compute) throws(CompressedFault) -> Bytes {
    let ranges = try blockRanges()
    let (n, k) = (grid.outputs, grid.inputs)
    var faults = [CompressedFault?](repeating: nil, count: grid.outputBlocks)
    var codes = [UInt8](repeating: 0, count: n * k)
    // The last band may repeat rows of the band before it. It runs last, when those rows are known.
    let overlapping = grid.tailOverlaps ? 1 : 0
    unsafe codes.withUnsafeMutableBytes { codes in
      let codes = unsafe codes.baseAddress!.assumingMemoryBound(to: Int8.self)
      unsafe faults.withUnsafeMutableBufferPointer { faults in
        compute.pool.run(grid.outputBlocks - overlapping) { band, _ in
          unsafe faults[band] = unsafe fault(of: band, ranges, into: codes)
        }
        if overlapping > 0 {
          let band = grid.outputBlocks - 1
          unsafe faults[band] = unsafe fault(of: band, ranges, into: codes)
        }
      }
    }
    if let fault = faults.compactMap(\.self).first { throw fault }
    return Bytes(codes)
  }

  /// Decompresses one band of blocks into `codes`.
  private func fault(
    of band: Int, _ ranges: [(Range<Int>, isCompressed: Bool)],
    into codes: UnsafeMutablePointer<Int8>
  ) -> CompressedFault? {
    unsafe withUnsafeTemporaryAllocation(of: UInt8.self, capacity: Int(NIBBLE_BLOCK_BYTES)) { out in
      for index in band * grid.inputBlocks..<(band + 1) * grid.inputBlocks {
        let block = grid.block(index)
        let (range, isCompressed) = ranges[index]
        let status = unsafe data.withUnsafeBufferPointer { data in
          unsafe nibble_decompress_block(
            UnsafeBufferPointer(rebasing: data[range]).baseAddress, range.count,
            isCompressed ? 1 : 0, 0, block.bytes, out.baseAddress!)
        }
        if let fault = BlockFault(status) { return .block(index, fault) }
        let wrong = unsafe nibble_unpack_fractals(
          out.baseAddress!, codes, grid.outputs, grid.inputs, block.output, block.input,
          block.outputFractals, block.inputFractals, block.knownOutputs)
        if wrong > 0 { return .blockContent(index) }
      }
      return nil
    }
  }

  /// Byte range of each block, in order, from the start to the end of the data.
  func blockRanges() throws(CompressedFault) -> [(Range<Int>, isCompressed: Bool)] {
    let expected = grid.blocks * Self.indexEntry
    guard index.count == expected else {
      throw .indexLength(index.count, expected: expected)
    }
    var ranges: [(Range<Int>, isCompressed: Bool)] = []
    ranges.reserveCapacity(grid.blocks)
    var start = 0
    for block in 0..<grid.blocks {
      let entry = index[block * Self.indexEntry..<(block + 1) * Self.indexEntry].map { Int($0) }
      let units = entry[0] | (entry[1] & 1) << 8
      let offset = entry[4] | entry[5] << 8 | entry[6] << 16 | entry[7] << 24
      let end = start + units * Self.unit
      guard entry[1] & 0x7E == 0, entry[2] == 0, entry[3] == 0, units > 0,
        offset * Self.unit == start, end <= data.count
      else { throw .blockIndex(block) }
      ranges.append((start..<end, entry[1] & 0x80 != 0))
      start = end
    }
    guard start == data.count else { throw .dataLeft(data.count - start) }
    return ranges
  }
}

extension CompressedBlock {
  /// The block's `length` bytes.
  public func decompressed(length: Int, _ code: FractalCode) throws(CompressedFault) -> [UInt8] {
    precondition(
      length.isMultiple(of: 512) && (1...Int(NIBBLE_BLOCK_BYTES)).contains(length),
      "a block of \(length) bytes")
    var status: Int32 = 0
    let block = unsafe [UInt8](unsafeUninitializedCapacity: length) { out, count in
      unsafe out.initialize(repeating: 0)
      status = unsafe bytes.withUnsafeBufferPointer {
        unsafe nibble_decompress_block(
          $0.baseAddress, bytes.count, isCompressed ? 1 : 0, code == .high ? 1 : 0, length,
          out.baseAddress!)
      }
      count = length
    }
    if let fault = BlockFault(status) { throw .block(0, fault) }
    return block
  }
}
