import NibbleFormats

/// ZERO and GIDX: what the small integer tensors of GPTQ hold.
enum ZeroPointCheck {
  /// Parameters: `reads`, `v1`, `v2`, or `label` for an engine that trusts the config; `label`, whether
  /// a label that does not fit the words is a fault.
  static func stored(_ facts: CheckpointFacts, _ rule: RuleParameters) -> [Fault] {
    guard facts.method == "gptq" else { return [] }
    let config = facts.quantization.json
    let format = config["checkpoint_format"]?.string ?? config["format"]?.string
    let isLabelled2 =
      format == "gptq_v2" || format == nil && config["quant_method"]?.string == "gptq_v2"
    let reads = rule.string("reads") ?? "label"
    let readsVersion2 = reads == "v2" || reads == "label" && isLabelled2
    var faults: [Fault] = []
    for linear in facts.sampledLinears {
      guard let scheme = linear.scheme, scheme.layout == .gptq, scheme.isSymmetric,
        let words = facts.words(linear.module?["qzeros"]), let word = words.first,
        let (v1, v2) = Self.symmetric(bits: scheme.bits)
      else { continue }
      let isVersion2 = words.allSatisfy { $0 == v2 }
      guard isVersion2 || words.allSatisfy({ $0 == v1 }) else {
        faults.append(
          Fault(linear.path, "qzeros are not those of symmetric weights, such as \(hex(word))"))
        continue
      }
      guard isVersion2 != readsVersion2 else { continue }
      let label = isLabelled2 ? "gptq_v2" : "gptq"
      faults.append(
        Fault(
          linear.path,
          "qzeros are \(hex(word)), as \(isVersion2 ? "v2" : "v1") stores them, the label is \(label)"
        ))
    }
    if faults.isEmpty, !readsVersion2, isLabelled2, facts.quantization.uniform?.isSymmetric == false
    {
      faults.append(Fault(facts.quantization.place, "the zero points are those of gptq_v2"))
    }
    return faults
  }

  /// Words of qzeros of symmetric weights: v1 stores the zero minus one.
  private static func symmetric(bits: Int) -> (UInt32, UInt32)? {
    switch bits {
    case 2: (0x5555_5555, 0xAAAA_AAAA)
    case 4: (0x7777_7777, 0x8888_8888)
    case 8: (0x7F7F_7F7F, 0x8080_8080)
    default: nil
    }
  }

  private static func hex(_ word: UInt32) -> String {
    let digits = String(word, radix: 16)
    return "0x" + String(repeating: "0", count: 8 - digits.count) + digits
  }

  /// Parameters: `accepts_order`, whether the engine reads an order that the config declares.
  static func order(_ facts: CheckpointFacts, _ rule: RuleParameters) -> [Fault] {
    var faults: [Fault] = []
    for linear in facts.sampledLinears {
      guard let scheme = linear.scheme, let module = linear.module,
        let indices = facts.words(module["g_idx"] ?? module["weight_g_idx"]),
        let inputs = linear.inputs
      else { continue }
      let size = scheme.group > 0 ? scheme.group : max(1, inputs)
      let isPlain = indices.enumerated().allSatisfy { $1 == UInt32(truncatingIfNeeded: $0 / size) }
      if !isPlain, !(scheme.ordersInputs && rule.bool("accepts_order")) {
        faults.append(
          Fault(
            linear.path,
            scheme.ordersInputs
              ? "g_idx gives the groups an order of their own"
              : "g_idx gives the groups an order, and the config does not declare it"))
      }
    }
    return faults
  }
}
