// Python's view of text: code points, not characters. Swift's own comparison and search use
// canonical equivalence, under which two different strings can be equal.

extension Unicode.Scalar {
  /// `str.isspace`.
  var isPythonSpace: Bool {
    switch value {
    case 0x09...0x0D, 0x1C...0x20, 0x85, 0xA0, 0x1680, 0x2000...0x200A, 0x2028, 0x2029, 0x202F,
      0x205F, 0x3000:
      true
    default: false
    }
  }

  /// A boundary of `str.splitlines`.
  fileprivate var isPythonNewline: Bool {
    switch value {
    case 0x0A...0x0D, 0x1C...0x1E, 0x85, 0x2028, 0x2029: true
    default: false
    }
  }

  var isNameStart: Bool { self == "_" || properties.isAlphabetic }

  /// `str.isprintable`.
  var isPythonPrintable: Bool {
    switch properties.generalCategory {
    case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator,
      .paragraphSeparator:
      false
    case .spaceSeparator: self == " "
    default: true
    }
  }
}

extension String {
  init(scalars: some Sequence<Unicode.Scalar>) {
    var view = UnicodeScalarView()
    view.append(contentsOf: scalars)
    self = String(view)
  }

  func isSame(as other: String) -> Bool { utf8.elementsEqual(other.utf8) }

  func precedes(_ other: String) -> Bool { utf8.lexicographicallyPrecedes(other.utf8) }

  /// `str.strip`, `lstrip`, `rstrip`: nil strips white space.
  package func stripped(of set: String? = nil, left: Bool = true, right: Bool = true) -> String {
    let members = set.map { Set($0.unicodeScalars) }
    func goes(_ scalar: Unicode.Scalar) -> Bool {
      members?.contains(scalar) ?? scalar.isPythonSpace
    }
    var rest = unicodeScalars[...]
    if left { while let first = rest.first, goes(first) { rest.removeFirst() } }
    if right { while let last = rest.last, goes(last) { rest.removeLast() } }
    return String(rest)
  }

  /// `str.split()`: words between runs of white space; at most `limit` cuts, none below zero.
  func splitOnSpace(limit: Int, fromRight: Bool) -> [String] {
    let scalars = Array(unicodeScalars)
    let ordered = fromRight ? Array(scalars.reversed()) : scalars
    var words: [[Unicode.Scalar]] = []
    var at = 0
    while true {
      while at < ordered.count, ordered[at].isPythonSpace { at += 1 }
      guard at < ordered.count else { break }
      if limit >= 0, words.count == limit {
        words.append(Array(ordered[at...]))
        break
      }
      let start = at
      while at < ordered.count, !ordered[at].isPythonSpace { at += 1 }
      words.append(Array(ordered[start..<at]))
    }
    return fromRight
      ? words.reversed().map { String(scalars: $0.reversed()) }
      : words.map { String(scalars: $0) }
  }

  /// `str.splitlines`.
  func pythonLines(keepEnds: Bool = false) -> [String] {
    var lines: [String] = []
    var line = UnicodeScalarView()
    var afterReturn = false
    for scalar in unicodeScalars {
      if afterReturn {
        afterReturn = false
        if scalar == "\n" {
          if keepEnds { lines[lines.count - 1].unicodeScalars.append(scalar) }
          continue
        }
      }
      if scalar.isPythonNewline {
        if keepEnds { line.append(scalar) }
        lines.append(String(line))
        line = UnicodeScalarView()
        afterReturn = scalar == "\r"
      } else {
        line.append(scalar)
      }
    }
    if !line.isEmpty { lines.append(String(line)) }
    return lines
  }

  /// `str.capitalize`.
  package var pythonCapitalized: String {
    guard let first = unicodeScalars.first else { return self }
    return first.properties.titlecaseMapping + String(unicodeScalars.dropFirst()).lowercased()
  }

  /// `str.title`: every run of letters starts with a capital, the rest is lower case.
  var pythonTitle: String {
    var text = ""
    var insideWord = false
    for scalar in unicodeScalars {
      let properties = scalar.properties
      text += insideWord ? properties.lowercaseMapping : properties.titlecaseMapping
      insideWord = properties.isCased
    }
    return text
  }
}

/// Finds one text in others in linear time, by bytes (Knuth, Morris and Pratt).
struct TextSearch {
  let needle: [UInt8]
  private let fallback: [Int]

  init(_ text: String) { self.init(bytes: Array(text.utf8)) }

  init(bytes: [UInt8]) {
    needle = bytes
    var fallback = [Int](repeating: 0, count: needle.count)
    var length = 0
    for index in needle.indices.dropFirst() {
      while length > 0, needle[index] != needle[length] { length = fallback[length - 1] }
      if needle[index] == needle[length] { length += 1 }
      fallback[index] = length
    }
    self.fallback = fallback
  }

  /// Start of the first occurrence at or after `start`. An empty needle is found at once.
  func first(in text: [UInt8], from start: Int = 0) -> Int? {
    guard !needle.isEmpty else { return start <= text.count ? start : nil }
    var length = 0
    var index = start
    while index < text.count {
      while length > 0, text[index] != needle[length] { length = fallback[length - 1] }
      if text[index] == needle[length] { length += 1 }
      index += 1
      if length == needle.count { return index - length }
    }
    return nil
  }

  /// Starts of all occurrences that do not overlap, at most `limit` of them (none below zero).
  func all(in text: [UInt8], limit: Int = -1) -> [Int] {
    var starts: [Int] = []
    var from = 0
    while starts.count != limit, let start = first(in: text, from: from) {
      starts.append(start)
      from = start + needle.count
    }
    return starts
  }
}
