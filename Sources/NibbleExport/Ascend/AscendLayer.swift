import NibbleFormats
import NibbleModel
import NibbleTensor

/// A layer with fixed input ranges, its parts put together.
struct AscendLayer: Sendable {
  /// `[n, k]`
  let codes: Bytes
  let numbers: AscendDequantization

  /// - Parameter inputs: nil for as many as the weight says.
  init(
    of path: String, outputs: Int, inputs: Int?, in reader: AscendReader, role: Role
  ) throws(ModelError) {
    let parts = reader.parts
    let byInputs = reader.isSplitByInputs(role)
    let stored = inputs == nil ? try Self.inputs(of: path, in: reader, byInputs) : nil
    guard let inputs = inputs ?? stored else {
      throw .missingTensor(path + ".weight", path: parts[0].path)
    }
    guard (byInputs ? inputs : outputs).isMultiple(of: parts.count), inputs > 0 else {
      throw .unsupported(
        "\(path): \(parts.count) parts do not divide [\(outputs), \(inputs)]. The parts belong to "
          + "another model.")
    }
    let (n, k) =
      byInputs ? (outputs, inputs / parts.count) : (outputs / parts.count, inputs)
    var pieces: [Bytes] = []
    var numbers: [AscendDequantization] = []
    var compressed: [CompressedCodes] = []
    for part in parts {
      numbers.append(try part.numbers(path, outputs: n))
      if reader.keepsCompressed, part.type(of: path) == .w8a8sc {
        compressed.append(try part.compressedCodes(path, outputs: n, inputs: k))
      } else {
        pieces.append(try part.codes(path, outputs: n, inputs: k, on: reader.compute))
      }
    }
    if compressed.count == parts.count {
      do {
        pieces = [
          Bytes(
            try CompressedRows(compressed, joinsInputs: byInputs, on: reader.compute))
        ]
      } catch { throw parts[0].damage(path + ".weight", error) }
    }
    guard numbers.allSatisfy({ $0.inputs == numbers[0].inputs }),
      !byInputs || numbers.allSatisfy({ $0.deqScale == numbers[0].deqScale })
    else {
      throw .unsupported("\(path): the parts differ in scales that they share")
    }
    guard parts.count > 1 else {
      (codes, self.numbers) = (pieces[0], numbers[0])
      return
    }
    if byInputs {
      codes = pieces.count == 1 ? pieces[0] : Self.joinColumns(pieces, rows: outputs)
      self.numbers = AscendDequantization(
        inputs: numbers[0].inputs, deqScale: numbers[0].deqScale,
        quantBias: (0..<outputs).map { row in
          Int32(clamping: numbers.reduce(0) { $0 + Int($1.quantBias[row]) })
        })
    } else {
      codes = pieces.count == 1 ? pieces[0] : Bytes(pieces.flatMap(\.array))
      self.numbers = AscendDequantization(
        inputs: numbers[0].inputs, deqScale: numbers.flatMap(\.deqScale),
        quantBias: numbers.flatMap(\.quantBias))
    }
  }

  /// How many inputs the stored weight has.
  private static func inputs(
    of path: String, in reader: AscendReader, _ byInputs: Bool
  ) throws(ModelError) -> Int? {
    let part = reader.parts[0]
    let share: Int?
    if part.type(of: path) == .w8a8sc {
      share = try part.checkpoint.integers(path + ".info", .i64, count: 5)[2]
    } else {
      share = part.checkpoint.tensor(path + ".weight")?.shape.last
    }
    guard let share, (1...1 << 24).contains(share) else { return nil }
    return byInputs ? share * reader.parts.count : share
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
