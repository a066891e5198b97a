/// A module path in which `*` matches any number of characters, including none.
struct Pattern: Hashable, Sendable {
  let text: String

  init(_ text: String) { self.text = text }

  func matches(_ path: String) -> Bool {
    let (pattern, path) = (Array(text.utf8), Array(path.utf8))
    let star = UInt8(ascii: "*")
    var (p, c) = (0, 0)
    // Position of the last star, and of the path after what it has matched so far.
    var retry: (pattern: Int, path: Int)?
    while c < path.count {
      if p < pattern.count, pattern[p] == star {
        retry = (p, c)
        p += 1
      } else if p < pattern.count, pattern[p] == path[c] {
        p += 1
        c += 1
      } else if let last = retry {
        p = last.pattern + 1
        c = last.path + 1
        retry = (last.pattern, c)
      } else {
        return false
      }
    }
    return pattern[p...].allSatisfy { $0 == star }
  }
}
