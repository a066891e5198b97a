public import NibbleFormats
public import NibbleModel
public import NibbleQuantize
public import NibbleTensor

/// "C8": int8 keys and values with one scale per channel, stored beside the projections that
/// compute them.
///
/// `scale = absmax / 127`, `offset = 0`. The scales of keys are those after rotation, as the cache
/// stores them; msModelSlim names them after the projection and does not document which.
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
      // A channel that was always zero gets scale 1.
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

  fileprivate static func cacheSuffixes(of path: String) -> [String] {
    ["k_proj", "v_proj"].flatMap { projection in
      AscendType.c8.suffixes.map { "\(path).\(projection).\($0)" }
    }
  }
}

extension AscendReader {
  /// The scales of each block's cache; nil when the checkpoint has none.
  ///
  /// Nibble uses one scale per key head: the largest of its channels, which is what calibration
  /// measured for the head. The verdict of a quantization measures the same cache. A scale of 1
  /// belongs to a channel that was zero throughout calibration.
  public func cacheScales(_ decoder: DecoderShape) throws(ModelError) -> [KeyValueScales]? {
    let first = Ascend.cacheSuffixes(of: config.blocks[0].attentionPath)[0]
    guard parts[0].checkpoint.tensor(first) != nil else { return nil }
    var blocks: [KeyValueScales] = []
    for block in config.blocks.indices {
      let path = config.blocks[block].attentionPath
      let names = Ascend.cacheSuffixes(of: path)
      let keys = try headScales(names[0], offset: names[1])
      let values = try headScales(names[2], offset: names[3])
      guard let scales = KeyValueScales(.int8, keys: keys, values: values) else {
        throw .unsupported("\(path): the scales of its cache are not above zero")
      }
      blocks.append(scales)
    }
    return blocks
  }

  /// The largest scale among each key head's channels, over all parts.
  private func headScales(_ name: String, offset: String) throws(ModelError) -> [Float] {
    let size = config.heads.headSize
    let channels = config.heads.keyHeads * size
    var all: [Float] = []
    for part in parts {
      guard let tensor = part.checkpoint.tensor(name) else {
        throw .missingTensor(name, path: part.path)
      }
      all += try part.checkpoint.scales(name, tensor.shape)
      let offsets = try part.checkpoint.vector(offset, count: tensor.elementCount)
      guard let offsets, offsets.allSatisfy({ $0 == 0 }) else {
        throw .unsupported(
          "\(part.path): \(offset) is missing or not all zero; Nibble runs symmetric caches. Leave "
            + "the cache's tensors out of the checkpoint.")
      }
    }
    guard all.count == channels else {
      throw .tensorShape(name, found: [all.count], expected: [channels])
    }
    return (0..<config.heads.keyHeads).map { head in
      let scales = all[head * size..<(head + 1) * size]
      return scales.filter { $0 != 1 }.max() ?? 1
    }
  }
}
