import NibbleFormats
package import NibbleTensor

extension GGUFModel {
  /// The codes of a quantized matrix `[outputs, inputs]` as the file stores them; nil for a tensor that
  /// is float or no such matrix.
  ///
  /// Every value is the one that the blocks stand for; nothing is rounded again.
  func codes(of name: String, outputs: Int, inputs: Int) throws(ModelError) -> QuantizedMatrix? {
    guard let source = sources[UTF8Key(name)], let layout = GGMLCodes(source.tensor.type),
      source.tensor.shape == [outputs, inputs], source.offset == 0,
      inputs.isMultiple(of: source.tensor.type.blockElements)
    else { return nil }
    let (bits, groups) = (layout.bits, inputs / layout.group)
    let half = UInt8(1 << (bits - 1))
    let isNarrow = bits <= 4
    var stored = [UInt8](repeating: 0, count: outputs * inputs / (isNarrow ? 2 : 1))
    var scales = [Float](repeating: 0, count: outputs * groups)
    var offsets = [Float](repeating: 0, count: layout.hasMinimums ? scales.count : 0)
    // One row, taken apart.
    var codes = [UInt8](repeating: 0, count: inputs)
    var rowScales = [Float](repeating: 0, count: groups)
    var minimums = rowScales
    for output in 0..<outputs {
      let at =
        source.interleavedHead.map { ggufRow(ofHuggingFaceRow: output, headSize: $0) } ?? output
      do {
        let bytes = file.storedRow(at, of: source.tensor)
        var codeSpan = codes.mutableSpan
        var scaleSpan = rowScales.mutableSpan
        var minimumSpan = minimums.mutableSpan
        GGMLCodes.unpack(source.tensor.type, bytes.span, &codeSpan, &scaleSpan, &minimumSpan)
      }
      if isNarrow {
        for pair in 0..<inputs / 2 {
          let (low, high) = (codes[2 * pair] + 8 - half, codes[2 * pair + 1] + 8 - half)
          stored[output * inputs / 2 + pair] = low | high << 4
        }
      } else {
        for input in 0..<inputs { stored[output * inputs + input] = codes[input] &- half }
      }
      for group in 0..<groups {
        let scale = rowScales[group]
        guard scale.isFinite, minimums[group].isFinite else {
          throw .unsupported("\(name): row \(output) has a scale that is not finite")
        }
        scales[output * groups + group] = scale
        if layout.hasMinimums {
          offsets[output * groups + group] = minimums[group] + Float(half) * scale
        }
      }
    }
    return QuantizedMatrix(
      scheme: WeightScheme(
        format: layout.hasMinimums
          ? .intWithOffsets(bits: bits) : .int(bits: bits, symmetric: true),
        granularity: .group(layout.group)),
      rows: outputs, columns: inputs, codes: Bytes(stored), scales: scales, offsets: offsets)
  }
}

/// A GGUF file as the weights of a decoder that runs on the file's own codes.
package struct GGUFCodes: CheckpointSource {
  package let checkpoint: Checkpoint
  private let model: GGUFModel

  /// Nil for a checkpoint in another container.
  package init?(_ checkpoint: Checkpoint) {
    guard case .gguf(let model) = checkpoint.container else { return nil }
    (self.checkpoint, self.model) = (checkpoint, model)
  }

  package func weight(_ path: String, outputs: Int, inputs: Int) throws(ModelError) -> Weight {
    if let codes = try model.codes(of: path + ".weight", outputs: outputs, inputs: inputs) {
      return .quantized(codes, inputs: nil)
    }
    return try checkpoint.weight(path, outputs: outputs, inputs: inputs)
  }
}
