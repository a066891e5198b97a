import CNibble

/// Int8 codes `[n, k]` that stay compressed in memory. Each read decompresses the rows it needs.
///
/// Blocks hold 128 outputs, so reads of multiples of 128 rows waste no work.
public final class CompressedRows: Sendable {
  public let rows: Int
  public let columns: Int
  private let parts: [Part]
  /// Whether the parts split the inputs (columns) of the weight; otherwise they split the outputs
  /// (rows).
  private let joinsInputs: Bool
  /// The rows of each part that belong to this weight.
  private let wanted: Range<Int>

  private struct Part {
    let codes: CompressedCodes
    let ranges: [(Range<Int>, isCompressed: Bool)]
  }

  /// Outputs per band of blocks.
  static let band = FractalGrid.side * FractalGrid.outputsOfFractal

  /// - Parameters:
  ///   - parts: one per tensor-parallel rank, of equal shapes.
  ///   - joinsInputs: whether the parts split the inputs; otherwise they split the outputs.
  ///   - wanted: the rows to take from each part; nil for all.
  /// - Throws: when a block cannot be decompressed; later reads cannot fail.
  public init(
    _ parts: [CompressedCodes], joinsInputs: Bool, rows wanted: Range<Int>? = nil,
    on compute: Compute
  ) throws(CompressedFault) {
    precondition(!parts.isEmpty && Set(parts.map(\.grid)).count == 1, "parts of different shapes")
    let grid = parts[0].grid
    let wanted = wanted ?? 0..<grid.outputs
    precondition(wanted.lowerBound >= 0 && wanted.upperBound <= grid.outputs, "rows of a part")
    self.wanted = wanted
    rows = joinsInputs ? wanted.count : wanted.count * parts.count
    columns = joinsInputs ? grid.inputs * parts.count : grid.inputs
    self.joinsInputs = joinsInputs
    var checked: [Part] = []
    for codes in parts {
      _ = try codes.decompressed(on: compute)
      checked.append(Part(codes: codes, ranges: try codes.blockRanges()))
    }
    self.parts = checked
  }

  /// Stored bytes of data and index, in proportion to the rows used.
  var storedBytes: Int {
    let all = parts.reduce(0) { $0 + $1.codes.data.count + $1.codes.index.count }
    return all * wanted.count / parts[0].codes.grid.outputs
  }

  /// The codes at a range of bytes of the row-major `[n, k]` matrix.
  func codes(_ bytes: Range<Int>) -> [UInt8] {
    guard !bytes.isEmpty else { return [] }
    let first = bytes.lowerBound / columns
    let last = (bytes.upperBound - 1) / columns
    var codes = [UInt8](repeating: 0, count: (last + 1 - first) * columns)
    unsafe codes.withUnsafeMutableBufferPointer {
      unsafe read(first..<last + 1, into: $0.baseAddress!)
    }
    let start = bytes.lowerBound - first * columns
    if start == 0, bytes.count == codes.count { return codes }
    return Array(codes[start..<start + bytes.count])
  }

  private func read(_ rows: Range<Int>, into out: UnsafeMutablePointer<UInt8>) {
    let grid = parts[0].codes.grid
    unsafe withUnsafeTemporaryAllocation(
      of: Int8.self, capacity: Self.band * grid.inputs + Int(NIBBLE_BLOCK_BYTES)
    ) { memory in
      let held = memory.baseAddress!
      let block = unsafe UnsafeMutableRawPointer(held + Self.band * grid.inputs)
      for (number, part) in parts.enumerated() {
        // Added to a row of the part, gives a row of the whole weight.
        let offset = (joinsInputs ? 0 : number * wanted.count) - wanted.lowerBound
        let mine = rows.clamped(to: offset + wanted.lowerBound..<offset + wanted.upperBound)
        var row = mine.lowerBound
        while row < mine.upperBound {
          let band = min((row - offset) / Self.band, grid.outputBlocks - 1)
          let start = grid.block(band * grid.inputBlocks).output + offset
          let end = min(mine.upperBound, start + Self.band)
          unsafe decompress(band, of: part, into: held, block)
          for row in row..<end {
            unsafe UnsafeMutableRawPointer(
              out + (row - rows.lowerBound) * columns + (joinsInputs ? number * grid.inputs : 0)
            ).copyMemory(from: held + (row - start) * grid.inputs, byteCount: grid.inputs)
          }
          row = end
        }
      }
    }
  }

  /// Decompresses the rows of one band of blocks.
  private func decompress(
    _ band: Int, of part: Part, into codes: UnsafeMutablePointer<Int8>,
    _ memory: UnsafeMutableRawPointer
  ) {
    let grid = part.codes.grid
    let out = unsafe memory.assumingMemoryBound(to: UInt8.self)
    for index in band * grid.inputBlocks..<(band + 1) * grid.inputBlocks {
      let block = grid.block(index)
      let (range, isCompressed) = part.ranges[index]
      unsafe part.codes.data.withUnsafeBufferPointer { data in
        _ = unsafe nibble_decompress_block(
          data.baseAddress! + range.lowerBound, range.count, isCompressed ? 1 : 0, 0, block.bytes,
          out)
      }
      _ = unsafe nibble_unpack_fractals(
        out, codes, min(Self.band, grid.outputs - block.output), grid.inputs, 0, block.input,
        block.outputFractals, block.inputFractals, 0)
    }
  }
}
