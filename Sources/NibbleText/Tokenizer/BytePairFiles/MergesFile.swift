internal import NibbleFormats

/// The merges of a byte-pair model as lines of text, `a b`, best first.
struct MergesFile {
  /// In the form of `tokenizer.json`.
  private(set) var merges: [JSON] = []

  /// Lines that begin with `#version` are skipped, as in Hugging Face's code.
  ///
  /// - Parameter file: the file's name in errors.
  init(_ bytes: [UInt8], file: String) throws(TokenizerError) {
    var lines = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
    while let last = lines.last, last.isEmpty || last.elementsEqual([UInt8(ascii: "\r")]) {
      lines.removeLast()
    }
    for (number, line) in lines.enumerated() where !line.starts(with: "#version".utf8) {
      let line = line.last == UInt8(ascii: "\r") ? line.dropLast() : line
      let sides = line.split(separator: UInt8(ascii: " "), omittingEmptySubsequences: false)
      guard sides.count == 2, sides.allSatisfy({ !$0.isEmpty }) else {
        throw .badFile(file, reason: "line \(number + 1) is not two tokens")
      }
      guard let left = String(validating: sides[0], as: UTF8.self),
        let right = String(validating: sides[1], as: UTF8.self)
      else { throw .badFile(file, reason: "line \(number + 1) is not valid UTF-8") }
      merges.append([.string(left), .string(right)])
    }
  }
}
