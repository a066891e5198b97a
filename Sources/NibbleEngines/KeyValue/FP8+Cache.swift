public import NibbleFormats
public import NibbleModel
public import NibbleQuantize
public import NibbleTensor

extension FP8 {
  public func cacheTensors(
    _ format: KeyValueFormat, _ attention: Attention, of path: String
  ) -> [SafetensorsLayout.Tensor] {
    format == .fp8 ? CacheTensors.layout(format, keyHeads: attention.keyHeads, of: path) : []
  }

  public func encode(
    _ scales: KeyValueScales, _ ranges: KeyValueRanges, of path: String
  ) -> [String: Bytes] {
    scales.format == .fp8 ? CacheTensors.encode(scales, of: path) : [:]
  }
}
