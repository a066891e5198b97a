/// A model on a hub by name: `owner/name`, optionally `@revision` and `:file.gguf`.
///
/// The parts become parts of URLs, so only safe characters are accepted: letters, digits, `.`, `_`
/// and `-`, no part that begins or ends with `.` or `-`, no `..`; a revision may also have `/`
/// between such parts (`refs/pr/3`).
public struct HubReference: Hashable, Sendable, CustomStringConvertible {
  public let owner: String
  public let name: String
  /// A branch, a tag or a commit.
  public let revision: String
  /// The GGUF to fetch from the repository; nil for no choice.
  public let file: String?

  public init(parsing text: String) throws(HubError) {
    let (left, file) = Self.split(text, at: ":")
    let (repository, revision) = Self.split(left, at: "@")
    let parts = repository.split(separator: "/", omittingEmptySubsequences: false)
    guard parts.count == 2 else {
      throw .notAReference(text, reason: "a name has one slash, between owner and model")
    }
    for part in parts {
      if let reason = Self.fault(part) { throw .notAReference(text, reason: reason) }
    }
    if let revision {
      for part in revision.split(separator: "/", omittingEmptySubsequences: false) {
        if let reason = Self.fault(part) { throw .notAReference(text, reason: reason) }
      }
    }
    if let file {
      if let reason = Self.fault(file) { throw .notAReference(text, reason: reason) }
      guard file.hasSuffix(".gguf") else {
        throw .notAReference(text, reason: "only a .gguf file can be picked by name")
      }
    }
    owner = String(parts[0])
    name = String(parts[1])
    self.revision = revision.map(String.init) ?? "main"
    self.file = file.map(String.init)
  }

  public var repository: String { "\(owner)/\(name)" }

  public var description: String {
    let at = revision == "main" ? "" : "@\(revision)"
    return "\(repository)\(at)\(file.map { ":\($0)" } ?? "")"
  }

  private static func split(
    _ text: some StringProtocol, at mark: Character
  ) -> (Substring, Substring?) {
    guard let position = text.firstIndex(of: mark) else { return (Substring(text), nil) }
    return (Substring(text[..<position]), Substring(text[text.index(after: position)...]))
  }

  /// The reason why a part of a name is refused; nil when it is valid.
  private static func fault(_ part: Substring) -> String? {
    if part.isEmpty { return "a part of the name is empty" }
    if part.utf8.count > 96 { return "a part of the name is longer than 96 characters" }
    let plain = part.utf8.allSatisfy { byte in
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"),
        UInt8(ascii: "-"):
        true
      default: false
      }
    }
    if !plain { return "only letters, digits, '.', '_' and '-' are allowed" }
    if part.contains("..") { return "'..' is not allowed" }
    let edges: [Character] = [".", "-"]
    if edges.contains(part.first!) || edges.contains(part.last!) {
      return "no part begins or ends with '.' or '-'"
    }
    return nil
  }
}
