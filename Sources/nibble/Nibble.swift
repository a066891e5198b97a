import ArgumentParser
import Foundation
import NibbleQuantize
import NibbleTensor

@main struct Nibble: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "nibble",
    abstract: "Makes large language models smaller and proves what that cost.",
    discussion: """
      A first walk:
        nibble pull smollm2 -o smollm2
        nibble plan smollm2 --recipe w8a8
        nibble quantize smollm2 --recipe w8a8 -o smollm2-w8a8
        nibble eval smollm2-w8a8 --against smollm2 --text builtin
        nibble run smollm2-w8a8 "What's deep learning"

      A MODEL is a Hugging Face folder (config.json and safetensors or pytorch_model.bin) or a .gguf file.
      Exit status: 0 it worked and was measured; 2 a bound was crossed; 64 usage; 65 bad input;
      66 no such file; 73 cannot write; 75 interrupted, run again to continue.
      """,
    version: NibbleVersion.current,
    subcommands: [
      Pull.self, Inspect.self, PlanCommand.self, SensitivityCommand.self, SearchCommand.self,
      FormatsCommand.self,
      CalibrateCommand.self,
      Quantize.self, TuneCommand.self, CompressCommand.self, CheckCommand.self, ReportCommand.self,
      Eval.self,
      Run.self, Chat.self, BenchCommand.self,
      Tokenize.self, LogitsCommand.self,
    ])

  static func main() async {
    Terminal.openClosedDescriptors()
    MappedFile.endsWhenFilesShrink(status: Failure.badInput)
    ProcessMemory.returnFreedBuffers()
    do {
      var command = try parseAsRoot()
      if var command = command as? any AsyncParsableCommand {
        try await command.run()
      } else {
        try command.run()
      }
    } catch {
      let failure = Failure(error)
      guard let failure else { exit(withError: error) }
      Terminal.error(failure.message)
      Foundation.exit(failure.status)
    }
  }
}
