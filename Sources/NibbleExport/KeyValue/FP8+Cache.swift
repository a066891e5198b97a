public import NibbleFormats
public import NibbleModel
import NibbleQuantize
public import NibbleTensor

extension FP8 {
  public func cacheTensors(
    _ format: KeyValueFormat, keyHeads: Int, of path: String
  ) -> [SafetensorsLayout.Tensor] {
    format == .fp8 ? CacheTensors.layout(format, keyHeads: keyHeads, of: path) : []
  }

  public func encode(_ scales: KeyValueScales, of path: String) -> [String: Bytes] {
    scales.format == .fp8 ? CacheTensors.encode(scales, of: path) : [:]
  }
}
