import Foundation
import NibbleFormats
import NibbleTensor

/// Frequencies of rotary position embedding, scaled as the config says.
///
/// `f[i] = theta^(-2i/d)`, in float as transformers computes it. Kinds: default; linear (`f / factor`);
/// llama3 (long wavelengths divided by the factor, short ones kept, a ramp between); dynamic, which
/// changes nothing up to the context the model was made for. Source: transformers
/// `modeling_rope_utils.py`; Llama 3.1's `use_scaled_rope`.
public struct RotaryScaling: Hashable, Sendable {
  /// `[d / 2]`, radians per position.
  public var frequencies: [Float]
  /// Positions beyond this change the frequencies in a way that is not supported.
  public var limit: Int?

  init(_ fields: ConfigFields, headSize: Int, context: Int) throws(ModelError) {
    let scaling = try Self.scaling(fields)
    let stated =
      scaling?["rope_theta"] ?? fields.json["rope_theta"].flatMap { $0.isNull ? nil : $0 }
    guard let base = (stated ?? 10_000).double else {
      throw fields.bad("rope_theta", "is \(shown(stated?.text() ?? "")), not a number")
    }
    guard base > 1, base <= 1e15 else {
      throw fields.bad("rope_theta", "is \(base); a number above 1 and up to 1e15 is needed")
    }
    frequencies = (0..<headSize / 2).map {
      1 / powf(Float(base), Float(2 * $0) / Float(headSize))
    }
    guard let scaling else { return }
    for name in ["rope_type", "type"] {
      guard let value = scaling[name] else { continue }
      guard value.string != nil else {
        throw fields.bad(
          "rope_scaling.\(name)", "is \(shown(value.text())), not the name of a kind")
      }
    }
    let kind = Self.kind(fields.json)
    func number(_ name: String) throws(ModelError) -> Double {
      guard let value = scaling[name]?.double, value > 0, value.isFinite else {
        throw fields.bad("rope_scaling.\(name)", "is missing or not above zero")
      }
      return value
    }
    switch kind {
    case "default": break
    case "linear":
      let factor = Float(try number("factor"))
      frequencies = frequencies.map { $0 / factor }
    case "dynamic": limit = context
    case "llama3":
      let factor = Float(try number("factor"))
      let (low, high) = (
        Float(try number("low_freq_factor")), Float(try number("high_freq_factor"))
      )
      let original = Float(try number("original_max_position_embeddings"))
      guard high > low else {
        throw fields.bad("rope_scaling.high_freq_factor", "is not above low_freq_factor")
      }
      frequencies = frequencies.map { frequency in
        let wavelength = 2 * Float.pi / frequency
        if wavelength < original / high { return frequency }
        if wavelength > original / low { return frequency / factor }
        let smooth = (original / wavelength - low) / (high - low)
        return (1 - smooth) * frequency / factor + smooth * frequency
      }
    default:
      throw fields.bad(
        "rope_scaling", "is \"\(shown(kind))\"; default, linear, dynamic and llama3 are supported")
    }
  }

  /// `rope_type` of the config; default where there is none.
  static func kind(_ json: JSON) -> String {
    for name in ConfigKeys.rotaryObjects {
      guard let scaling = json[name], scaling.object != nil else { continue }
      return scaling["rope_type"]?.string ?? scaling["type"]?.string ?? "default"
    }
    return "default"
  }

  private static func scaling(_ fields: ConfigFields) throws(ModelError) -> JSON? {
    var found: JSON?
    for name in ConfigKeys.rotaryObjects {
      guard let value = fields.json[name], !value.isNull else { continue }
      guard value.object != nil else {
        throw fields.bad(name, "is \(value.kind); an object or null is needed")
      }
      found = found ?? value
    }
    return found
  }
}
