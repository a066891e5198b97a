import NibbleFormats
import NibbleModel
import NibbleTensor

/// `k_scale` and `v_scale` of an attention module, in the naming of compressed-tensors and AutoFP8.
enum CacheTensors {
  /// `[1]`, or `[heads, 1, 1]` with one scale per head.
  static func shape(_ format: KeyValueFormat, keyHeads: Int) -> [Int] {
    format.isPerHead ? [keyHeads, 1, 1] : [1]
  }

  static func layout(
    _ format: KeyValueFormat, keyHeads: Int, of path: String
  ) -> [SafetensorsLayout.Tensor] {
    ["k_scale", "v_scale"].map {
      SafetensorsLayout.Tensor(
        name: "\(path).\($0)", dtype: .f32, shape: shape(format, keyHeads: keyHeads))
    }
  }

  static func encode(_ scales: KeyValueScales, of path: String) -> [String: Bytes] {
    [
      "\(path).k_scale": Bytes(FloatFormat.f32.encode(scales.keys.span)),
      "\(path).v_scale": Bytes(FloatFormat.f32.encode(scales.values.span)),
    ]
  }

  /// The scales of every block with attention. A missing one is an error, since an engine would use 1.
  static func read(
    _ format: KeyValueFormat, of checkpoint: Checkpoint, _ config: DecoderShape
  ) throws(ModelError) -> [KeyValueScales] {
    var blocks: [KeyValueScales] = []
    for block in config.blocks {
      guard let attention = block.attention else { continue }
      let shape = shape(format, keyHeads: attention.core.keyHeads)
      let path = block.attentionPath
      let keys = try checkpoint.scales(path + ".k_scale", shape)
      let values = try checkpoint.scales(path + ".v_scale", shape)
      guard let scales = KeyValueScales(format, keys: keys, values: values) else {
        throw .unsupported("\(path): the scales of its cache are not above zero")
      }
      blocks.append(scales)
    }
    return blocks
  }
}
