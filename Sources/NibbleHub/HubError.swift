/// Reasons why a model could not be fetched.
public enum HubError: Error, Hashable, Sendable {
  case notAReference(String, reason: String)
  case badEndpoint(String, reason: String)
  case tokenInTheOpen(endpoint: String)

  case unauthorized(repository: String, status: Int, tokenSent: Bool)
  case notFound(address: String)
  case unreachable(host: String, reason: String)
  case refused(address: String, reason: String)
  case badListing(address: String, reason: String)
  case hostileFileName(repository: String, name: String)

  case missingFile(repository: String, file: String)
  case noWeights(repository: String, found: [String])
  case severalGGUF(repository: String, files: [String])

  case tooLarge(file: String, bytes: Int, limit: Int)
  case wrongSize(file: String, expected: Int, found: Int)
  case wrongChecksum(file: String, expected: String, found: String)
  case interrupted(file: String, reason: String)
  case cancelled

  case folderExists(String)
  case foreignFolder(String, holds: String)
  case busy(folder: String)
  case noSpace(folder: String, needed: Int, free: Int)
  case cannotWrite(path: String, reason: String)

  case missingTool(String)
  case toolFailed(command: String, status: Int, output: String)
}

extension HubError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .notAReference(let text, let reason):
      "'\(text)' is not a model's name: \(reason). Write owner/name, owner/name@revision or "
        + "owner/name:file.gguf."
    case .badEndpoint(let endpoint, let reason):
      "hub '\(endpoint)': \(reason). Set HF_ENDPOINT to an address such as https://host."
    case .tokenInTheOpen(let endpoint):
      "hub '\(endpoint)': a token would cross the network unencrypted. Use an https address, or "
        + "unset HF_TOKEN."
    case .unauthorized(let repository, let status, false):
      "\(repository): the hub answered \(status). The name may be wrong, or the model is private or "
        + "gated: then set HF_TOKEN to a token that may read it."
    case .unauthorized(let repository, let status, true):
      "\(repository): the hub answered \(status) to this HF_TOKEN. Check that the token is valid "
        + "and that its owner was granted the model."
    case .notFound(let address):
      "\(address): not found. Check owner, name and revision."
    case .unreachable(let host, let reason):
      "\(host) cannot be reached (\(reason)). Check the network, or set HF_ENDPOINT to a mirror; "
        + "the pinned names need no hub."
    case .refused(let address, let reason):
      "\(address): \(reason). Try again later, or set HF_ENDPOINT to another hub."
    case .badListing(let address, let reason):
      "\(address): the list of files is not what a hub sends: \(reason). Check HF_ENDPOINT."
    case .hostileFileName(let repository, let name):
      "\(repository): refuses the file name '\(name)', which leaves the folder. Do not use this "
        + "repository."
    case .missingFile(let repository, let file):
      "\(repository): has no \(file). Check the name, or choose another repository."
    case .noWeights(let repository, let found):
      "\(repository): has no weights as safetensors, pytorch_model.bin or GGUF"
        + (found.isEmpty ? "" : " (only \(found.joined(separator: ", ")))")
        + ". Choose a repository or a revision that has them."
    case .severalGGUF(let repository, let files):
      "\(repository): has several GGUF files: \(files.joined(separator: ", ")). Pick one: "
        + "\(repository):\(files.first ?? "file.gguf")."
    case .tooLarge(let file, let bytes, let limit):
      "\(file): \(bytes) bytes or more, the limit is \(limit). Do not use this repository."
    case .wrongSize(let file, let expected, let found):
      "\(file): \(found) bytes instead of the promised \(expected). The file was removed; run the "
        + "same command again."
    case .wrongChecksum(let file, let expected, let found):
      "\(file): checksum \(found), not \(expected). The file was removed; run the same command "
        + "again."
    case .interrupted(let file, let reason):
      "\(file): the transfer stopped (\(reason)). Run the same command again to continue."
    case .cancelled: "stopped. Run the same command again to continue."
    case .folderExists(let folder):
      "\(folder) exists. Name another folder, or remove this one."
    case .foreignFolder(let folder, let holds):
      "\(folder) is not an unfinished pull of this model: it holds \(holds). Remove it, or name "
        + "another folder."
    case .busy(let folder): "\(folder): another process is pulling into it. Wait for it to end."
    case .noSpace(let folder, let needed, let free):
      "\(folder): \(needed) more bytes are needed and the disk has \(free). Make room, then run the "
        + "same command again."
    case .cannotWrite(let path, let reason): "cannot write \(path): \(reason)"
    case .missingTool(let tool):
      "\(tool) is not installed. Install it (Debian: apt-get install python3 python3-pip) and run "
        + "the same command again."
    case .toolFailed(let command, let status, let output):
      "'\(command)' ended with status \(status):\n\(output)\nCheck the network and pip's settings, "
        + "then run the same command again."
    }
  }
}
