public import NibbleFormats
public import NibbleModel
public import NibbleQuantize
public import NibbleTensor

/// "C8": int8 keys and values, a scale a channel, beside the projections that make them.
///
/// `scale = absmax / 127`, `offset = 0`. The scales of keys are those of rotated keys, which is what a
/// cache holds; msModelSlim names them after the projection and does not say.
extension Ascend {
  public func cacheTensors(
    _ format: KeyValueFormat, _ attention: Attention, of path: String
  ) -> [SafetensorsLayout.Tensor] {
    guard format == .int8 else { return [] }
    return Self.cacheSuffixes(of: path).map {
      SafetensorsLayout.Tensor(
        name: $0, dtype: .f32, shape: [attention.keyHeads * attention.headSize])
    }
  }

  public func encode(
    _ scales: KeyValueScales, _ ranges: KeyValueRanges, of path: String
  ) -> [String: Bytes] {
    guard scales.format == .int8 else { return [:] }
    func perChannel(_ peaks: [Float]) -> [Float] {
      // A channel that was silent has no range of its own: one of 1 leaves it zero.
      peaks.map { $0 > 0 ? max($0 / 127, .leastNormalMagnitude) : 1 }
    }
    let zeros = [Float](repeating: 0, count: ranges.keyChannels.count)
    let values = [
      perChannel(ranges.keyChannels), zeros, perChannel(ranges.valueChannels), zeros,
    ]
    return Dictionary(
      uniqueKeysWithValues: zip(
        Self.cacheSuffixes(of: path), values.map { Bytes(FloatFormat.f32.encode($0.span)) }))
  }

  private static func cacheSuffixes(of path: String) -> [String] {
    ["k_proj", "v_proj"].flatMap { projection in
      AscendType.c8.suffixes.map { "\(path).\(projection).\($0)" }
    }
  }
}
