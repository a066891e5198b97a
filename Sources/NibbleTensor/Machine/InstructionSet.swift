import CNibble
import Foundation

/// The processor's instructions that the kernels use. Each set is one table of functions
/// (CNibble/sets).
///
/// The fastest set that this processor runs is used, unless the environment variable `NIBBLE_ISA`
/// names another. The variable limits oneDNN too.
public struct InstructionSet: Hashable, Sendable {
  public let name: String

  /// The sets that this processor runs, slowest first.
  public static var here: [InstructionSet] {
    var found: [InstructionSet] = []
    while let kernels = unsafe nibble_kernels_at(found.count) {
      unsafe found.append(InstructionSet(name: String(cString: kernels.pointee.name)))
    }
    return found
  }

  /// The set in use.
  public static var current: InstructionSet {
    unsafe InstructionSet(name: String(cString: nibble_kernels_here().pointee.name))
  }

  /// Value of `NIBBLE_ISA`; nil when it is not set.
  static let asked = ProcessInfo.processInfo.environment["NIBBLE_ISA"]

  /// Message that says why `name` cannot be used; nil when it can.
  static func fault(_ name: String) -> String? {
    let names = here.map(\.name)
    guard !names.contains(name) else { return nil }
    return "NIBBLE_ISA is \(name); the sets that run here are \(names.joined(separator: ", "))."
  }

  /// Ends the program with status 64 when `NIBBLE_ISA` names a set that does not run here: with
  /// another set the program would measure something else than was asked for.
  static func exitUnlessKnown() {
    guard let asked, let fault = fault(asked) else { return }
    FileHandle.standardError.write(Data("Error: \(fault)\n".utf8))
    exit(64)
  }
}
