import NibbleModel
import NibbleQuantize
import NibbleTensor

/// Reads text for evaluation or calibration.
///
/// Line ends become single line feeds, as in Python's text mode, so that a file checked out with other
/// line ends gives the same tokens.
enum TextSource {
  static func read(_ source: String) throws -> String {
    if source == "builtin" { return BuiltinText.heldOut }
    let file = try MappedFile(path: source)
    guard file.count <= 1 << 30 else {
      throw ModelError.unsupported(
        "\(source): \(file.count) bytes; a text of at most 1 GiB is read")
    }
    // As Python's errors="replace": bytes that are not UTF-8 become U+FFFD.
    let text = String(decoding: Bytes(file, 0..<file.count).array, as: UTF8.self)
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
}
