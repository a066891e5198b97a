/// A fault in a pickle, or a request that no state dict needs.
public enum PickleFault: Error, Hashable, Sendable {
  case endsEarly
  case bytesAfterStop(Int)
  case noProtocol
  case protocolVersion(UInt8)
  /// An opcode that no state dict needs.
  case opcode(UInt8)
  /// A class or function that no state dict needs: `module name`.
  case global(String)
  case frame(UInt64)
  case stackEmpty
  case stackTooDeep
  case stackNotOne(Int)
  case noMark
  case tooManyValues
  case memoOutOfOrder(UInt64, expected: Int)
  case memoEmpty(UInt64)
  case integerTooLong(bytes: Int)
  case oddItems
  /// A step received a value of the wrong kind: the kind found, and the one needed.
  case wrongKind(String, needed: String)
  case arguments(of: String, String)
  case storageReference(String)
  case state(String)
}

extension PickleFault: CustomStringConvertible {
  public var description: String {
    switch self {
    case .endsEarly: "the pickle ends here"
    case .bytesAfterStop(let count): "\(count) bytes follow the end of the pickle"
    case .noProtocol: "the pickle does not begin with its protocol"
    case .protocolVersion(let version): "protocol \(version) of pickle is not 2 to 5"
    case .opcode(let code):
      "the opcode \(PickleOpcode.name(code)) is none of those that a state dict of plain tensors needs; "
        + "nothing was run"
    case .global(let name):
      "the pickle asks for \(shown(name)), which is none of those that a state dict of plain tensors "
        + "needs; nothing was run"
    case .frame(let length): "a frame of \(length) bytes does not fit in the rest of the pickle"
    case .stackEmpty: "a step takes more values than there are"
    case .stackTooDeep: "the stack is over the limit of \(PickleMachine.stackLimit) values"
    case .stackNotOne(let count): "the pickle ends with \(count) values, not one"
    case .noMark: "a step looks for a mark, and there is none"
    case .tooManyValues: "the pickle makes over \(PickleMachine.valueLimit) values"
    case .memoOutOfOrder(let index, let expected):
      "the memo's entry \(index) comes when \(expected) is due"
    case .memoEmpty(let index): "the memo has no entry \(index)"
    case .integerTooLong(let bytes): "an integer of \(bytes) bytes is over the limit of 8"
    case .oddItems: "keys and values do not come in pairs"
    case .wrongKind(let kind, let needed): "\(kind) stands where \(needed) is needed"
    case .arguments(let callee, let reason): "\(callee) is called with \(reason)"
    case .storageReference(let reason): "a reference to a storage \(reason)"
    case .state(let reason): "the state of an OrderedDict \(reason)"
    }
  }

  /// Advice for the user.
  var advice: String {
    switch self {
    case .opcode, .global:
      "If it comes from someone else, do not load it with Python either: a pickle can run any code "
        + "there. If it is yours, save model.state_dict() alone, with float32, float16 or bfloat16 "
        + "weights."
    default: "The file is damaged, or torch.save did not write it; fetch it again."
    }
  }
}
