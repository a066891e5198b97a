import Dispatch
import Foundation
import Synchronization

/// Ctrl-C in a conversation. While an answer is written, the first one stops the answer and not the
/// program. Otherwise a second one in a row ends the program; without a terminal the first one
/// does.
final class AnswerInterrupt {
  private enum Moment: Int {
    case idle
    case warned
    case answering
    case requested
  }

  /// State shared by the conversation and the signal handler.
  private final class State: Sendable {
    private let value = Atomic<Int>(Moment.idle.rawValue)

    var moment: Moment {
      get { Moment(rawValue: value.load(ordering: .relaxed)) ?? .idle }
      set { value.store(newValue.rawValue, ordering: .relaxed) }
    }
  }

  private let state = State()
  private let source = DispatchSource.makeSignalSource(signal: SIGINT, queue: .global())

  init() {
    signal(SIGINT, SIG_IGN)
    let state = state
    source.setEventHandler {
      switch state.moment {
      case .answering: state.moment = .requested
      case .idle where isatty(STDIN_FILENO) == 1:
        state.moment = .warned
        Terminal.note("Ctrl-C stops an answer; /quit or Ctrl-D ends, and so does Ctrl-C once more")
        Terminal.ask()
      case .idle, .warned, .requested: exit(128 + SIGINT)
      }
    }
    source.resume()
  }

  deinit {
    source.cancel()
    signal(SIGINT, SIG_DFL)
  }

  var isRequested: Bool { state.moment == .requested }

  func begin() { state.moment = .answering }

  func end() { state.moment = .idle }
}
