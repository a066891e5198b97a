import Foundation
import NibbleFormats
public import NibbleText

extension Checkpoint {
  /// The tokenizer next to the weights, or inside the GGUF; nil if there is none.
  ///
  /// Reads `tokenizer.json` if the folder has one, else the vocabulary files: `vocab.json` with
  /// `merges.txt`, `tokenizer.model`, or a tiktoken file.
  public func tokenizer() throws(ModelError) -> Tokenizer? {
    do {
      if let gguf = ggufTokenizer { return try Tokenizer(gguf: gguf) }
      guard let json = try companion("tokenizer.json") else {
        return try TokenizerFolder(path: path, modelType: config["model_type"]?.string).tokenizer()
      }
      return try Tokenizer(tokenizerJSON: json, config: try companion("tokenizer_config.json"))
    } catch let error as ModelError { throw error } catch let error as FormatError {
      throw .format(error)
    } catch {
      throw .unsupported("\(path): the tokenizer cannot be used: \(error)")
    }
  }

  /// The template that turns messages into a prompt; nil if there is none.
  public func chatTemplate() throws(ModelError) -> ChatTemplate? {
    guard let source = try chatTemplateSource() else { return nil }
    do { return try ChatTemplate(source) } catch {
      throw .unsupported("\(path): the chat template cannot be used: \(error)")
    }
  }

  /// The files that make a Hugging Face folder from a GGUF; empty for a folder.
  public func companionsOfGGUF() throws(ModelError) -> [(name: String, text: String)] {
    guard let gguf = ggufTokenizer else { return [] }
    do {
      let files = try Tokenizer.huggingFaceFiles(from: gguf)
      var companions = [
        (name: "tokenizer.json", text: files.tokenizer.text(pretty: true) + "\n"),
        (name: "tokenizer_config.json", text: files.config.text(pretty: true) + "\n"),
      ]
      if let template = gguf.chatTemplate {
        companions.append((name: "chat_template.jinja", text: template))
      }
      return companions
    } catch { throw .unsupported("\(path): the tokenizer cannot be used: \(error)") }
  }

  private func chatTemplateSource() throws(ModelError) -> String? {
    if let gguf = ggufTokenizer { return gguf.chatTemplate }
    let file = path + "/chat_template.jinja"
    if FileManager.default.fileExists(atPath: file) {
      guard let text = try? String(contentsOfFile: file, encoding: .utf8) else {
        throw .unsupported("\(file) is not UTF-8 text")
      }
      return text
    }
    let template = try companion("tokenizer_config.json")?["chat_template"]
    if let named = template?.array {
      return named.first { $0["name"]?.string == "default" }?["template"]?.string
    }
    return template?.string
  }

  /// A JSON file in the folder of the weights; nil if there is none, or the model is a GGUF.
  func companion(_ name: String) throws(ModelError) -> JSON? {
    if case .gguf = container { return nil }
    let file = path + "/" + name
    return FileManager.default.fileExists(atPath: file) ? try Self.json(file) : nil
  }

  private var ggufTokenizer: GGUFTokenizer? {
    guard case .gguf(let model) = container else { return nil }
    let metadata = model.file.metadata
    func value(_ key: String) -> GGUFValue? { metadata["tokenizer.ggml.\(key)"] }
    guard let name = value("model")?.string, let tokens = value("tokens")?.strings else {
      return nil
    }
    return GGUFTokenizer(
      model: name, pre: value("pre")?.string, tokens: tokens, scores: value("scores")?.floats ?? [],
      types: value("token_type")?.ints ?? [], merges: value("merges")?.strings ?? [],
      bos: value("bos_token_id")?.int, eos: value("eos_token_id")?.int,
      unknown: value("unknown_token_id")?.int, padding: value("padding_token_id")?.int,
      addBOS: value("add_bos_token")?.bool, addEOS: value("add_eos_token")?.bool,
      addSpacePrefix: value("add_space_prefix")?.bool,
      chatTemplate: metadata["tokenizer.chat_template"]?.string)
  }
}
