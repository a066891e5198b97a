/// The four Unicode normalization forms (Unicode Standard Annex 15) as Hugging Face's tokenizers
/// compute them: with the data of Unicode 9. Scalars of later versions do not change.
///
/// Foundation's forms are not used on whole texts: on Linux they compose some scalars above U+FFFF
/// wrongly and leave some marks out of order.
enum NormalizationForm: Sendable {
  case nfc
  case nfd
  case nfkc
  case nfkd

  private struct Mark {
    var scalar: UInt32
    var order: UInt8
  }

  /// ASCII is the same in every form, and everything below U+0300 is the same in NFC. Only runs of
  /// other text, with the ASCII character before each, are processed.
  func apply(to text: [UInt8]) -> [UInt8] {
    let safe: UInt8 = self == .nfc ? 0xCC : 0x80
    guard text.contains(where: { $0 >= safe }) else { return text }
    let span = text.span
    var result: [UInt8] = []
    result.reserveCapacity(text.count)
    var run: [Mark] = []
    var at = 0
    while at < text.count {
      let isApart = at + 1 == text.count || text[at + 1] < 0x80
      if text[at] < 0x80, isApart {
        write(&run, into: &result)
        result.append(text[at])
        at += 1
        continue
      }
      let scalar = span.scalar(at: at)
      add(scalar.value, to: &run)
      at += scalar.length
    }
    write(&run, into: &result)
    return result
  }

  private func add(_ scalar: UInt32, to run: inout [Mark]) {
    let data = NormalizationData.shared
    let parts = self == .nfc || self == .nfd ? data.canonical[scalar] : data.compatible[scalar]
    if let parts {
      for part in parts { run.append(Mark(scalar: part, order: data.order(of: part))) }
    } else if let jamo = Hangul.decompose(scalar) {
      for part in jamo { run.append(Mark(scalar: part, order: 0)) }
    } else {
      run.append(Mark(scalar: scalar, order: data.order(of: scalar)))
    }
  }

  private func write(_ run: inout [Mark], into result: inout [UInt8]) {
    guard !run.isEmpty else { return }
    Self.sort(&run)
    if self == .nfc || self == .nfkc { Self.compose(&run) }
    for mark in run { result.append(Unicode.Scalar(mark.scalar) ?? "\u{FFFD}") }
    run.removeAll(keepingCapacity: true)
  }

  /// Sorts each run of marks by combining class; the sort is stable.
  private static func sort(_ run: inout [Mark]) {
    var start = 0
    while start < run.count {
      var end = start
      while end < run.count, run[end].order != 0 { end += 1 }
      if end - start > 1 {
        let sorted = run[start..<end].enumerated().sorted {
          ($0.element.order, $0.offset) < ($1.element.order, $1.offset)
        }
        for (offset, mark) in sorted.enumerated() { run[start + offset] = mark.element }
      }
      start = end + 1
    }
  }

  /// Joins each scalar to the last starter before it, unless something between them blocks it.
  private static func compose(_ run: inout [Mark]) {
    let data = NormalizationData.shared
    var count = 0
    var starter: Int?
    for mark in run {
      if let at = starter, at == count - 1 || run[count - 1].order < mark.order,
        let whole = Hangul.compose(run[at].scalar, mark.scalar)
          ?? data.composite(run[at].scalar, mark.scalar)
      {
        run[at].scalar = whole
        continue
      }
      if mark.order == 0 { starter = count }
      run[count] = mark
      count += 1
    }
    run.removeSubrange(count...)
  }
}

/// Hangul syllables, which are composed by arithmetic.
enum Hangul {
  static func decompose(_ syllable: UInt32) -> [UInt32]? {
    guard (0xAC00...0xD7A3).contains(syllable) else { return nil }
    let index = syllable - 0xAC00
    let (lead, vowel, tail) = (index / 588, index % 588 / 28, index % 28)
    return [0x1100 + lead, 0x1161 + vowel] + (tail == 0 ? [] : [0x11A7 + tail])
  }

  static func compose(_ first: UInt32, _ second: UInt32) -> UInt32? {
    if (0x1100...0x1112).contains(first), (0x1161...0x1175).contains(second) {
      return 0xAC00 + (first - 0x1100) * 588 + (second - 0x1161) * 28
    }
    guard (0xAC00...0xD7A3).contains(first), (first - 0xAC00).isMultiple(of: 28),
      (0x11A8...0x11C2).contains(second)
    else { return nil }
    return first + second - 0x11A7
  }
}
