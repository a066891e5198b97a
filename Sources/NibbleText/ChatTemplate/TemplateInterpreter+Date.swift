import Foundation

extension TemplateInterpreter {
  private static let months = [
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
  ]
  private static let days = [
    "Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday",
  ]

  /// `strftime` in the C locale and the machine's time zone, as Python's `datetime.now()`.
  func date(_ format: String) throws(ChatTemplateError) -> String {
    let calendar = Calendar(identifier: .gregorian)
    let parts = calendar.dateComponents(
      [.year, .month, .day, .hour, .minute, .second, .weekday, .dayOfYear], from: now ?? Date())
    var text = ""
    var scalars = format.unicodeScalars.makeIterator()
    while let scalar = scalars.next() {
      try charge()
      guard scalar == "%" else {
        text.unicodeScalars.append(scalar)
        continue
      }
      var mark = scalars.next()
      let isBare = mark == "-"
      if isBare { mark = scalars.next() }
      guard let mark, let field = Self.field(mark, parts) else {
        throw .unsupported(line: line, "the date format '%\(mark.map { String($0) } ?? "")'")
      }
      let bare = field.stripped(of: "0 ", right: false)
      text += isBare && field.utf8.allSatisfy { $0 <= 0x39 } ? (bare.isEmpty ? "0" : bare) : field
    }
    return text
  }

  private static func field(_ mark: Unicode.Scalar, _ parts: DateComponents) -> String? {
    func padded(_ value: Int?, _ width: Int, with pad: String = "0") -> String {
      let digits = "\(value ?? 0)"
      return String(repeating: pad, count: max(0, width - digits.utf8.count)) + digits
    }
    let hour = parts.hour ?? 0
    let month = months[((parts.month ?? 1) - 1) % 12]
    let day = days[((parts.weekday ?? 1) - 1) % 7]
    return switch mark {
    case "Y": padded(parts.year, 4)
    case "y": padded((parts.year ?? 0) % 100, 2)
    case "m": padded(parts.month, 2)
    case "d": padded(parts.day, 2)
    case "e": padded(parts.day, 2, with: " ")
    case "j": padded(parts.dayOfYear, 3)
    case "H": padded(hour, 2)
    case "I": padded((hour + 11) % 12 + 1, 2)
    case "M": padded(parts.minute, 2)
    case "S": padded(parts.second, 2)
    case "p": hour < 12 ? "AM" : "PM"
    case "B": month
    case "b", "h": String(month.prefix(3))
    case "A": day
    case "a": String(day.prefix(3))
    case "F": padded(parts.year, 4) + "-" + padded(parts.month, 2) + "-" + padded(parts.day, 2)
    case "T": padded(hour, 2) + ":" + padded(parts.minute, 2) + ":" + padded(parts.second, 2)
    case "n": "\n"
    case "t": "\t"
    case "%": "%"
    default: nil
    }
  }
}
