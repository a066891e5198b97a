import NibbleFormats
import NibbleModel
import NibbleText
import Testing

@Suite struct ConversationTests {
  private func talked() -> Conversation {
    var conversation = Conversation(system: "Be brief.")
    conversation.ask("one")
    conversation.answer("1")
    conversation.ask("two")
    return conversation
  }

  @Test func theTemplateGetsTheSystemTextAndEveryTurn() {
    let conversation = talked()
    #expect(conversation.isOpen)
    #expect(conversation.messages.map(\.role) == ["system", "user", "assistant", "user"])
    #expect(
      conversation.json
        == [
          ["role": "system", "content": "Be brief."], ["role": "user", "content": "one"],
          ["role": "assistant", "content": "1"], ["role": "user", "content": "two"],
        ])
    #expect(Conversation().messages.isEmpty)
  }

  @Test func answersAndQuestionsAreTakenBack() {
    var conversation = talked()
    // An open question has no answer to take back.
    let reopenedOpen = conversation.reopen()
    conversation.answer("2")
    let reopened = conversation.reopen()
    #expect(!reopenedOpen && reopened && conversation.isOpen)
    let undone = [conversation.undo(), conversation.undo(), conversation.undo()]
    #expect(undone == [true, true, false])
    #expect(conversation.messages.map(\.role) == ["system"])
    conversation = talked()
    conversation.clear()
    #expect(conversation.turns.isEmpty && conversation.system == "Be brief.")
  }
}
