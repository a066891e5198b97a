import NibbleFormats
import NibbleModel
import NibbleTensor

/// The weights of one rank, or of a whole model.
struct AscendPart: Sendable {
  let checkpoint: Checkpoint
  let description: AscendDescription
  let path: String

  static let channel = WeightScheme(
    format: .int(bits: 8, symmetric: true), granularity: .channel)

  func type(of path: String) -> AscendType {
    if let type = description[path + ".weight"] { return type }
    return checkpoint.tensor(path + ".weight")?.dtype == .i8 ? description.type : .float
  }

  /// The modules of a block, as named in this part.
  func modules(block: Int, of family: DecoderShape) -> [AscendModule] {
    AscendModule.all(block: block, of: family, fused: true).flatMap { module in
      checkpoint.tensor(module.path + ".weight") != nil ? [module] : module.layers(of: family)
    }
  }

  /// The codes `[n, k]` of a layer with static input ranges, decompressed if necessary.
  func codes(
    _ path: String, outputs: Int, inputs: Int, on compute: Compute
  ) throws(ModelError) -> Bytes {
    let name = path + ".weight"
    guard type(of: path) == .w8a8sc else {
      return try checkpoint.bytes(name, .i8, [outputs, inputs])
    }
    let compressed = try compressedCodes(path, outputs: outputs, inputs: inputs)
    do { return try compressed.decompressed(on: compute) } catch { throw damage(name, error) }
  }

  func damage(_ name: String, _ fault: CompressedFault) -> ModelError {
    .unsupported("\(path): \(name): \(fault). The file is damaged; compress the model again.")
  }

  /// The codes in compressed form, as stored.
  func compressedCodes(
    _ path: String, outputs: Int, inputs: Int
  ) throws(ModelError) -> CompressedCodes {
    let name = path + ".weight"
    let info = try checkpoint.integers(path + ".info", .i64, count: 5)
    guard info == AscendPart.info(outputs: outputs, inputs: inputs) else {
      throw .unsupported(
        "\(path).info: is \(info), but the config says "
          + "\(AscendPart.info(outputs: outputs, inputs: inputs)). The parts belong to another model."
      )
    }
    func vector(_ name: String) throws(ModelError) -> [UInt8] {
      guard let tensor = checkpoint.tensor(name) else {
        throw .missingTensor(name, path: self.path)
      }
      guard tensor.dtype == .i8, tensor.shape.count == 1 else {
        throw .tensorType(
          name, found: "\(tensor.dtype.rawValue) \(tensor.shape)", expected: "a row of I8")
      }
      return try checkpoint.bytes(of: name).array
    }
    return CompressedCodes(
      grid: FractalGrid(outputs: outputs, inputs: inputs), data: try vector(name),
      index: try vector(path + ".index"))
  }

  /// Header values of compressed codes: tile sizes, inputs, outputs, direction.
  static func info(outputs: Int, inputs: Int) -> [Int] {
    [FractalGrid.side, FractalGrid.side, inputs, outputs, 1]
  }

  /// Dequantization constants of a layer: they turn its integer sums into outputs.
  func numbers(_ path: String, outputs: Int) throws(ModelError) -> AscendDequantization {
    let scale = try checkpoint.scales(path + ".input_scale", [1])[0]
    let zero: Float
    let name = path + ".input_offset"
    if checkpoint.tensor(name)?.dtype == .i8 {
      zero = Float(Int8(bitPattern: try checkpoint.bytes(name, .i8, [1]).array[0]))
    } else {
      guard let found = try checkpoint.vector(name, count: 1) else {
        throw .missingTensor(name, path: self.path)
      }
      zero = found[0]
    }
    guard (-128...127).contains(zero), zero == zero.rounded() else {
      throw .unsupported("\(name): is \(zero), not a whole number of -128 to 127")
    }
    let quantBias = try checkpoint.integers(path + ".quant_bias", .i32, count: outputs)
    return AscendDequantization(
      inputs: InputRange(scale: scale, zero: Int32(zero)),
      deqScale: try deqScale(path, outputs), quantBias: quantBias.map { Int32($0) })
  }

  private func deqScale(_ path: String, _ outputs: Int) throws(ModelError) -> [Float] {
    let name = path + ".deq_scale"
    guard checkpoint.tensor(name)?.dtype == .i64 else {
      return try checkpoint.scales(name, [outputs])
    }
    let scales = try checkpoint.integers(name, .i64, count: outputs).map { word in
      UInt32(exactly: word).map { Float(bitPattern: $0) } ?? .nan
    }
    if let index = scales.firstIndex(where: { !($0.isFinite && $0 > 0) }) {
      throw .unsupported("\(name): scale \(index) does not hold the bits of a number above zero")
    }
    return scales
  }

  /// A layer without static input ranges.
  func plain(
    _ path: String, _ type: AscendType, outputs: Int, inputs: Int
  ) throws(ModelError) -> Weight {
    let shape = checkpoint.tensor(path + ".weight_scale")?.shape ?? []
    let groups = shape.count == 2 ? shape[1] : 1
    guard groups > 0, inputs.isMultiple(of: groups) else {
      throw .tensorShape(path + ".weight_scale", found: shape, expected: [outputs, 1])
    }
    let scales = try checkpoint.scales(path + ".weight_scale", [outputs, groups])
    let name = path + ".weight_offset"
    guard let tensor = checkpoint.tensor(name), tensor.shape == [outputs, groups],
      let format = tensor.dtype.floatFormat
    else { throw .missingTensor(name, path: self.path) }
    let offsets = format.decode(try checkpoint.bytes(of: name))
    guard offsets.allSatisfy({ (-128...127).contains($0) && $0 == $0.rounded() }) else {
      throw .unsupported("\(name): holds more than whole numbers of -128 to 127")
    }
    let isSymmetric = offsets.allSatisfy { $0 == 0 }
    let scheme = WeightScheme(
      format: .int(bits: 8, symmetric: isSymmetric),
      granularity: groups == 1 ? .channel : .group(inputs / groups))
    return .quantized(
      QuantizedMatrix(
        scheme: scheme, rows: outputs, columns: inputs,
        codes: try checkpoint.bytes(path + ".weight", .i8, [outputs, inputs]), scales: scales,
        zeroPoints: isSymmetric ? [] : offsets.map { Int8($0) }),
      inputs: type == .w8a8Dynamic ? InputRounding(.dynamicPerToken(.int8)) : nil)
  }
}

extension Checkpoint {
  /// The integers of a required vector.
  func integers(_ name: String, _ dtype: DType, count: Int) throws(ModelError) -> [Int] {
    let bytes = try bytes(name, dtype, [count]).array
    let width = dtype.bits / 8
    return (0..<count).map { index in
      var word: UInt64 = 0
      for byte in (index * width..<(index + 1) * width).reversed() {
        word = word << 8 | UInt64(bytes[byte])
      }
      return width == 4
        ? Int(Int32(truncatingIfNeeded: word)) : Int(Int64(truncatingIfNeeded: word))
    }
  }
}
