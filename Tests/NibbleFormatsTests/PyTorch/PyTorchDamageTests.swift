import NibbleFormats
import NibbleTensor
import Testing
import TinyModel

@Suite struct PyTorchDamageTests {
  static let names = ["every_dtype", "module", "protocol_4", "views"]

  @Test(arguments: names)
  func everyTruncationIsRefused(_ name: String) throws {
    let whole = try fixture("pytorch/\(name).bin")
    for count in whole.indices {
      #expect(torchFailure(Array(whole[..<count])) != nil, "\(count)")
    }
  }

  /// What any damage leaves is refused, or has tensors inside the file.
  @Test(arguments: names)
  func mutatedFilesNeverTrap(_ name: String) throws {
    let whole = try fixture("pytorch/\(name).bin")
    try mutate(whole, trials: 4000) { $0 }
  }

  @Test func mutatedPicklesNeverTrap() throws {
    let sound = TorchFile(
      (0..<4).map { .init("layer.\($0)", .f16, [3, 2], storage: $0) },
      storages: Array(repeating: Array(0..<12), count: 4))
    let pickle = sound.pickle
    try mutate(pickle, trials: 12000) { sound.archive($0).bytes }
  }

  private func mutate(
    _ whole: [UInt8], trials: Int, file: ([UInt8]) -> [UInt8]
  ) throws {
    var random = SplitMix(state: 3)
    var accepted = 0
    for _ in 0..<trials {
      var bytes = whole
      for _ in 0..<Int.random(in: 1...3, using: &random) {
        let at = Int.random(in: whole.indices, using: &random)
        bytes[at] = [0, 1, 0x28, 0x52, 0x7F, 0x80, 0xFF, .random(in: 0...255, using: &random)]
          .randomElement(using: &random)!
      }
      do throws(FormatError) {
        let file = try PyTorchFile(parsing: Bytes(file(bytes)), path: "mutated")
        for entry in file.entries {
          #expect(file.bytes(of: entry.name)?.count == entry.byteCount)
        }
        accepted += 1
      } catch { #expect(!error.description.isEmpty) }
    }
    #expect(accepted > 0 && accepted < trials)
  }
}
