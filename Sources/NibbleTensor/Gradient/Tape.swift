/// A float operation with its derivative. Values are matrices whose rows are tokens, or parameters.
package protocol Primitive: Sendable {
  func forward(_ inputs: [FloatRows], on compute: Compute) -> FloatRows

  /// The gradient of each input.
  ///
  /// - Parameters:
  ///   - gradient: of the output.
  ///   - needed: which gradients are used; those of other inputs may be nil.
  func backward(
    _ gradient: FloatRows, _ inputs: [FloatRows], _ output: FloatRows, needed: [Bool],
    on compute: Compute
  ) -> [FloatRows?]
}

/// Records operations while they run, so that gradients can be computed backwards.
///
/// Sums have a fixed order: the gradients are the same for any number of threads.
package struct Tape {
  /// A value on the tape.
  package struct Node: Hashable, Sendable {
    fileprivate let index: Int
  }

  private struct Entry {
    let primitive: (any Primitive)?
    let inputs: [Node]
    let value: FloatRows
    /// Whether a parameter is among what it was computed from.
    let isTrained: Bool
  }

  private var entries: [Entry] = []
  package let compute: Compute

  package init(on compute: Compute) { self.compute = compute }

  /// A value whose gradient is not used.
  package mutating func constant(_ value: FloatRows) -> Node {
    append(Entry(primitive: nil, inputs: [], value: value, isTrained: false))
  }

  /// A value whose gradient is used.
  package mutating func parameter(_ value: FloatRows) -> Node {
    append(Entry(primitive: nil, inputs: [], value: value, isTrained: true))
  }

  package mutating func apply(_ primitive: some Primitive, _ inputs: Node...) -> Node {
    let value = primitive.forward(inputs.map { entries[$0.index].value }, on: compute)
    return append(
      Entry(
        primitive: primitive, inputs: inputs, value: value,
        isTrained: inputs.contains { entries[$0.index].isTrained }))
  }

  private mutating func append(_ entry: Entry) -> Node {
    entries.append(entry)
    return Node(index: entries.count - 1)
  }

  package subscript(node: Node) -> FloatRows { entries[node.index].value }

  /// The gradients of parameters, given that of `output`. A parameter that `output` does not depend
  /// on has none.
  package func gradients(of output: Node, _ gradient: FloatRows) -> [Node: FloatRows] {
    var gradients = [FloatRows?](repeating: nil, count: entries.count)
    gradients[output.index] = gradient
    for (index, entry) in entries.enumerated().reversed() {
      guard let primitive = entry.primitive, entry.isTrained, let gradient = gradients[index] else {
        continue
      }
      gradients[index] = nil
      let needed = entry.inputs.map { entries[$0.index].isTrained }
      let parts = primitive.backward(
        gradient, entry.inputs.map { entries[$0.index].value }, entry.value, needed: needed,
        on: compute)
      for ((input, part), isNeeded) in zip(zip(entry.inputs, parts), needed) where isNeeded {
        guard let part else { continue }
        if gradients[input.index] == nil {
          gradients[input.index] = part
        } else {
          gradients[input.index]?.add(part, times: 1, on: compute)
        }
      }
    }
    return Dictionary(
      uniqueKeysWithValues: gradients.enumerated().compactMap { index, gradient in
        gradient.map { (Node(index: index), $0) }
      })
  }
}
