import ArgumentParser
import NibbleEngines
import NibbleFormats
import NibbleModel
import NibbleTensor

struct LogitsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "logits",
    abstract: "Write a model's logits after each of some tokens, for comparing with another engine."
  )

  @Argument(help: "A Hugging Face folder, float or quantized, or a .gguf file.")
  var model: String
  @Option(help: "A safetensors file with the tensor ids [t], I64 or I32.")
  var ids: String
  @Option(name: .shortAndLong, help: "The safetensors file to write: logits [t, vocabulary], F32.")
  var output: String
  @OptionGroup var config: ConfigOptions
  @OptionGroup var compute: ComputeOptions
  @Flag(help: "Print one JSON object.")
  var json = false

  func run() throws {
    // Checked before the work.
    var file = try OutputFile(output)
    let checkpoint = try config.openLoadable(model)
    let computing = compute.compute(for: checkpoint)
    let loaded = try LoadedModel(checkpoint, on: computing)
    let tokens = try readIds()
    let vocabulary = loaded.decoder.shape.vocabulary
    ContextLimit(loaded.decoder.shape.context).warn(of: tokens.count, "--ids")
    let layout = try SafetensorsLayout([
      SafetensorsLayout.Tensor(name: "logits", dtype: .f32, shape: [tokens.count, vocabulary])
    ])
    var session = try Session(loaded.decoder, capacity: tokens.count, on: computing)
    let states = try session.states(after: tokens)
    let writer = try SafetensorsWriter(layout: layout, path: file.partial)
    for start in stride(from: 0, to: tokens.count, by: 256) {
      var encoded: [UInt8] = []
      session.withLogits(states, start..<min(tokens.count, start + 256)) {
        encoded = FloatFormat.f32.encode($0.span)
      }
      try writer.append(Bytes(encoded), of: "logits")
    }
    try writer.finish()
    try file.publish()
    if json {
      Terminal.print([
        "output": .string(output), "tokens": JSON(tokens.count), "vocabulary": JSON(vocabulary),
      ])
    } else {
      Terminal.print("wrote \(output): logits [\(tokens.count), \(vocabulary)]")
    }
  }

  private func readIds() throws -> [Int] {
    let file = try SafetensorsFile(path: ids)
    guard let entry = file.entry("ids"), let bytes = file.bytes(of: "ids")?.array,
      entry.shape.count == 1, entry.dtype == .i64 || entry.dtype == .i32, !bytes.isEmpty
    else {
      throw ModelError.unsupported("\(ids): a tensor ids [t] of I64 or I32 is needed, t at least 1")
    }
    let width = entry.dtype.bits / 8
    return stride(from: 0, to: bytes.count, by: width).map { at in
      let bits = (0..<width).reduce(UInt64(0)) { $0 | UInt64(bytes[at + $1]) << (8 * $1) }
      return width == 8 ? Int(Int64(bitPattern: bits)) : Int(Int32(truncatingIfNeeded: bits))
    }
  }
}
