import Foundation
import NibbleFormats
import Testing
import TinyModel

/// A small file system in memory, for what happens when a disk is full.
enum SmallDisk {
  static let canMount: Bool = {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
    guard (try? mount(folder.path, kilobytes: 64)) != nil else { return false }
    unmount(folder.path)
    return true
  }()

  static func mount(_ folder: String, kilobytes: Int) throws {
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    try run("mount", "-t", "tmpfs", "-o", "size=\(kilobytes)k", "none", folder)
  }

  static func unmount(_ folder: String) {
    try? run("umount", folder)
    try? FileManager.default.removeItem(atPath: folder)
  }

  private static func run(_ arguments: String...) throws {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = arguments
    process.standardError = FileHandle.nullDevice
    try process.run()
    process.waitUntilExit()
    guard process.terminationStatus == 0 else { throw CocoaError(.fileWriteUnknown) }
  }
}

@Suite struct FullDiskTests {
  @Test(.enabled(if: exists("/dev/full"), "there is no /dev/full"))
  func aResultThatCannotBePrintedIs73() throws {
    try inTemporaryFolder { folder in
      let source = folder + "/source"
      try SmallModel.write(source)
      for arguments in [
        ["inspect", source], ["plan", source, "--recipe", "w8a8", "--json"],
        ["run", source, "a", "--raw", "--max-tokens", "3"],
      ] {
        let outcome = try Call(arguments, output: "/dev/full").wait()
        #expect(outcome.status == 73 && outcome.signal == nil, "\(arguments): \(outcome)")
      }
    }
  }

  @Test(.enabled(if: SmallDisk.canMount, "a tmpfs cannot be mounted here"))
  func aFullDiskIs73AndTheRunContinuesWhenThereIsRoom() throws {
    try inTemporaryFolder { folder in
      let (source, disk) = (folder + "/source", folder + "/disk")
      try SmallModel.write(source, blocks: 24)
      func quantize(_ output: String) throws -> Call {
        try SmallModel.quantize(source, output, recipe: SmallModel.long)
      }
      let whole = try quantize(folder + "/whole").wait()
      #expect(whole.status == 0, "\(whole)")
      let expected = try files(folder + "/whole")
      let needed = expected.values.reduce(0) { $0 + $1.count } / 1024
      try SmallDisk.mount(disk, kilobytes: 2 * needed + 512)
      defer { SmallDisk.unmount(disk) }
      let (ballast, output) = (disk + "/ballast", disk + "/out")
      // Too little room for the model: nothing is begun.
      try Data(count: (needed + 512 + needed / 2) * 1024).write(to: URL(fileURLWithPath: ballast))
      let refused = try quantize(output).wait()
      #expect(refused.status == 73 && refused.errors.contains("the disk has"), "\(refused)")
      #expect(try FileManager.default.contentsOfDirectory(atPath: disk) == ["ballast"])
      try FileManager.default.removeItem(atPath: ballast)
      // Something else fills the disk while the model is written, at several moments.
      for unit in [1, 10, 20] {
        let call = try quantize(output)
        while call.isRunning, !call.errors.contains("[\(unit)/25]") { usleep(200) }
        call.send(SIGSTOP)
        fill(ballast)
        call.send(SIGCONT)
        let full = try call.wait()
        #expect(full.status == 73, "\(unit): \(full)")
        #expect(full.errors.contains("No space left"), "\(unit): \(full.errors)")
        #expect(!exists(output), "\(unit)")
        try FileManager.default.removeItem(atPath: ballast)
        if unit == 20 {
          // Room for what is missing, not for the whole model once more.
          let free = try #require(OutputPath.freeBytes(disk))
          try Data(count: free - needed * 1024 * 9 / 10).write(to: URL(fileURLWithPath: ballast))
        }
        let again = try quantize(output).wait()
        #expect(again.status == 0, "\(unit): \(again)")
        if unit == 20 {
          #expect(again.errors.contains("finished earlier"), "\(again.errors)")
          try FileManager.default.removeItem(atPath: ballast)
        }
        #expect(try files(output) == expected, "\(unit)")
        try FileManager.default.removeItem(atPath: output)
      }
    }
  }

  /// Takes all that is left of a disk.
  private func fill(_ path: String) {
    _ = FileManager.default.createFile(atPath: path, contents: nil)
    guard let file = FileHandle(forWritingAtPath: path) else { return }
    for size in [1 << 16, 1 << 12] {
      while (try? file.write(contentsOf: Data(count: size))) != nil {}
    }
  }

  @Test(.enabled(if: exists("/dev/full"), "there is no /dev/full"))
  func logitsIntoAFullDeviceIs73() throws {
    try inTemporaryFolder { folder in
      try SmallModel.write(folder + "/source")
      try LogitsTests.writeIds([1, 2, 3], folder + "/ids.safetensors")
      let outcome = try nibble(
        "logits", folder + "/source", "--ids", folder + "/ids.safetensors", "-o", "/dev/full")
      #expect(outcome.status == 73 && outcome.errors.contains("/dev/full"), "\(outcome)")
    }
  }
}
