import NibbleFormats
public import NibbleModel

/// Writes a checkpoint as a Hugging Face folder of float safetensors: how a GGUF file becomes one.
public struct WidenRun {
  private let checkpoint: Checkpoint

  public init(_ checkpoint: Checkpoint) { self.checkpoint = checkpoint }

  /// - Parameter output: a folder that is missing or empty; it appears when it is whole.
  public func run(to output: String) throws(QuantizeError) {
    do {
      let folder = try RunFolder<JournalEntry>(
        output: output, source: checkpoint.path, fingerprint: "widen \(try checkpoint.identity())",
        lastFile: "config.json")
      let layout = try SafetensorsLayout(
        SafetensorsLayout.referenceOrder(
          checkpoint.tensors.map {
            SafetensorsLayout.Tensor(name: $0.name, dtype: $0.dtype, shape: $0.shape)
          }))
      let writer = try SafetensorsWriter(
        layout: layout, path: folder.path + "/" + SafetensorsCheckpoint.singleName)
      for entry in layout.entries {
        try writer.append(try checkpoint.bytes(of: entry.name), of: entry.name)
      }
      try writer.finish()
      for file in try checkpoint.companionsOfGGUF() {
        try folder.write(Array(file.text.utf8), to: file.name)
      }
      try folder.write(
        Array((checkpoint.config.text(pretty: true) + "\n").utf8), to: "config.json")
      try folder.publish()
    } catch { throw QuantizeError(wrapping: error) }
  }
}
