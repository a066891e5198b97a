import CNibble
import Foundation

/// The processor's instructions that the kernels use: one table of functions for each set
/// (CNibble/sets).
///
/// The last that runs here is used, or the one that the environment variable `NIBBLE_ISA` names, which
/// binds oneDNN too.
public struct InstructionSet: Hashable, Sendable {
  public let name: String

  /// The sets that run here, slowest first.
  public static var here: [InstructionSet] {
    var found: [InstructionSet] = []
    while let kernels = unsafe nibble_kernels_at(found.count) {
      unsafe found.append(InstructionSet(name: String(cString: kernels.pointee.name)))
    }
    return found
  }

  /// The set that is used.
  public static var current: InstructionSet {
    unsafe InstructionSet(name: String(cString: nibble_kernels_here().pointee.name))
  }

  /// What `NIBBLE_ISA` says.
  static let asked = ProcessInfo.processInfo.environment["NIBBLE_ISA"]

  /// Why `name` cannot be used, in words; nil when it can.
  static func fault(_ name: String) -> String? {
    let names = here.map(\.name)
    guard !names.contains(name) else { return nil }
    return "NIBBLE_ISA is \(name); the sets that run here are \(names.joined(separator: ", "))."
  }

  /// Ends the program with status 64 when `NIBBLE_ISA` names a set that does not run here: what follows
  /// would be another measurement than the one that was asked for.
  static func exitUnlessKnown() {
    guard let asked, let fault = fault(asked) else { return }
    FileHandle.standardError.write(Data("Error: \(fault)\n".utf8))
    exit(64)
  }
}
