public import NibbleTensor

/// Where a decoder's parameters are read from: a float checkpoint, or a quantized one in an
/// engine's format.
public protocol WeightSource: Sendable {
  /// The matrix `[outputs, inputs]` of the module at `path`, which is without `.weight`.
  func weight(_ path: String, outputs: Int, inputs: Int) throws(ModelError) -> Weight
  /// A vector by its full tensor name, widened to float; nil if it is not stored.
  func vector(_ name: String, count: Int) throws(ModelError) -> [Float]?
  /// One matrix `[outputs, inputs]` of a tensor that stacks all experts, and its bias.
  ///
  /// - Parameter block: module path of the block.
  func stacked(
    _ linear: LinearShape, _ stack: LinearShape.Stack, in block: String
  ) throws(ModelError) -> (weight: Weight, bias: [Float]?)
  /// A norm by its full module path.
  func norm(_ shape: NormShape, at path: String) throws(ModelError) -> Norm
}

extension WeightSource {
  public func stacked(
    _ linear: LinearShape, _ stack: LinearShape.Stack, in block: String
  ) throws(ModelError) -> (weight: Weight, bias: [Float]?) {
    throw .unsupported(
      "\(block).\(stack.tensor): experts in one tensor are read from float and MXFP4 checkpoints only"
    )
  }

  /// Reads the tensors that the norm's shape says are stored.
  public func norm(_ shape: NormShape, at path: String) throws(ModelError) -> Norm {
    try storedNorm(shape, at: path)
  }

  package func storedNorm(_ shape: NormShape, at path: String) throws(ModelError) -> Norm {
    func vector(_ end: String) throws(ModelError) -> [Float] {
      guard let values = try self.vector("\(path).\(end)", count: shape.width) else {
        throw .missingTensor("\(path).\(end)", path: "the checkpoint")
      }
      return values
    }
    var weight =
      shape.hasWeight ? try vector("weight") : [Float](repeating: 1, count: shape.width)
    if shape.offset != 0 { weight = weight.map { $0 + shape.offset } }
    return Norm(shape, weight: weight, bias: shape.hasBias ? try vector("bias") : nil)
  }

  /// The weight of a linear as `[outputs, inputs]`, transposed if it is stored otherwise.
  func weight(_ linear: LinearShape, at path: String) throws(ModelError) -> Weight {
    guard linear.isTransposed else {
      return try weight(path, outputs: linear.outputs, inputs: linear.inputs)
    }
    return try weight(path, outputs: linear.inputs, inputs: linear.outputs).transposed
  }
}

extension Weight {
  /// A transposed copy, `[columns, rows]`, in float32.
  fileprivate var transposed: Weight {
    let source = values(of: 0..<rows)
    var values = [Float](repeating: 0, count: source.count)
    for row in 0..<rows {
      for column in 0..<columns { values[column * rows + row] = source[row * columns + column] }
    }
    return .float(
      FloatMatrix(
        format: .f32, rows: columns, columns: rows,
        bytes: Bytes(FloatFormat.f32.encode(values.span))))
  }
}

/// A source that stores some matrices of a checkpoint in a form of its own; everything else is read as
/// the checkpoint has it.
public protocol CheckpointSource: WeightSource {
  var checkpoint: Checkpoint { get }
}

extension CheckpointSource {
  public func vector(_ name: String, count: Int) throws(ModelError) -> [Float]? {
    try checkpoint.vector(name, count: count)
  }

  public func stacked(
    _ linear: LinearShape, _ stack: LinearShape.Stack, in block: String
  ) throws(ModelError) -> (weight: Weight, bias: [Float]?) {
    try checkpoint.stacked(linear, stack, in: block)
  }
}
