/// Text that comes with Nibble, for a run where the user names none.
///
/// Written for this project in 2026 and quoted from nowhere; licence Apache-2.0. Prose of several
/// registers in English and Chinese, code, tables, arithmetic and chat. The two texts share no
/// passage: statistics come from one, verdicts from the other.
public enum BuiltinText {
  /// What activations are watched on, about 24 KB of UTF-8.
  public static let calibration = [
    calibrationEnglish, calibrationChinese, calibrationCode, calibrationDialogue,
  ].joined(separator: "\n")

  /// What a quantized model is measured on, about 16 KB of UTF-8.
  public static let heldOut = heldOutParts.map(\.text).joined(separator: "\n")

  /// The parts of `heldOut` and the kind of text of each.
  static let heldOutParts = [
    (kind: "English", text: heldOutEnglish), (kind: "Chinese", text: heldOutChinese),
    (kind: "code", text: heldOutCode), (kind: "dialogue", text: heldOutDialogue),
  ]
}
