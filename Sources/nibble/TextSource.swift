import NibbleModel
import NibbleQuantize
import NibbleTensor

/// Reads text for evaluation or calibration.
///
/// Line ends become single line feeds, as in Python's text mode, so that a file with other line
/// ends gives the same tokens.
enum TextSource {
  static func read(_ source: String) throws -> String {
    if source == "builtin" { return BuiltinText.heldOut }
    let file = try MappedFile(path: source)
    guard file.count <= 1 << 30 else {
      throw ModelError.unsupported(
        "\(source): \(file.count) bytes; a text of at most 1 GiB is read")
    }
    let text = try text(Bytes(file, 0..<file.count).array, from: source)
    var scalars = String.UnicodeScalarView()
    var previous: Unicode.Scalar?
    for scalar in text.unicodeScalars {
      if scalar == "\r" || !(scalar == "\n" && previous == "\r") {
        scalars.append(scalar == "\r" ? "\n" : scalar)
      }
      previous = scalar
    }
    return String(scalars)
  }

  /// - Throws: for invalid UTF-8, and for NUL, which no text contains.
  static func text(_ bytes: [UInt8], from source: String) throws -> String {
    if let byte = bytes.firstIndex(of: 0) {
      throw ModelError.unsupported(
        "\(source): byte \(byte) is NUL, so this is no text. Give a UTF-8 text file.")
    }
    if let text = String(validating: bytes, as: UTF8.self) { return text }
    throw ModelError.unsupported(
      "\(source): byte \(firstFault(bytes)) is not UTF-8. Give a UTF-8 text file, such as iconv -t "
        + "UTF-8 makes of it.")
  }

  /// Offset of the first invalid UTF-8.
  private static func firstFault(_ bytes: [UInt8]) -> Int {
    var parser = Unicode.UTF8.ForwardParser()
    var iterator = bytes.makeIterator()
    var at = 0
    while true {
      switch parser.parseScalar(from: &iterator) {
      case .valid(let scalar): at += scalar.count
      case .error, .emptyInput: return at
      }
    }
  }
}
