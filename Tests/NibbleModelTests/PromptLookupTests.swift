import Testing

@testable import NibbleModel

@Suite struct PromptLookupTests {
  private func guess(_ history: [Int], tokens: Int = 8, room: Int = 100) -> [Int] {
    PromptLookup(tokens: tokens).guess(after: history, atMost: room)
  }

  @Test func whatFollowedTheSameWordsIsGuessed() {
    #expect(guess([1, 2, 3, 9, 8, 1, 2, 3]) == [9, 8, 1, 2, 3])
    #expect(guess([1, 2, 3, 9, 8, 1, 2, 3], tokens: 2) == [9, 8])
    #expect(guess([1, 2, 3, 9, 8, 1, 2, 3], room: 1) == [9])
  }

  @Test func newWordsAndShortTextsGuessNothing() {
    #expect(guess([1, 2, 3, 4, 5]).isEmpty)
    // One word that stood there before is too little.
    #expect(guess([1, 2, 3, 9, 4, 3]).isEmpty)
    for history in [[], [1], [1, 1], [1, 2]] { #expect(guess(history).isEmpty) }
    #expect(guess([1, 1, 1, 1], room: 0).isEmpty)
    #expect(guess([1, 1, 1, 1], tokens: 0).isEmpty)
  }

  @Test func theLongerEndingCountsThenTheLaterPlace() {
    // 2, 3 stood before 7 and later before 8; 1, 2, 3 only before 7.
    #expect(guess([1, 2, 3, 7, 5, 2, 3, 8, 1, 2, 3], tokens: 1) == [7])
    #expect(guess([2, 3, 7, 5, 2, 3, 8, 6, 2, 3], tokens: 1) == [8])
  }

  @Test func whatWasReadAheadIsTakenOnlyAsFarAsItIsChosen() {
    var ahead = TokensAhead([5, 6], logits: [0, 0.1, 1, 1.1, 2, 2.1])
    var (taken, rows): ([Bool], [[Float]]) = ([], [ahead.row])
    for token in [5, 7, 6, 6] {
      taken.append(ahead.accept(token))
      rows.append(ahead.row)
    }
    #expect(taken == [true, false, true, false])
    #expect(rows == [[0, 0.1], [1, 1.1], [1, 1.1], [2, 2.1], [2, 2.1]])
  }
}
