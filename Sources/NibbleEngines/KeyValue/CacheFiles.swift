import Foundation
import NibbleFormats
import NibbleModel
public import NibbleQuantize
import NibbleTensor

/// Files with KV cache scales beside the weights, for engines that do not read them from tensors.
enum CacheFiles {
  /// The files of a plan; empty unless its recipe asks for them.
  static func files(
    _ ranges: [KeyValueRanges], _ plan: Plan
  ) -> [(name: String, bytes: [UInt8])] {
    guard let cache = plan.recipe.cache, let ranks = cache.ranks else { return [] }
    switch cache.format {
    case .fp8:
      let text = scales(
        ranges, ranks: ranks, modelType: plan.sourceConfig["model_type"] ?? .null
      ).text(pretty: true)
      return [("kv_cache_scales.json", Array((text + "\n").utf8))]
    case .int8: return affineScales(ranges, ranks: ranks)
    case .int4: return []
    }
  }

  /// The file for vLLM's `--quantization-param-path`, up to 0.6: one factor per rank and block for
  /// keys and values, `absmax / 448`.
  static func scales(_ ranges: [KeyValueRanges], ranks: Int, modelType: JSON) -> JSON {
    var factors: JSON = [:]
    for rank in 0..<ranks {
      var blocks: JSON = [:]
      for (block, range) in ranges.enumerated() {
        let heads = range.heads(ofRank: rank, of: ranks)
        let peaks = range.keys.peaks[heads] + range.values.peaks[heads]
        let factor = max((peaks.max() ?? 0) / 448, .leastNormalMagnitude)
        // The shortest digits that parse to the same float.
        blocks.set("\(block)", .number(Double("\(factor)") ?? Double(factor)))
      }
      factors.set("\(rank)", blocks)
    }
    return [
      "model_type": modelType,
      "kv_cache": ["dtype": "float8_e4m3fn", "scaling_factor": factors],
    ]
  }

  /// lmdeploy's `layers.{block}.past_kv_scale.{rank}.weight`, 0.0.8 to 0.3: four floats,
  /// `[k_scale, k_zero, v_scale, v_zero]`, with `scale = (max - min) / 255`, `zero = (max + min) / 2`
  /// and `value = code · scale + zero`. The engine's config.ini says `quant_policy = 4`.
  static func affineScales(
    _ ranges: [KeyValueRanges], ranks: Int
  ) -> [(name: String, bytes: [UInt8])] {
    ranges.enumerated().flatMap { block, range in
      (0..<ranks).map { rank in
        let heads = range.heads(ofRank: rank, of: ranks)
        let floats = [range.keys, range.values].flatMap { extremes -> [Float] in
          let low = extremes.low[heads].min() ?? 0
          let high = extremes.high[heads].max() ?? 0
          // Halved first, so that the sum of the largest floats stays finite.
          let width = max((high / 2 - low / 2) / 255 * 2, .leastNormalMagnitude)
          return [width, high / 2 + low / 2]
        }
        return (
          "layers.\(block).past_kv_scale.\(rank).weight", FloatFormat.f32.encode(floats.span)
        )
      }
    }
  }
}

extension CompressedTensors {
  public func cacheFiles(
    _ ranges: [KeyValueRanges], _ plan: Plan
  ) -> [(name: String, bytes: [UInt8])] { CacheFiles.files(ranges, plan) }
}

extension FP8 {
  public func cacheFiles(
    _ ranges: [KeyValueRanges], _ plan: Plan
  ) -> [(name: String, bytes: [UInt8])] { CacheFiles.files(ranges, plan) }
}

extension AWQ {
  public func cacheFiles(
    _ ranges: [KeyValueRanges], _ plan: Plan
  ) -> [(name: String, bytes: [UInt8])] { CacheFiles.files(ranges, plan) }
}
