import Foundation
import NibbleFormats
public import NibbleModel
import NibbleTensor

/// Writes a checkpoint as a Hugging Face folder of float safetensors, for example from a GGUF file.
public struct WidenRun {
  private let checkpoint: Checkpoint

  /// Paths of further files of the model, such as its terms.
  private let companions: [String]

  /// - Parameter companions: paths of files to copy into the folder.
  public init(_ checkpoint: Checkpoint, with companions: [String] = []) {
    self.checkpoint = checkpoint
    self.companions = companions
  }

  /// - Parameter output: a missing or empty folder. It appears when it is complete.
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
      for path in companions {
        let file = try MappedFile(path: path)
        try folder.write(
          Bytes(file, 0..<file.count).array, to: (path as NSString).lastPathComponent)
      }
      try folder.write(
        Array((checkpoint.config.text(pretty: true) + "\n").utf8), to: "config.json")
      try folder.publish()
    } catch { throw QuantizeError(wrapping: error) }
  }
}
