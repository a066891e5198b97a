import NibbleFormats
import NibbleModel
import Testing

@testable import NibbleTensor

private func golden(_ name: String) throws -> [UInt8] {
  let file = try SafetensorsFile(path: fixturePath("blocks.safetensors", of: "ascend_w8a8sc"))
  return try #require(file.bytes(of: name)).array
}

/// Codes like those of a sparse weight: sums of uniform numbers, rounded.
private func bellCodes(_ count: Int, width: Float, seed: UInt64) -> [UInt8] {
  var random = SplitMix(state: seed)
  return (0..<count).map { _ in
    let sum = (0..<6).reduce(Float(0)) { sum, _ in sum + random.uniform() }
    return UInt8(bitPattern: Int8((sum * width).rounded().clamped(to: -127...127)))
  }
}

extension Float {
  fileprivate func clamped(to range: ClosedRange<Float>) -> Float {
    min(max(self, range.lowerBound), range.upperBound)
  }
}

@Suite struct CompressedCodesTests {
  @Test func compressesThePublishedFloatZerosToTheirBytes() throws {
    var counts = [UInt64](repeating: 0, count: 256)
    counts[0] = 8192
    let zeros = [UInt8](repeating: 0, count: 8192)
    let block = CompressedBlock(
      compressing: zeros, ByteDictionary(counts: counts, for: .high), .high)
    #expect(block.bytes == (try golden("zeros_fp16_64x64.high.data")))
    #expect(block.indexEntry(at: 0) == (try golden("zeros_fp16_64x64.high.index")))
    #expect(try block.decompressed(length: 8192, .high) == zeros)
  }

  @Test(arguments: [
    ("zeros_int8_128x320", 128, 320), ("128x256_sigma1.5", 128, 256), ("128x256_uniform", 128, 256),
    ("256x512_sigma2", 256, 512),
  ])
  func compressesTheGoldenWeightsToTheirBytes(name: String, n: Int, k: Int) throws {
    // The published vector's weight is all zeros and is not in the file.
    let codes =
      name.hasPrefix("zeros")
      ? [UInt8](repeating: 0, count: n * k) : try golden(name + ".weight")
    let compressed = CompressedCodes(
      compressing: Bytes(codes), grid: FractalGrid(outputs: n, inputs: k), on: oneThread)
    #expect(compressed.data == (try golden(name + ".low.data")))
    #expect(compressed.index == (try golden(name + ".low.index")))
    #expect(try compressed.decompressed(on: oneThread).array == codes)
  }

  @Test func bytesOfEqualCountsStandAsStdSortLeavesThem() throws {
    let cases = try Checkpoint.json(fixturePath("order.json", of: "ascend_w8a8sc")).array
    for sample in try #require(cases) {
      let counts = (sample["counts"]?.array ?? []).compactMap(\.int).map { UInt64($0) }
      let order = (sample["order"]?.array ?? []).compactMap(\.int).map { UInt8($0) }
      for code in [FractalCode.low, .high] {
        let found = ByteDictionary(counts: counts, for: code).bytes
        #expect(found == Array(order.prefix(found.count)))
      }
    }
  }

  @Test func everyShapeComesBack() throws {
    var random = SplitMix(state: 5)
    let compute = oneThread
    for trial in 0..<10_000 {
      // Most are small, so that there is time for as many.
      let n = Int(random.next() % (trial < 300 ? 400 : 100)) + 1
      let k = Int(random.next() % (trial < 300 ? 600 : 128)) + 1
      let codes: [UInt8] =
        switch trial % 5 {
        case 0: bellCodes(n * k, width: 3, seed: random.next())
        case 1: [UInt8](repeating: UInt8(truncatingIfNeeded: trial), count: n * k)
        case 2: (0..<n * k).map { UInt8(truncatingIfNeeded: $0) }
        case 3: (0..<n * k).map { _ in random.next() % 20 == 0 ? UInt8(random.next() % 256) : 0 }
        default: (0..<n * k).map { _ in UInt8(random.next() % 256) }
        }
      let grid = FractalGrid(outputs: n, inputs: k)
      let compressed = CompressedCodes(compressing: Bytes(codes), grid: grid, on: compute)
      #expect(compressed.index.count == grid.blocks * 8)
      #expect(try compressed.decompressed(on: compute).array == codes, "[\(n), \(k)]")
    }
  }

  /// Parts of ranks below or beside each other, with and without a last block that overlaps.
  @Test(arguments: [(128, 256), (100, 70), (200, 300), (130, 512), (300, 33)], [1, 3])
  func rowsAreReadOutOfCodesThatStayCompressed(_ shape: (Int, Int), _ ranks: Int) throws {
    let (n, k) = shape
    let codes = (0..<ranks).map { bellCodes(n * k, width: 3, seed: UInt64($0)) }
    let grid = FractalGrid(outputs: n, inputs: k)
    let parts = codes.map {
      CompressedCodes(compressing: Bytes($0), grid: grid, on: oneThread)
    }
    for joinsInputs in [false, true] {
      let rows = try CompressedRows(parts, joinsInputs: joinsInputs, on: oneThread)
      let expected =
        joinsInputs
        ? (0..<n).flatMap { row in codes.flatMap { $0[row * k..<(row + 1) * k] } }
        : codes.flatMap(\.self)
      let bytes = Bytes(rows)
      #expect(bytes.array == expected)
      #expect(bytes.storedCount == parts.reduce(0) { $0 + $1.data.count + $1.index.count })
      var random = SplitMix(state: 8)
      for _ in 0..<20 {
        let start = Int.random(in: 0...expected.count, using: &random)
        let end = Int.random(in: start...expected.count, using: &random)
        #expect(bytes[start..<end].array == Array(expected[start..<end]))
      }
    }
    var broken = parts
    broken[ranks - 1] = CompressedCodes(grid: grid, data: [1, 2, 3], index: parts[0].index)
    #expect(throws: CompressedFault.self) {
      try CompressedRows(broken, joinsInputs: true, on: oneThread)
    }
  }

  @Test func blocksOfHighComeBack() throws {
    var random = SplitMix(state: 9)
    for units in 1...64 {
      let block = (0..<512 * units).map { _ in
        random.next() % 8 < UInt64(units % 9) ? UInt8(random.next() % 256) : 0
      }
      var counts = [UInt64](repeating: 0, count: 256)
      for byte in block { counts[Int(byte)] += 1 }
      let compressed = CompressedBlock(
        compressing: block, ByteDictionary(counts: counts, for: .high), .high)
      #expect(try compressed.decompressed(length: block.count, .high) == block)
    }
  }

  @Test func theSameBytesForAnyNumberOfThreads() {
    let codes = Bytes(bellCodes(300 * 700, width: 4, seed: 1))
    let grid = FractalGrid(outputs: 300, inputs: 700)
    #expect(
      CompressedCodes(compressing: codes, grid: grid, on: oneThread)
        == CompressedCodes(
          compressing: codes, grid: grid, on: Compute(threads: 3, precision: .f32)))
  }
}

/// Bytes that nobody wrote: an error that names the block, never a trap.
@Suite struct HostileCompressedCodesTests {
  private let grid = FractalGrid(outputs: 128, inputs: 512)
  private var whole: CompressedCodes {
    CompressedCodes(
      compressing: Bytes(bellCodes(128 * 512, width: 3, seed: 3)), grid: grid, on: oneThread)
  }

  private func fault(data: [UInt8]? = nil, index: [UInt8]? = nil) -> CompressedFault? {
    let codes = CompressedCodes(
      grid: grid, data: data ?? whole.data, index: index ?? whole.index)
    do { _ = try codes.decompressed(on: oneThread) } catch { return error }
    return nil
  }

  @Test func anIndexOfAnotherLengthOrPlaceIsRefused() {
    #expect(fault(index: []) == .indexLength(0, expected: 16))
    var index = whole.index
    index[12] ^= 1
    #expect(fault(index: index) == .blockIndex(1))
    index = whole.index
    index[1] &= 0x7F
    #expect(fault(index: index) == .block(0, .truncated))
    index = whole.index
    index[2] = 1
    #expect(fault(index: index) == .blockIndex(0))
    #expect(fault(data: Array(whole.data.dropLast(128))) == .blockIndex(1))
    #expect(fault(data: whole.data + [UInt8](repeating: 0, count: 128)) == .dataLeft(128))
  }

  @Test func aStreamThatIsNotWholeIsRefused() {
    var data = whole.data
    data[0] = 0x88
    #expect(fault(data: data) == .block(0, .header))
    data = whole.data
    data[1] ^= 1
    #expect(fault(data: data) == .block(0, .header))
    data = whole.data
    data[4] ^= 1
    #expect(fault(data: data) == .block(0, .sum))
    data = whole.data
    data[3] = data[2]
    #expect(fault(data: data) == .block(0, .dictionary))
  }

  @Test func aMissingEndIsRefused() {
    // Zeros compress to packets of 32 pairs, END in the last: 0x1F7 after 96 bits of nothing else.
    let zeros = CompressedCodes(
      compressing: Bytes([UInt8](repeating: 0, count: 128 * 512)), grid: grid, on: oneThread)
    let last = zeros.data.lastIndex { $0 != 0 } ?? 0
    var data = zeros.data
    data[last] = 0
    let codes = CompressedCodes(grid: grid, data: data, index: zeros.index)
    #expect(throws: CompressedFault.self) { try codes.decompressed(on: oneThread) }
  }

  @Test func noBytesTrapTheDecoder() {
    var random = SplitMix(state: 11)
    let whole = whole
    for _ in 0..<2000 {
      var data = whole.data
      for _ in 0...random.next() % 8 {
        data[Int(random.next() % UInt64(data.count))] = UInt8(random.next() % 256)
      }
      var index = whole.index
      if random.next() % 4 == 0 {
        index[Int(random.next() % 16)] = UInt8(random.next() % 256)
      }
      // A fault or other codes; both are answers.
      _ = fault(data: data, index: index)
    }
  }
}
