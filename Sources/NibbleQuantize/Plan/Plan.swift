public import NibbleFormats
public import NibbleModel
public import NibbleTensor

/// What a recipe will do to a checkpoint for an engine, from file headers alone.
public struct Plan: Sendable {
  /// A linear layer to be quantized.
  public struct Layer: Sendable, Hashable {
    /// Module path, without `.weight`.
    public var path: String
    /// Its linear within the block; nil outside the blocks and for unknown families.
    public var linear: LinearID?
    /// Its role in the block; nil for a fused layer.
    public var role: Role?
    /// The activation that it reads.
    public var site: Site?
    public var outputs: Int
    public var inputs: Int
    public var scheme: LinearScheme
    public var sourceBytes: Int
    /// The model's float format, for tensors of the layer that stay float.
    public var modelFormat: FloatFormat
    /// Whether its codes are chosen for compression: few of them have a large magnitude.
    public var isSparse = false
    /// The source tensor, if it is another module's: the embedding, for a head that is tied to it.
    public var sharedTensor: String?
    /// The tensors to write.
    public var tensors: [SafetensorsLayout.Tensor] = []

    /// Name of the source tensor.
    public var tensor: String { sharedTensor ?? path + ".weight" }

    /// Path of the module that contains the layer, such as its block's attention.
    var module: Substring { Self.module(of: path) }

    static func module(of path: String) -> Substring {
      path.lastIndex(of: ".").map { path[..<$0] } ?? ""
    }

    public var outputBytes: Int {
      tensors.reduce(0) { $0 + $1.shape.reduce(1, *) * $1.dtype.bits / 8 }
    }
  }

  /// The tensors that are read, quantized and written before their memory is released: one block,
  /// or everything outside the blocks.
  public struct Unit: Sendable, Hashable {
    public var name: String
    /// Number of the block; nil outside the blocks.
    public var block: Int?
    public var layers: [Layer]
    /// Tensors written unchanged.
    public var copies: [Checkpoint.Tensor]
    /// Norms written with a bias; empty if the recipe adds none.
    public var norms: [BiasedNorm] = []
    /// Tensors of the KV cache scales.
    public var cacheTensors: [SafetensorsLayout.Tensor] = []
    /// Index of its shard.
    public var shard = 0
  }

  /// A norm that is written with a bias.
  public struct BiasedNorm: Sendable, Hashable {
    /// Module path, without `.weight`.
    public var path: String
    public var shape: NormShape
    public var format: FloatFormat
    /// The tensors to write in addition to its weight.
    public var tensors: [SafetensorsLayout.Tensor]
  }

  /// A tensor that stays float and that the plan lists: a matrix that looks like a linear layer, or
  /// another tensor with more than 1 % of the model's bytes.
  public struct KeptFloat: Sendable, Hashable, Codable {
    public var path: String
    public var reason: String
    /// Whether the engine's config must list it as ignored.
    public var isLinear = false
  }

  public let recipe: Recipe
  public let exporter: any Exporter
  /// Shape of the source's decoder. Nil for an unknown family, where only weights can be measured.
  public let decoder: DecoderShape?
  public let familyError: ModelError?
  public let units: [Unit]
  public let keptFloat: [KeptFloat]
  /// One layout per file, in order.
  public let shards: [SafetensorsLayout]
  public let sourceBytes: Int
  public let sourceConfig: JSON
  public internal(set) var refusals: [Refusal]
  public internal(set) var memory: MemoryEstimate

  /// Module path of the head in most families.
  static let commonHead = "lm_head"
  /// The module path of the head.
  public var headPath: String { decoder?.head.path ?? Self.commonHead }

  public var layers: [Layer] { units.flatMap(\.layers) }
  public var outputBytes: Int { shards.reduce(0) { $0 + $1.fileSize } }

  /// What the user should know before the run.
  public var notes: [String] { exporter.notes(self) + [experts, savings].compactMap(\.self) }

  /// Which engines support quantized experts; nil if there are none. Tested with transformers 5.23
  /// and vLLM 0.32 on a CPU. vLLM's GPU kernels for them were not run.
  private var experts: String? {
    guard let layer = layers.first(where: { $0.site?.isOfExpert == true }) else { return nil }
    return
      "\(layer.path) and the other experts: Nibble runs them quantized. vLLM 0.32 has no kernel for them on a "
      + "CPU, and on a GPU this was not tried. transformers 5.23 joins experts as it loads them, and does "
      + "not load a quantized checkpoint of \(decoder?.family ?? "such a family")."
  }

  /// A warning if less than 10 % is saved; else nil.
  private var savings: String? {
    guard sourceBytes > 0, outputBytes > sourceBytes / 10 * 9 else { return nil }
    let percent = max(0, 100 - 100 * outputBytes / sourceBytes)
    return
      "this saves \(percent == 0 ? "less than 1" : "\(percent)") % of the source's bytes; most of them "
      + "stay as they are"
  }

  /// - Parameters:
  ///   - shardSize: bytes per file, above which the next unit starts another file.
  ///   - windows: lengths of the token windows that will run through the blocks.
  public init(
    _ checkpoint: Checkpoint, recipe: Recipe, exporter: any Exporter, shardSize: Int = 5 << 30,
    windows: WindowSizes, budget: Int? = nil
  ) throws(QuantizeError) {
    self.recipe = recipe
    self.exporter = exporter
    (decoder, familyError) = try Self.decoder(of: checkpoint)
    var sorter = UnitSorter(recipe: recipe, exporter: exporter, decoder: decoder)
    for tensor in checkpoint.tensors { sorter.add(tensor) }
    sorter.untieHead()
    sorter.listLargeCopies()
    if let fault = recipe.fault { throw .unsoundRecipe(recipe: recipe.name, reason: fault) }
    for exception in recipe.exceptions
    where !sorter.linearPaths.contains(where: exception.matches) {
      throw .patternMatchedNothing(
        exception.pattern, layers: Array(sorter.linearPaths.prefix(7)))
    }
    guard sorter.foundLayers else { throw .nothingToQuantize(path: checkpoint.path) }
    if let decoder { try sorter.check(decoder, checkpoint) }
    if recipe.quantizesHead, !sorter.quantizesHead {
      throw .recipeOption(
        recipe: recipe.name, option: "--quantize-head",
        reason: "an exception keeps the head float, or there is none that Nibble knows")
    }
    let (units, shards) = try Self.split(
      Self.withNorms(
        Self.withCaches(sorter.units, recipe, exporter, decoder), recipe, exporter, decoder),
      shardSize: shardSize)
    self.units = units
    self.shards = shards
    keptFloat = sorter.keptFloat
    sourceBytes = checkpoint.bytesOnDisk
    sourceConfig = checkpoint.config
    memory = MemoryEstimate(
      units, decoder: decoder, windows: windows, recipe: recipe,
      isMapped: checkpoint.isMapped)
    let bySchemes = Dictionary(grouping: units.flatMap(\.layers), by: \.scheme)
    refusals = bySchemes.keys.sorted { "\($0)" < "\($1)" }.flatMap {
      Self.refusals(bySchemes[$0] ?? [], $0.weights)
    }
    refusals += exporter.refusals(self)
    if let transposed = transposedLayer { refusals.append(transposed) }
    let layout = UnknownLayout(
      checkpoint: checkpoint, layers: units.flatMap(\.layers), exporter: exporter)
    if let decoder {
      if decoder.blocks.contains(where: { !$0.stackedTensors.isEmpty }) {
        refusals += layout.stackedExperts().map { [.engine($0)] } ?? []
      }
      refusals += recipe.steps.compactMap { step in
        decoder.blocks.lazy.compactMap { step.fault(on: $0) }.first.map { .engine($0) }
      }
      refusals += [ExpertsRule(decoder: decoder, units: units).refusal].compactMap(\.self)
      if recipe.expertTokens != nil, decoder.blocks.allSatisfy({ $0.experts == nil }) {
        throw .recipeOption(
          recipe: recipe.name, option: "--expert-tokens",
          reason: "\(decoder.family) has no experts; leave it out")
      }
    } else {
      refusals += layout.refusals()
    }
    if let cache = recipe.cache, let decoder {
      if let fault = decoder.attentions.lazy.compactMap({ cache.fault(keyHeads: $0.core.keyHeads) })
        .first
      {
        refusals.append(.engine(fault))
      } else if cache.ranks == nil, units.allSatisfy(\.cacheTensors.isEmpty) {
        refusals.append(
          .engine(
            "--kv \(cache.format.rawValue): the format \(exporter.name) has no place for the "
              + "scales of such a cache. Use --format compressed-tensors, or --kv-ranks for the "
              + "files that old engines read."))
      }
    }
    if recipe.biasesNorms, units.allSatisfy({ $0.norms.allSatisfy(\.tensors.isEmpty) }) {
      refusals.append(
        .engine(
          "recipe \(recipe.name) gives norms a bias, for which the format \(exporter.name) has no "
            + "place. Use --for ascend, or leave --shift and --anti-method out."))
    }
    if let budget, memory.total > budget {
      refusals.append(.memory(needed: memory.total, budget: budget))
    }
  }

  /// A refusal if weights are `[inputs, outputs]`: row-wise rounding would give one scale per
  /// input.
  private var transposedLayer: Refusal? {
    guard let decoder else { return nil }
    let names = decoder.blocks.first?.linears.filter(\.liesInputsFirst).map(\.id) ?? []
    guard let layer = layers.first(where: { $0.linear.map(names.contains) == true }) else {
      return nil
    }
    return .engine(
      "\(layer.path): the weights of \(decoder.family) lie inputs first, and engines do not load them as "
        + "quantized linears. Nibble runs this model as it is: nibble run, nibble eval.")
  }

  /// Shape of a float checkpoint's decoder, or the error of an unknown family.
  private static func decoder(
    of checkpoint: Checkpoint
  ) throws(QuantizeError) -> (DecoderShape?, ModelError?) {
    do {
      if let method = try checkpoint.quantizationMethod() {
        throw QuantizeError.alreadyQuantized(path: checkpoint.path, method: method)
      }
      return (try checkpoint.decoderShape(), nil)
    } catch ModelError.unknownFamily(let type, let path) {
      return (nil, .unknownFamily(type, path: path))
    } catch { throw QuantizeError(wrapping: error) }
  }

  /// One refusal for all layers with the same number of inputs.
  private static func refusals(_ layers: [Layer], _ weights: WeightScheme) -> [Refusal] {
    let widths = Dictionary(grouping: layers, by: \.inputs)
    let fitting = [128, 64, 32, 16].first { size in
      widths.keys.allSatisfy { $0.isMultiple(of: size) }
    }
    return widths.keys.sorted().compactMap { inputs in
      let sharing = widths[inputs] ?? []
      guard let layer = sharing.first?.path else { return nil }
      if case .group(let size) = weights.granularity, !inputs.isMultiple(of: size) {
        return .groupDoesNotDivide(
          layer: layer, count: sharing.count, group: size, inputs: inputs, fitting: fitting)
      }
      if case .rowGroups(let count) = weights.granularity,
        let layer = sharing.first(where: { !$0.outputs.isMultiple(of: count) })
      {
        return .rowGroupsDoNotDivide(layer: layer.path, groups: count, outputs: layer.outputs)
      }
      let isPacked = sharing.contains { $0.scheme.activations == nil }
      let fits = sharing.allSatisfy { weights.fits(outputs: $0.outputs, inputs: inputs) }
      if !fits || isPacked && !(inputs * weights.bits).isMultiple(of: 32) {
        return .inputsNotPackable(
          layer: layer, count: sharing.count, inputs: inputs, bits: weights.bits)
      }
      return nil
    }
  }

  private static func withCaches(
    _ units: [Unit], _ recipe: Recipe, _ exporter: any Exporter, _ decoder: DecoderShape?
  ) -> [Unit] {
    guard let cache = recipe.cache, let decoder else { return units }
    return units.map { unit in
      guard let block = unit.block, let attention = decoder.blocks[block].attention else {
        return unit
      }
      var unit = unit
      unit.cacheTensors = exporter.cacheTensors(
        cache.format, attention.core, of: "\(decoder.blocks[block].path).\(attention.path)")
      return unit
    }
  }

  private static func withNorms(
    _ units: [Unit], _ recipe: Recipe, _ exporter: any Exporter, _ decoder: DecoderShape?
  ) -> [Unit] {
    guard recipe.biasesNorms, let decoder else { return units }
    return units.map { unit in
      var unit = unit
      let norms: [(path: String, shape: NormShape)] =
        unit.block.map { index in
          let block = decoder.blocks[index]
          return block.norms.map { (block.path(of: $0), $0) }
        } ?? [decoder.finalNorm].compactMap(\.self).map { ($0.path, $0) }
      unit.norms = norms.filter { !$0.shape.hasBias }.compactMap { path, shape in
        guard
          let format = unit.copies.first(where: { $0.name == path + ".weight" })?.dtype.floatFormat
        else { return nil }
        return BiasedNorm(
          path: path, shape: shape, format: format,
          tensors: exporter.tensors(ofNorm: path, width: shape.width, format))
      }
      return unit
    }
  }

  /// Fills shards in order with whole units.
  private static func split(
    _ units: [Unit], shardSize: Int
  ) throws(QuantizeError) -> ([Unit], [SafetensorsLayout]) {
    var placed: [Unit] = []
    var contents: [[SafetensorsLayout.Tensor]] = [[]]
    var size = 0
    for unit in units {
      let tensors = unit.tensors
      let bytes = tensors.reduce(0) { $0 + $1.shape.reduce(1, *) * $1.dtype.bits / 8 }
      if size > 0, size + bytes > shardSize {
        contents.append([])
        size = 0
      }
      size += bytes
      var unit = unit
      unit.shard = contents.count - 1
      placed.append(unit)
      contents[contents.count - 1] += tensors
    }
    var shards: [SafetensorsLayout] = []
    for tensors in contents {
      do { shards.append(try SafetensorsLayout(tensors)) } catch { throw .format(error) }
    }
    return (placed, shards)
  }

  /// Name of a shard's file: `model.safetensors`, or a numbered name, as the engine expects.
  public func fileName(shard: Int) -> String {
    let stem = exporter.stem(of: self)
    return shards.count == 1
      ? stem + ".safetensors"
      : SafetensorsIndex.fileName(shard: shard, of: shards.count, stem: stem)
  }
}

extension Plan.Unit {
  /// All tensors of this unit, in the order in which they are written.
  public var tensors: [SafetensorsLayout.Tensor] {
    SafetensorsLayout.referenceOrder(
      layers.flatMap(\.tensors) + norms.flatMap(\.tensors) + cacheTensors
        + copies.map {
          SafetensorsLayout.Tensor(name: $0.name, dtype: $0.dtype, shape: $0.shape)
        })
  }
}
