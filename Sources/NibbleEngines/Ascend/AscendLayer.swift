import NibbleFormats
import NibbleModel
import NibbleTensor

/// A layer with static input ranges, joined from its parts; or a module of several fused layers.
struct AscendLayer: Sendable {
  /// `[n, k]`
  let codes: Bytes
  let numbers: AscendDequantization
  /// Outputs and inputs per part.
  private let partShape: (outputs: Int, inputs: Int)
  /// Each part's codes, if they stay compressed in memory.
  private let compressed: [CompressedCodes]

  init(
    of module: AscendModule, _ split: AscendSplit, in reader: AscendReader
  ) throws(ModelError) {
    let parts = reader.parts
    let byInputs = module.roles[0].addsUp
    let (n, k) = split.shape(of: module)
    partShape = (n, k)
    var pieces: [Bytes] = []
    var numbers: [AscendDequantization] = []
    var compressed: [CompressedCodes] = []
    for part in parts {
      numbers.append(try part.numbers(module.path, outputs: n))
      if reader.keepsCompressed, part.type(of: module.path) == .w8a8sc {
        compressed.append(try part.compressedCodes(module.path, outputs: n, inputs: k))
      } else {
        pieces.append(
          try part.codes(module.path, outputs: n, inputs: k, on: reader.compute))
      }
    }
    guard compressed.isEmpty || compressed.count == parts.count else {
      throw .unsupported("\(module.path): is compressed in some of the parts only")
    }
    self.compressed = compressed
    if !compressed.isEmpty {
      do {
        pieces = [
          Bytes(try CompressedRows(compressed, joinsInputs: byInputs, on: reader.compute))
        ]
      } catch { throw parts[0].damage(module.path + ".weight", error) }
    }
    guard numbers.allSatisfy({ $0.inputs == numbers[0].inputs }),
      !byInputs || numbers.allSatisfy({ $0.deqScale == numbers[0].deqScale })
    else {
      throw .unsupported("\(module.path): the parts differ in scales that they share")
    }
    if byInputs {
      codes = pieces.count == 1 ? pieces[0] : Self.joinColumns(pieces, rows: n)
      self.numbers = AscendDequantization(
        inputs: numbers[0].inputs, deqScale: numbers[0].deqScale,
        quantBias: (0..<n).map { row in
          Int32(clamping: numbers.reduce(0) { $0 + Int($1.quantBias[row]) })
        })
    } else {
      codes = pieces.count == 1 ? pieces[0] : Bytes(pieces.flatMap(\.array))
      self.numbers = AscendDequantization(
        inputs: numbers[0].inputs, deqScale: numbers.flatMap(\.deqScale),
        quantBias: numbers.flatMap(\.quantBias))
    }
  }

  private init(
    codes: Bytes, numbers: AscendDequantization, partShape: (outputs: Int, inputs: Int)
  ) {
    self.codes = codes
    self.numbers = numbers
    self.partShape = partShape
    compressed = []
  }

  /// One layer of a fused module.
  ///
  /// - Parameter rows: the layer's outputs within the module of one part.
  func rows(_ rows: Range<Int>, in reader: AscendReader) throws(ModelError) -> AscendLayer {
    let (n, k) = partShape
    let places = (0..<numbers.deqScale.count / n).map { part in
      part * n + rows.lowerBound..<part * n + rows.upperBound
    }
    let codes: Bytes
    if !compressed.isEmpty {
      do {
        codes = Bytes(
          try CompressedRows(compressed, joinsInputs: false, rows: rows, on: reader.compute))
      } catch { throw .unsupported("\(error)") }
    } else {
      let pieces = places.map { self.codes[$0.lowerBound * k..<$0.upperBound * k] }
      codes = pieces.count == 1 ? pieces[0] : Bytes(pieces.flatMap(\.array))
    }
    return AscendLayer(
      codes: codes,
      numbers: AscendDequantization(
        inputs: numbers.inputs, deqScale: places.flatMap { numbers.deqScale[$0] },
        quantBias: places.flatMap { numbers.quantBias[$0] }),
      partShape: (rows.count, k))
  }

  static func joinColumns(_ pieces: [Bytes], rows: Int) -> Bytes {
    let pieces = pieces.map(\.array)
    var joined: [UInt8] = []
    joined.reserveCapacity(pieces.reduce(0) { $0 + $1.count })
    for row in 0..<rows {
      for piece in pieces {
        let width = piece.count / max(1, rows)
        joined += piece[row * width..<(row + 1) * width]
      }
    }
    return Bytes(joined)
  }
}
