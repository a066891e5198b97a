public import NibbleFormats
public import NibbleModel
public import NibbleQuantize
public import NibbleTensor

extension CompressedTensors {
  public func cacheTensors(
    _ format: KeyValueFormat, _ attention: Attention, of path: String
  ) -> [SafetensorsLayout.Tensor] {
    CacheTensors.layout(format, keyHeads: attention.keyHeads, of: path)
  }

  public func encode(
    _ scales: KeyValueScales, _ ranges: KeyValueRanges, of path: String
  ) -> [String: Bytes] {
    CacheTensors.encode(scales, of: path)
  }

  /// `kv_cache_scheme`: quantization arguments with one scale per tensor or per head.
  static func scheme(_ format: KeyValueFormat) -> JSON {
    [
      "num_bits": format == .int4 ? 4 : 8, "type": format == .fp8 ? "float" : "int",
      "symmetric": true, "strategy": format.isPerHead ? "attn_head" : "tensor",
      "dynamic": false, "group_size": .null,
    ]
  }

  /// The format of a `kv_cache_scheme`; nil for one without calibrated scales that Nibble supports.
  static func cacheFormat(_ scheme: JSON) -> KeyValueFormat? {
    let isStatic = !(scheme["dynamic"]?.bool ?? false)
    guard isStatic, scheme["symmetric"]?.bool ?? true else { return nil }
    switch (scheme["type"]?.string, scheme["num_bits"]?.int, scheme["strategy"]?.string) {
    case ("float", 8, "tensor"), ("float", 8, nil): return .fp8
    case ("int", 8, "attn_head"): return .int8
    case ("int", 4, "attn_head"): return .int4
    default: return nil
    }
  }
}
