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
    let scaling = Self.scaling(fields.json)
    let base = scaling?["rope_theta"]?.double ?? fields.json["rope_theta"]?.double ?? 10_000
    guard base > 1, base.isFinite else { throw fields.bad("rope_theta", "is \(base)") }
    frequencies = (0..<headSize / 2).map {
      1 / powf(Float(base), Float(2 * $0) / Float(headSize))
    }
    guard let scaling else { return }
    let kind = scaling["rope_type"]?.string ?? scaling["type"]?.string ?? "default"
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
        "rope_scaling", "is \"\(kind)\"; default, linear, dynamic and llama3 are supported")
    }
  }

  private static func scaling(_ json: JSON) -> JSON? {
    for key in ["rope_parameters", "rope_scaling"] {
      if let value = json[key], value.object != nil { return value }
    }
    return nil
  }
}
