import Testing

@testable import NibbleModel

@Suite struct GenerationStopFilterTests {
  @Test func aLineFeedStopsAlsoAfterACarriageReturn() {
    // "\r\n" is one Character in Swift, and two in every text that a stop string is given for.
    for pieces in [["one\r\ntwo"], ["one\r", "\ntwo"], ["one", "\r\n", "two"]] {
      #expect(shown(pieces, ["\n"]) == ("one\r", true), "\(pieces)")
    }
  }

  @Test func aMarkThatCombinesDoesNotHideAStopString() {
    for pieces in [["x:\u{301}y"], ["x:", "\u{301}y"]] {
      #expect(shown(pieces, [":"]) == ("x", true), "\(pieces)")
    }
  }

  private func shown(_ pieces: [String], _ stops: [String]) -> (text: String, isStopped: Bool) {
    var filter = StopFilter(stops: stops)
    var text = ""
    for piece in pieces { text += filter.append(piece) }
    return (text + filter.flush(), filter.isStopped)
  }

  @Test func noStopStringIsShownHoweverTheTextIsCut() {
    var random = Seeded(state: 41)
    for _ in 0..<3000 {
      let letters = Array("abc")
      func word(_ lengths: ClosedRange<Int>) -> String {
        String(
          (0..<Int.random(in: lengths, using: &random)).map { _ in
            letters.randomElement(using: &random)!
          })
      }
      let text = word(0...12)
      let stops = (0..<Int.random(in: 0...3, using: &random)).map { _ in word(0...4) }
      var pieces: [String] = []
      var rest = Substring(text)
      while !rest.isEmpty {
        let count = Int.random(in: 0...min(4, rest.count), using: &random)
        pieces.append(String(rest.prefix(count)))
        rest = rest.dropFirst(count)
      }
      let (ours, isStopped) = shown(pieces, stops)
      // The text ends at the first place where some stop string is complete.
      var expected = text
      var found = false
      outer: for end in text.indices.map({ text.index(after: $0) }) {
        for stop in stops.sorted(by: { $0.count > $1.count })
        where !stop.isEmpty && text[..<end].hasSuffix(stop) {
          expected = String(text[..<end].dropLast(stop.count))
          found = true
          break outer
        }
      }
      #expect(isStopped == found, "\(pieces) \(stops)")
      // Within one piece an earlier start wins over an earlier end: never more is shown.
      #expect(
        ours == expected
          || found && expected.hasPrefix(ours)
            && !stops.contains {
              !$0.isEmpty && ours.contains($0)
            },
        "\(pieces) \(stops): \(ours) for \(expected)")
    }
  }

  @Test func textThatOnlyBeginsLikeAStopStringIsShownInTheEnd() {
    #expect(shown(["ab", "a", "b"], ["abc"]).text == "abab")
    #expect(shown(["<", "|", "en"], ["<|end|>"]).text == "<|en")
    #expect(shown(["<|en", "d|>", "more"], ["<|end|>"]) == ("", true))
    #expect(shown(["x<|en", "d|> more"], ["<|end|>", "y"]) == ("x", true))
    #expect(shown(["aab"], ["ab"]) == ("a", true))
    #expect(shown(["aa", "ab"], ["aab"]) == ("a", true))
  }

  @Test func textIsShownAsSoonAsItCannotBeAStopString() {
    var filter = StopFilter(stops: ["END"])
    #expect(filter.append("hello E") == "hello ")
    #expect(filter.append("N") == "")
    #expect(filter.append("C") == "ENC")
    #expect(filter.append("é😀") == "é😀")
    var free = StopFilter(stops: ["", ""])
    #expect(free.append("anything") == "anything")
  }

  @Test func nothingFollowsAStopString() {
    var filter = StopFilter(stops: ["."])
    #expect(filter.append("a.b") == "a")
    #expect(filter.append("c") == "")
    #expect(filter.flush() == "")
  }

}
