/// Text from a file in a form for errors: short, and without control characters for a terminal.
package func shown(_ text: String) -> String {
  let limit = 120
  var result = ""
  for scalar in text.unicodeScalars.prefix(limit) {
    switch scalar.properties.generalCategory {
    case .control, .format, .lineSeparator, .paragraphSeparator, .privateUse, .unassigned:
      result += "\\u{\(String(scalar.value, radix: 16))}"
    default: result.unicodeScalars.append(scalar)
    }
  }
  return text.unicodeScalars.dropFirst(limit).isEmpty ? result : result + "..."
}

/// A shape in a form for errors: `[2, 3]`, and at most eight dimensions.
func shown(_ shape: [some BinaryInteger]) -> String {
  let sizes = shape.prefix(8).map { "\($0)" }.joined(separator: ", ")
  return shape.count > 8 ? "[\(sizes), ...]" : "[\(sizes)]"
}
