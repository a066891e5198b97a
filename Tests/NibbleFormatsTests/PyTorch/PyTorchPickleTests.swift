import NibbleFormats
import NibbleTensor
import Testing
import TinyModel

private struct HostilePickle: Sendable, CustomTestStringConvertible {
  var testDescription: String
  var pickle: [UInt8]
  var fault: PickleFault

  init(_ what: String, _ fault: PickleFault, _ steps: [UInt8]) {
    (testDescription, self.fault) = (what, fault)
    pickle = [0x80, 2] + steps
  }

  init(_ what: String, _ fault: PickleFault, _ steps: String) {
    self.init(what, fault, Array(steps.utf8))
  }
}

private typealias T = TorchFile
private let pickles: [HostilePickle] = [
  HostilePickle("os.system", .global("os system"), "cos\nsystem\n(X\u{2}\0\0\0idtR."),
  HostilePickle(
    "posix.system by STACK_GLOBAL", .global("posix system"),
    T.text("posix") + T.text("system") + [0x93]),
  HostilePickle("builtins.eval", .global("builtins eval"), "cbuiltins\neval\n."),
  HostilePickle(
    "a name that only looks right", .global("torch._utils _rebuild_tensor_v2 "),
    "ctorch._utils\n_rebuild_tensor_v2 \n"),
  HostilePickle(
    "a module that only looks right", .global("torch.collections OrderedDict"),
    "ctorch.collections\nOrderedDict\n"),
  HostilePickle("a module of torch", .global("torch load"), "ctorch\nload\n"),
  HostilePickle("an instance", .opcode(0x69), "(ios\nsystem\n"),
  HostilePickle("an object", .opcode(0x6F), "(No"),
  HostilePickle("NEWOBJ", .opcode(0x81), [0x81]),
  HostilePickle("an extension", .opcode(0x82), [0x82, 1]),
  HostilePickle("DUP", .opcode(0x32), "N2"),
  HostilePickle("bytes", .opcode(0x42), "B\0\0\0\0"),
  HostilePickle("a byte that is no opcode", .opcode(0xFF), [0xFF]),
  HostilePickle("a second protocol", .opcode(0x80), [0x80, 2]),
  HostilePickle("nothing", .endsEarly, ""),
  HostilePickle("an end without a value", .stackNotOne(0), "."),
  HostilePickle("two values at the end", .stackNotOne(2), "NN."),
  HostilePickle("a mark at the end", .stackNotOne(1), "N(."),
  HostilePickle("bytes after the end", .bytesAfterStop(1), "N.."),
  HostilePickle("a string of 4 GiB", .endsEarly, [0x58] + [UInt8](repeating: 0xFF, count: 4)),
  HostilePickle(
    "an integer of 255 bytes", .integerTooLong(bytes: 255),
    [0x8A, 255] + repeated(255, [1])),
  HostilePickle("a frame of 2^64 - 1", .frame(.max), [0x95] + repeated(8, [0xFF])),
  HostilePickle("a global without an end", .endsEarly, "cos"),
  HostilePickle(
    "a global of 300 letters", .global(String(repeating: "a", count: 256)),
    [0x63] + repeated(300, [0x61])),
  HostilePickle("TUPLE without a mark", .noMark, "Nt"),
  HostilePickle("SETITEMS without a mark", .noMark, "}NNu"),
  HostilePickle("TUPLE2 of one", .stackEmpty, "N\u{86}".unicodeScalars.map { UInt8($0.value) }),
  HostilePickle("TUPLE1 past a mark", .stackEmpty, [0x4E, 0x28, 0x85]),
  HostilePickle("BINPUT of nothing", .stackEmpty, "q\0"),
  HostilePickle("BINPUT past a mark", .stackEmpty, "N(q\0"),
  HostilePickle("BINGET of nothing", .memoEmpty(7), "h\u{7}"),
  HostilePickle(
    "LONG_BINGET of nothing", .memoEmpty(.init(UInt32.max)),
    [0x6A, 0xFF, 0xFF, 0xFF, 0xFF]),
  HostilePickle(
    "a memo of 2^32 entries", .memoOutOfOrder(.init(UInt32.max), expected: 0),
    [0x4E, 0x72, 0xFF, 0xFF, 0xFF, 0xFF]),
  HostilePickle("a key without a value", .oddItems, "}(Nu"),
  HostilePickle("items of a list", .wrongKind("a list", needed: "a dict"), "]NNs"),
  HostilePickle("an element of a dict", .wrongKind("a dict", needed: "a list"), "}Na"),
  HostilePickle("elements of a dict", .wrongKind("a dict", needed: "a list"), "}(NNe"),
  HostilePickle(
    "a call of a string", .wrongKind("a string", needed: "something to call"),
    T.text("os.system") + Array(")R".utf8)),
  HostilePickle(
    "a call of a storage class",
    .wrongKind("the storage class of F32", needed: "something to call"),
    T.global("torch", "FloatStorage") + Array(")R".utf8)),
  HostilePickle(
    "a call with a list", .wrongKind("a list", needed: "a tuple of arguments"),
    T.global("collections", "OrderedDict") + Array("]R".utf8)),
  HostilePickle(
    "an OrderedDict of items",
    .arguments(of: "OrderedDict", "1 arguments, not none"),
    T.global("collections", "OrderedDict") + [0x5D, 0x85, 0x52]),
  HostilePickle(
    "a tensor of nothing",
    .arguments(of: "_rebuild_tensor_v2", "0 arguments, not 6"),
    T.global("torch._utils", "_rebuild_tensor_v2") + Array(")R".utf8)),
  HostilePickle(
    "a tensor of Nones",
    .arguments(of: "_rebuild_tensor_v2", "None, None, None, None, None, None"),
    T.global("torch._utils", "_rebuild_tensor_v2") + Array("(NNNNNNtR".utf8)),
  HostilePickle(
    "a parameter of nothing", .arguments(of: "_rebuild_parameter", "nothing"),
    T.global("torch._utils", "_rebuild_parameter") + Array(")R".utf8)),
  HostilePickle("a reference that is no tuple", .storageReference("is no tuple"), "NQ"),
  HostilePickle("an empty reference", .storageReference("has 0 parts, not 5"), ")Q"),
  HostilePickle(
    "a reference to something else",
    .storageReference("does not begin with \"storage\""), "(NNNNNtQ"),
  HostilePickle(
    "a storage of -1", .storageReference("has no number of elements"),
    Array("(".utf8) + hostileStorage + T.integer(-1) + Array("tQ".utf8)),
  HostilePickle(
    "a key of 65 letters", .storageReference("has a key of 65 bytes"),
    Array("(".utf8) + T.text("storage") + T.global("torch", "FloatStorage")
      + T.text(String(repeating: "k", count: 65)) + T.text("cpu") + T.integer(1)
      + Array("tQ".utf8)),
  HostilePickle("a state that is no dict", .state("is None"), "}Nb"),
  HostilePickle("a state of a list", .wrongKind("a list", needed: "an OrderedDict"), "]}b"),
  HostilePickle(
    "a state that sets something", .state("is not its _metadata alone"),
    Array("}}".utf8) + T.text("__class__") + Array("}sb".utf8)),
  HostilePickle("an empty state", .state("is not its _metadata alone"), "}}b"),
  // Bombs: each ends where a limit is, whatever it would grow to.
  HostilePickle("a deep stack", .stackTooDeep, repeated(1 << 20, [0x4E])),
  HostilePickle("a huge tuple", .stackTooDeep, [0x28] + repeated(1 << 20, [0x4E]) + [0x74]),
  HostilePickle("many marks", .stackTooDeep, repeated(1 << 20, [0x28])),
  HostilePickle("many containers", .tooManyValues, [0x5D] + repeated(3 << 20, Array("]a".utf8))),
  HostilePickle("a long list", .tooManyValues, [0x5D] + repeated(5 << 20, [0x4E, 0x61])),
  HostilePickle("a large memo", .tooManyValues, [0x4E] + repeated(5 << 20, [0x94])),
  HostilePickle(
    "many calls", .stackTooDeep,
    T.global("collections", "OrderedDict") + Array("q\0".utf8)
      + repeated(1 << 20, Array("h\0)R".utf8))),
]

@Suite struct PyTorchPickleTests {
  @Test(arguments: pickles)
  private func refuses(_ hostile: HostilePickle) {
    let found = torchFailure(soundTorch.archive(hostile.pickle).bytes)
    guard found?.name == "tiny/data.pkl", case .pickle(let byte, let fault) = found?.fault else {
      Issue.record("\(String(describing: found))")
      return
    }
    #expect(fault == hostile.fault)
    #expect((0...hostile.pickle.count).contains(byte))
  }

  @Test(arguments: [[], [0x4E, 0x2E], [0x80], [0x80, 1, 0x4E, 0x2E], [0x80, 6, 0x4E, 0x2E]])
  func refusesAPickleOfAnotherProtocol(_ pickle: [UInt8]) {
    let version: [PickleFault] = [
      .endsEarly, .noProtocol, .protocolVersion(1), .protocolVersion(6),
    ]
    guard case .pickle(0, let fault) = torchFailure(soundTorch.archive(pickle).bytes)?.fault else {
      Issue.record("\(pickle)")
      return
    }
    #expect(version.contains(fault))
  }

  @Test func aPickleOverTheLimitIsNotRead() {
    let pickle = [0x80, 2] + [UInt8](repeating: 0x4E, count: 33 << 20)
    #expect(torchFailure(soundTorch.archive(pickle).bytes)?.fault == .pickleTooLong(pickle.count))
  }

  /// The billion laughs: each tuple holds the one before it twice. They take 40 entries, not 2^40.
  @Test func containersThatDoubleAreNotFollowed() {
    var pickle: [UInt8] = [0x80, 2, 0x29, 0x94]
    for index in 0..<40 as Range<UInt8> { pickle += [0x68, index, 0x68, index, 0x86, 0x94] }
    let bomb = soundTorch.archive(pickle + Array("t.".utf8))
    #expect(torchFailure(bomb.bytes)?.fault == .pickle(byte: 244, .noMark))
    // The same as the sizes of a tensor.
    let sizes = soundTorch.archive(
      [0x80, 2, 0x7D] + T.text("w") + [0x28] + pickle.dropFirst(2) + Array("ts.".utf8))
    #expect(torchFailure(sizes.bytes)?.fault == .notTensor("a tuple"))
  }

  /// A dict that holds itself, as key and as value.
  @Test func containersThatHoldThemselvesAreNotFollowed() {
    let pickle = [0x80, 2] + Array("}q\0h\0h\0s.".utf8)
    #expect(torchFailure(soundTorch.archive(pickle).bytes)?.fault == .nameNotText("a dict"))
    let list = [0x80, 2] + Array("]q\0h\0a.".utf8)
    #expect(torchFailure(soundTorch.archive(list).bytes)?.fault == .notStateDict("a list"))
  }
}
