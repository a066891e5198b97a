public import NibbleFormats

extension Tokenizer {
  /// Variables that chat templates take from a tokenizer: the spelling of its begin and end tokens.
  public var templateVariables: [String: JSON] {
    var variables: [String: JSON] = [:]
    if let bos = bos.flatMap({ token($0) }) { variables["bos_token"] = .string(bos) }
    if let eos = eos.flatMap({ token($0) }) { variables["eos_token"] = .string(eos) }
    return variables
  }
}
