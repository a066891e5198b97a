/// Cuts a template into text and tags, and tags into tokens.
///
/// Whitespace is treated as by Jinja 3.1 with `trim_blocks` and `lstrip_blocks` on and
/// `keep_trailing_newline` off: a tag alone on its line leaves no line behind, `-` strips all
/// whitespace on its side, `+` keeps it.
struct TemplateLexer {
  private let source: [Unicode.Scalar]
  private var at = 0
  private var line = 1
  private var tokens: [TemplateToken] = []

  static func tokens(of template: String) throws(ChatTemplateError) -> [TemplateToken] {
    var lexer = TemplateLexer(template)
    try lexer.root()
    return lexer.tokens
  }

  private init(_ template: String) {
    var scalars: [Unicode.Scalar] = []
    scalars.reserveCapacity(template.utf8.count)
    var afterReturn = false
    for scalar in template.unicodeScalars {
      if scalar == "\r" {
        scalars.append("\n")
      } else if !(scalar == "\n" && afterReturn) {
        scalars.append(scalar)
      }
      afterReturn = scalar == "\r"
    }
    if scalars.last == "\n" { scalars.removeLast() }
    source = scalars
  }

  private func scalar(_ offset: Int = 0) -> Unicode.Scalar? {
    at + offset < source.count ? source[at + offset] : nil
  }

  private func matches(_ text: String, at start: Int) -> Bool {
    var position = start
    for scalar in text.unicodeScalars {
      guard position < source.count, source[position] == scalar else { return false }
      position += 1
    }
    return true
  }

  private mutating func move(to position: Int) {
    for index in at..<position where source[index] == "\n" { line += 1 }
    at = position
  }

  private func skippingSpace(from position: Int) -> Int {
    var position = position
    while position < source.count, source[position].isPythonSpace { position += 1 }
    return position
  }

  private mutating func add(_ kind: TemplateToken.Kind) {
    tokens.append(TemplateToken(line: line, kind: kind))
  }

  private mutating func root() throws(ChatTemplateError) {
    while let open = nextTag(from: at) {
      let kind = source[open + 1]
      let raw = kind == "%" ? rawBegin(at: open) : nil
      addText(upTo: open, strips: kind != "{")
      if let raw {
        move(to: raw)
        try rawBody()
        continue
      }
      let signed = open + 2 < source.count && (source[open + 2] == "-" || source[open + 2] == "+")
      let inside = open + (signed ? 3 : 2)
      move(to: open)
      switch kind {
      case "#": try comment(from: inside)
      case "{":
        add(.variableBegin)
        move(to: inside)
        try tag(isBlock: false)
      default:
        add(.blockBegin)
        move(to: inside)
        try tag(isBlock: true)
      }
    }
    addText(source[at...])
    at = source.count
    add(.end)
  }

  private func nextTag(from start: Int) -> Int? {
    var position = start
    while position + 1 < source.count {
      let second = source[position + 1]
      if source[position] == "{", second == "%" || second == "{" || second == "#" {
        return position
      }
      position += 1
    }
    return nil
  }

  /// Adds the text before a tag at `open`, less the whitespace that the tag takes.
  private mutating func addText(upTo open: Int, strips: Bool) {
    let sign = open + 2 < source.count ? source[open + 2] : " "
    var end = open
    if sign == "-" {
      while end > at, source[end - 1].isPythonSpace { end -= 1 }
    } else if sign != "+", strips {
      var start = open
      while start > at, source[start - 1] != "\n", source[start - 1].isPythonSpace { start -= 1 }
      let startsLine = start == 0 || source[start - 1] == "\n"
      if startsLine { end = start }
    }
    addText(source[at..<end])
  }

  private mutating func addText(_ scalars: ArraySlice<Unicode.Scalar>) {
    guard !scalars.isEmpty else { return }
    var text = String.UnicodeScalarView()
    text.append(contentsOf: scalars)
    add(.text(String(text)))
  }

  private mutating func comment(from start: Int) throws(ChatTemplateError) {
    var position = start
    while !matches("#}", at: position) {
      guard position < source.count else {
        throw .syntax(line: line, "the comment is not closed by '#}'")
      }
      position += 1
    }
    let sign = position > start ? source[position - 1] : " "
    position += 2
    if sign == "-" {
      position = skippingSpace(from: position)
    } else if sign != "+", matches("\n", at: position) {
      position += 1
    }
    move(to: position)
  }

  /// Where a `{% raw %}` tag that starts at `open` ends; nil when another tag starts there.
  private func rawBegin(at open: Int) -> Int? {
    guard let end = word("raw", at: open) else { return nil }
    if matches("-%}", at: end) { return skippingSpace(from: end + 3) }
    return matches("%}", at: end) ? end + 2 : nil
  }

  /// The position after `{%`, an optional sign, the word, and the spaces around it.
  private func word(_ word: String, at open: Int) -> Int? {
    var position = open + 2
    if position < source.count, source[position] == "-" || source[position] == "+" { position += 1 }
    position = skippingSpace(from: position)
    guard matches(word, at: position) else { return nil }
    return skippingSpace(from: position + word.unicodeScalars.count)
  }

  private mutating func rawBody() throws(ChatTemplateError) {
    var open = at
    while open < source.count {
      if matches("{%", at: open), let end = word("endraw", at: open) {
        var after: Int?
        if matches("-%}", at: end) {
          after = skippingSpace(from: end + 3)
        } else if matches("+%}", at: end) {
          after = end + 3
        } else if matches("%}", at: end) {
          after = end + (matches("\n", at: end + 2) ? 3 : 2)
        }
        if let after {
          addText(upTo: open, strips: true)
          move(to: after)
          return
        }
      }
      open += 1
    }
    throw .syntax(line: line, "'raw' is not closed by 'endraw'")
  }

  private mutating func tag(isBlock: Bool) throws(ChatTemplateError) {
    var brackets: [String] = []
    while let next = scalar() {
      if brackets.isEmpty, let end = tagEnd(isBlock: isBlock) {
        add(isBlock ? .blockEnd : .variableEnd)
        move(to: end)
        return
      }
      if next.isPythonSpace {
        move(to: skippingSpace(from: at))
      } else if ("0"..."9").contains(next) {
        try number()
      } else if next.isNameStart {
        name()
      } else if next == "'" || next == "\"" {
        try string(quote: next)
      } else {
        try symbol(next, brackets: &brackets)
      }
    }
    add(.end)
  }

  private func tagEnd(isBlock: Bool) -> Int? {
    let close = isBlock ? "%}" : "}}"
    if matches("-" + close, at: at) { return skippingSpace(from: at + 3) }
    if isBlock, matches("+%}", at: at) { return at + 3 }
    guard matches(close, at: at) else { return nil }
    return at + (isBlock && matches("\n", at: at + 2) ? 3 : 2)
  }

  private mutating func symbol(
    _ next: Unicode.Scalar, brackets: inout [String]
  ) throws(ChatTemplateError) {
    for pair in ["//", "**", "==", "!=", ">=", "<="] where matches(pair, at: at) {
      add(.symbol(pair))
      at += 2
      return
    }
    guard "+-/*%~[](){}<>=.:|,;".unicodeScalars.contains(next) else {
      throw .syntax(line: line, "unexpected character '\(next)'")
    }
    switch next {
    case "(": brackets.append(")")
    case "[": brackets.append("]")
    case "{": brackets.append("}")
    case ")", "]", "}":
      guard brackets.popLast() == String(next) else {
        throw .syntax(line: line, "unexpected '\(next)'")
      }
    default: break
    }
    add(.symbol(String(next)))
    at += 1
  }

  private mutating func name() {
    var text = String.UnicodeScalarView()
    while let next = scalar(), next.isNameStart || next.properties.numericType != nil {
      text.append(next)
      at += 1
    }
    add(.name(String(text)))
  }
}

// MARK: literals

extension TemplateLexer {
  private mutating func digits(_ isDigit: (Unicode.Scalar) -> Bool) -> String {
    var text = ""
    while let next = scalar() {
      if isDigit(next) {
        text.unicodeScalars.append(next)
      } else if next != "_" || !(scalar(1).map(isDigit) ?? false) {
        break
      }
      at += 1
    }
    return text
  }

  private mutating func number() throws(ChatTemplateError) {
    let isDecimal: (Unicode.Scalar) -> Bool = { ("0"..."9").contains($0) }
    let bases: [(String, Int)] = [("xX", 16), ("oO", 8), ("bB", 2)]
    if scalar() == "0", let mark = scalar(1),
      let base = bases.first(where: { $0.0.unicodeScalars.contains(mark) })?.1
    {
      let isDigit: (Unicode.Scalar) -> Bool = {
        $0.isASCII && (Character($0).hexDigitValue ?? 99) < base
      }
      if let first = scalar(2), isDigit(first) || first == "_" {
        at += 2
        return try integer(digits(isDigit), radix: base)
      }
    }
    let afterDot = at > 0 && source[at - 1] == "."
    var text = digits(isDecimal)
    if !afterDot {
      let whole = at
      var isFloat = false
      if scalar() == ".", scalar(1).map(isDecimal) == true {
        at += 1
        text += "." + digits(isDecimal)
        isFloat = true
      }
      if scalar() == "e" || scalar() == "E" {
        let signed = scalar(1) == "+" || scalar(1) == "-"
        if scalar(signed ? 2 : 1).map(isDecimal) == true {
          text += scalar(1) == "-" ? "e-" : "e"
          at += signed ? 2 : 1
          text += digits(isDecimal)
          isFloat = true
        }
      }
      if isFloat, let value = Double(text) { return add(.float(value)) }
      at = whole
    }
    guard !text.utf8.starts(with: "0".utf8) || text.utf8.allSatisfy({ $0 == 0x30 }) else {
      throw .syntax(line: line, "'\(text)' is not a number")
    }
    try integer(text, radix: 10)
  }

  private mutating func integer(_ text: String, radix: Int) throws(ChatTemplateError) {
    guard let value = Int(text, radix: radix) else {
      throw .unsupported(line: line, "an integer of more than 64 bits")
    }
    add(.integer(value))
  }

  private mutating func string(quote: Unicode.Scalar) throws(ChatTemplateError) {
    let start = line
    var text = String.UnicodeScalarView()
    var position = at + 1
    while position < source.count, source[position] != quote {
      if source[position] != "\\" {
        text.append(source[position])
        position += 1
      } else {
        position += 1
        try escape(at: &position, into: &text)
      }
    }
    guard position < source.count else {
      throw .syntax(line: start, "the string is not closed by \(quote)")
    }
    add(.string(String(text)))
    move(to: position + 1)
  }

  /// Decodes what follows a backslash as Python's `unicode-escape` does.
  private func escape(
    at position: inout Int, into text: inout String.UnicodeScalarView
  ) throws(ChatTemplateError) {
    guard position < source.count else { return }
    let mark = source[position]
    position += 1
    switch mark {
    case "n": text.append("\n")
    case "t": text.append("\t")
    case "r": text.append("\r")
    case "\\", "'", "\"": text.append(mark)
    case "a": text.append("\u{7}")
    case "b": text.append("\u{8}")
    case "f": text.append("\u{C}")
    case "v": text.append("\u{B}")
    case "\n": break
    case "x": text.append(try code(at: &position, digits: 2))
    case "u": text.append(try code(at: &position, digits: 4))
    case "U": text.append(try code(at: &position, digits: 8))
    case "N": throw .unsupported(line: line, "the escape \\N")
    case "0"..."7":
      var value = mark.value - 0x30
      var count = 1
      while count < 3, position < source.count, ("0"..."7").contains(source[position]) {
        value = value * 8 + source[position].value - 0x30
        position += 1
        count += 1
      }
      if let scalar = Unicode.Scalar(value) { text.append(scalar) }
    default:
      text.append("\\")
      text.append(mark)
    }
  }

  private func code(
    at position: inout Int, digits: Int
  ) throws(ChatTemplateError) -> Unicode.Scalar {
    var value: UInt32 = 0
    for _ in 0..<digits {
      guard position < source.count, source[position].isASCII,
        let digit = Character(source[position]).hexDigitValue, value < 0x1000_0000
      else { throw .syntax(line: line, "an escape needs \(digits) hexadecimal digits") }
      value = value << 4 | UInt32(digit)
      position += 1
    }
    guard let scalar = Unicode.Scalar(value) else {
      throw .syntax(line: line, "an escape is not a character")
    }
    return scalar
  }
}
