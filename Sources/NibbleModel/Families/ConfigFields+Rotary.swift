import Foundation
public import NibbleFormats

/// A rotary object of a config, and the key that holds it: for all blocks, or for one layer type.
private struct RotaryObject {
  var json: JSON
  var name: String
}

extension ConfigFields {
  /// The rotary embedding of all blocks, or of those of one layer type.
  ///
  /// Theta and the fraction of channels that rotate come from the rotary object, else from their
  /// own key, else from the family.
  ///
  /// - Parameters:
  ///   - share: default fraction of a head's channels that rotate; nil if the family has no such
  ///     key.
  ///   - layerType: layer type of the blocks, for configs with one rotary object per type.
  ///   - scales: whether a rotary object without layer types applies to these blocks.
  ///   - scaling: default rotary object, if the config has none.
  public func rotary(
    headSize: Int, context: Int, theta: Double = 10_000, thetaKey: String = "rope_theta",
    share: Double? = nil, shareKey: String = "partial_rotary_factor", layerType: String? = nil,
    scales: Bool = true, scaling: JSON? = nil
  ) throws(ModelError) -> RotaryShape {
    let object =
      try rotaryObject(layerType, scales: scales)
      ?? scaling.map { RotaryObject(json: $0, name: "rope_scaling") }
    let json = object?.json ?? .object(JSONObject())
    func value(_ key: String) -> JSON? {
      guard let object else { return nil }
      pass("\(object.name).\(key)")
      guard let value = object.json[key], !value.isNull else { return nil }
      return value
    }
    if object?.json["rope_theta"]?.isNull == true {
      throw bad("\(object?.name ?? "").rope_theta", "is null; leave it out, or give a number")
    }
    let beside = self[thetaKey]
    let stated = value("rope_theta") ?? beside
    guard let base = (stated ?? .number(theta)).double else {
      throw bad(thetaKey, "is \(shown(stated?.text() ?? "")), not a number")
    }
    guard base > 1, base <= 1e15 else {
      throw bad(thetaKey, "is \(base); a number above 1 and up to 1e15 is needed")
    }
    var dimension = headSize
    if let share {
      let beside = self[shareKey]
      let found = (value(shareKey) ?? beside ?? .number(share)).double
      guard let found, found > 0, found <= 1 else {
        throw bad(shareKey, "is not a number above 0 and up to 1")
      }
      dimension = Int(Double(headSize) * found)
      guard dimension > 0 else { throw bad(shareKey, "leaves no channel that rotates") }
    }
    var shape = RotaryShape(dimension: dimension, theta: base, context: context)
    guard object != nil else { return shape }
    for name in ["rope_type", "type"] {
      guard let value = json[name] else { continue }
      guard value.string != nil else {
        throw bad("rope_scaling.\(name)", "is \(shown(value.text())), not the name of a kind")
      }
    }
    func number(_ name: String) throws(ModelError) -> Double {
      guard let value = value(name)?.double, value > 0, value.isFinite else {
        throw bad("rope_scaling.\(name)", "is missing or not above zero")
      }
      return value
    }
    func optional(_ name: String) throws(ModelError) -> Double? {
      value(name) == nil ? nil : try number(name)
    }
    let kind = value("rope_type")?.string ?? value("type")?.string ?? "default"
    switch kind {
    case "default", "mrope": break
    case "linear": shape.scaling = .linear(factor: try number("factor"))
    case "dynamic": shape.scaling = .dynamic(factor: try optional("factor") ?? 1)
    case "llama3":
      let scaling = RotaryShape.Scaling.llama3(
        factor: try number("factor"), low: try number("low_freq_factor"),
        high: try number("high_freq_factor"),
        original: try number("original_max_position_embeddings"))
      guard case .llama3(_, let low, let high, _) = scaling, high > low else {
        throw bad("rope_scaling.high_freq_factor", "is not above low_freq_factor")
      }
      shape.scaling = scaling
    case "yarn" where !isPhi:
      let original = try optional("original_max_position_embeddings") ?? Double(context)
      let factor = try optional("factor") ?? Double(context) / original
      let rounds = value("truncate")?.bool ?? true
      shape.scaling = .yarn(
        factor: factor, fast: try optional("beta_fast") ?? 32, slow: try optional("beta_slow") ?? 1,
        original: original, rounds: rounds)
      func magnitude(_ weight: Double) -> Double {
        factor <= 1 ? 1 : 0.1 * weight * log(factor) + 1
      }
      let (some, all) = (try optional("mscale"), try optional("mscale_all_dim"))
      if let given = try optional("attention_factor") {
        shape.amplitude = Float(given)
      } else if let some, let all {
        shape.amplitude = Float(magnitude(some) / magnitude(all))
      } else {
        shape.amplitude = Float(magnitude(1))
      }
    case "longrope": try readLong(&shape, context: context, value)
    case "su" where isPhi, "yarn" where isPhi: try readLong(&shape, context: context, value)
    case "proportional":
      let share = value("partial_rotary_factor")?.double ?? 1
      guard share > 0, share <= 1 else {
        throw bad("rope_scaling.partial_rotary_factor", "is \(share)")
      }
      shape.dimension = headSize
      shape.scaling = .proportional(share: share, factor: try optional("factor") ?? 1)
    default:
      throw bad(
        "rope_scaling",
        "is \"\(shown(kind))\"; default, linear, dynamic, llama3, yarn and longrope are supported")
    }
    return shape
  }

  /// Phi-3 configs use `su` and `yarn` as old names of longrope.
  private var isPhi: Bool { family == Family.phi3.name }

  private func readLong(
    _ shape: inout RotaryShape, context: Int, _ value: (String) -> JSON?
  ) throws(ModelError) {
    func factors(_ name: String) throws(ModelError) -> [Float] {
      let numbers = value(name)?.array?.compactMap(\.double).map { Float($0) } ?? []
      guard numbers.count == shape.pairs, numbers.allSatisfy({ $0 > 0 && $0.isFinite }) else {
        throw bad("rope_scaling.\(name)", "is not a list of \(shape.pairs) numbers above zero")
      }
      return numbers
    }
    // The key outside the rotary object takes precedence.
    let stated = self["original_max_position_embeddings"]
    let original = (stated ?? value("original_max_position_embeddings"))?.int ?? context
    guard original > 1 else {
      throw bad("original_max_position_embeddings", "is \(original); 2 or more is needed")
    }
    shape.scaling = .long(
      short: try factors("short_factor"), long: try factors("long_factor"), original: original)
    if let given = value("attention_factor")?.double {
      shape.amplitude = Float(given)
    } else {
      let stretch = value("factor")?.double ?? Double(context) / Double(original)
      shape.amplitude =
        stretch <= 1 ? 1 : Float((1 + log(stretch) / log(Double(original))).squareRoot())
    }
  }

  private func rotaryObject(
    _ layerType: String?, scales: Bool
  ) throws(ModelError) -> RotaryObject? {
    var found: RotaryObject?
    for name in ConfigKeys.rotaryObjects {
      guard let value = self[name] else { continue }
      guard value.object != nil else {
        throw bad(name, "is \(value.kind); an object or null is needed")
      }
      guard found == nil else { continue }
      guard let layerType, let nested = value[layerType] else {
        let isNested = value["full_attention"] != nil || value["sliding_attention"] != nil
        if scales, !isNested { found = RotaryObject(json: value, name: name) }
        continue
      }
      pass("\(name).\(layerType)")
      if nested.object != nil {
        found = RotaryObject(json: nested, name: "\(name).\(layerType)")
      }
    }
    return found
  }
}
