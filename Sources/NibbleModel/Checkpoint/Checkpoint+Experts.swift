import NibbleFormats
public import NibbleTensor

extension Checkpoint {
  /// One linear of a stacked tensor, with its bias. Mapped if its rows are contiguous, else copied.
  public func stacked(
    _ linear: LinearShape, _ stack: LinearShape.Stack, in block: String
  ) throws(ModelError) -> (weight: Weight, bias: [Float]?) {
    let name = "\(block).\(stack.tensor)"
    let matrix =
      linear.isTransposed ? [linear.inputs, stack.outputs] : [stack.outputs, linear.inputs]
    let tensor = try stackedTensor(name, [stack.experts] + matrix)
    guard let format = tensor.dtype.floatFormat else {
      throw .tensorType(name, found: tensor.dtype.rawValue, expected: "F32, F16 or BF16")
    }
    let bytes = try bytes(of: tensor, rows: stack.expert..<stack.expert + 1)
    let size = format.bytesPerValue
    let values: Bytes
    if !linear.isTransposed, stack.step == 1 {
      let row = linear.inputs * size
      values = bytes[stack.first * row..<(stack.first + linear.outputs) * row]
    } else {
      values = bytes.picking(linear, stack, size: size)
      bytes.release()
    }
    let weight = FloatMatrix(
      format: format, rows: linear.outputs, columns: linear.inputs, bytes: values)
    return (.float(weight), try stackedBias(linear, stack, in: block))
  }

  /// The bias of one linear, from a tensor that stacks those of all experts; nil if there is none.
  package func stackedBias(
    _ linear: LinearShape, _ stack: LinearShape.Stack, in block: String
  ) throws(ModelError) -> [Float]? {
    guard let bias = stack.bias else { return nil }
    let name = "\(block).\(bias)"
    let tensor = try stackedTensor(name, [stack.experts, stack.outputs])
    guard let format = tensor.dtype.floatFormat else {
      throw .tensorType(name, found: tensor.dtype.rawValue, expected: "F32, F16 or BF16")
    }
    let values = format.decode(try bytes(of: tensor, rows: stack.expert..<stack.expert + 1))
    if let index = values.firstIndex(where: { !$0.isFinite }) {
      throw .nonFinite(tensor: name, index: stack.expert * stack.outputs + index)
    }
    return (0..<linear.outputs).map { values[stack.first + $0 * stack.step] }
  }

  package func stackedTensor(_ name: String, _ shape: [Int]) throws(ModelError) -> Tensor {
    guard let tensor = tensor(name) else { throw .missingTensor(name, path: path) }
    guard tensor.shape == shape else {
      throw .tensorShape(name, found: tensor.shape, expected: shape)
    }
    return tensor
  }
}

extension Bytes {
  /// Copies the outputs of one linear out of an expert's matrix. `size` is the bytes per value. The
  /// result is `[outputs, inputs]` for either storage order.
  fileprivate func picking(
    _ linear: LinearShape, _ stack: LinearShape.Stack, size: Int
  ) -> Bytes {
    let (outputs, inputs) = (linear.outputs, linear.inputs)
    let source = array
    var picked = [UInt8](repeating: 0, count: outputs * inputs * size)
    for output in 0..<outputs {
      let from = stack.first + output * stack.step
      for input in 0..<inputs {
        let index = linear.isTransposed ? input * stack.outputs + from : from * inputs + input
        for byte in 0..<size {
          picked[(output * inputs + input) * size + byte] = source[index * size + byte]
        }
      }
    }
    return Bytes(picked)
  }
}
