public import NibbleFormats
public import NibbleModel
public import NibbleTensor

/// What a recipe will do to a checkpoint for an engine, known from headers alone.
public struct Plan: Sendable {
  /// A linear layer that becomes codes and scales.
  public struct Layer: Sendable, Hashable {
    /// Module path, without `.weight`.
    public var path: String
    /// What it is in its block; nil outside the blocks and in families that Nibble does not run.
    public var linear: LinearID?
    /// What it is for its block, where it is one thing.
    public var role: Role?
    /// The activation that enters it.
    public var site: Site?
    public var outputs: Int
    public var inputs: Int
    public var scheme: LinearScheme
    public var sourceBytes: Int
    /// The float format of the model, for what stays float beside the codes.
    public var modelFormat: FloatFormat
    /// Whether its codes are made to be compressed: few of them are large.
    public var isSparse = false
    /// The source tensor that it is made of, when that is another's: the embedding for a head that was
    /// tied to it.
    public var sharedTensor: String?
    /// What is written, by name.
    public var tensors: [SafetensorsLayout.Tensor] = []

    /// The source tensor that it is made of.
    public var tensor: String { sharedTensor ?? path + ".weight" }

    /// The path of what it belongs to, such as its block's attention.
    var module: Substring { path.lastIndex(of: ".").map { path[..<$0] } ?? "" }

    public var outputBytes: Int {
      tensors.reduce(0) { $0 + $1.shape.reduce(1, *) * $1.dtype.bits / 8 }
    }
  }

  /// What is read, changed and written before its memory is released: a block, or what stands
  /// outside the blocks.
  public struct Unit: Sendable, Hashable {
    public var name: String
    /// The block's number; nil outside the blocks.
    public var block: Int?
    public var layers: [Layer]
    /// Tensors written as they are.
    public var copies: [Checkpoint.Tensor]
    /// Norms that are written with a bias; empty where the recipe gives them none.
    public var norms: [BiasedNorm] = []
    /// The scales of its cache.
    public var cacheTensors: [SafetensorsLayout.Tensor] = []
    /// Which shard holds it.
    public var shard = 0
  }

  /// A norm that is written with a bias.
  public struct BiasedNorm: Sendable, Hashable {
    /// Module path, without `.weight`.
    public var path: String
    public var shape: NormShape
    public var format: FloatFormat
    /// What is written beside its weight.
    public var tensors: [SafetensorsLayout.Tensor]
  }

  /// A matrix that looks like a linear layer and stays float.
  public struct KeptFloat: Sendable, Hashable, Codable {
    public var path: String
    public var reason: String
    /// Whether an engine would take it for a linear layer, so that it must be told.
    public var isLinear = false
  }

  public let recipe: Recipe
  public let exporter: any Exporter
  /// The decoder's view of the source; nil for an unknown family, whose verdict is on weights alone.
  public let decoder: DecoderShape?
  public let familyError: ModelError?
  public let units: [Unit]
  public let keptFloat: [KeptFloat]
  /// One layout a file, in order.
  public let shards: [SafetensorsLayout]
  public let sourceBytes: Int
  public let sourceConfig: JSON
  public internal(set) var refusals: [Refusal]
  public internal(set) var memory: MemoryEstimate

  /// What most families call their head.
  static let commonHead = "lm_head"
  /// The module path of the head.
  public var headPath: String { decoder?.head.path ?? Self.commonHead }

  public var layers: [Layer] { units.flatMap(\.layers) }
  public var outputBytes: Int { shards.reduce(0) { $0 + $1.fileSize } }

  /// What whoever asked for it should know before the work.
  public var notes: [String] { exporter.notes(self) + [experts, savings].compactMap(\.self) }

  /// Which engines take quantized experts, where there are any. Seen with transformers 5.23 and vLLM 0.32
  /// on a CPU; vLLM's kernels for them were not run.
  private var experts: String? {
    guard let layer = layers.first(where: { $0.site?.isOfExpert == true }) else { return nil }
    return
      "\(layer.path) and the other experts: Nibble runs them quantized. vLLM 0.32 has no kernel for them on a "
      + "CPU, and on a GPU this was not tried. transformers 5.23 joins experts as it loads them, and does "
      + "not load a quantized checkpoint of \(decoder?.family ?? "such a family")."
  }

  /// How little is saved, where it is little.
  private var savings: String? {
    guard sourceBytes > 0, outputBytes > sourceBytes / 10 * 9 else { return nil }
    let percent = max(0, 100 - 100 * outputBytes / sourceBytes)
    return
      "this saves \(percent == 0 ? "less than 1" : "\(percent)") % of the source's bytes; most of them "
      + "stay as they are"
  }

  /// - Parameters:
  ///   - shardSize: bytes a file may have before the next unit starts another.
  ///   - windows: the token windows that will run through the blocks.
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
      if decoder.blocks.contains(where: { $0.linears.contains { $0.stack != nil } }) {
        refusals += layout.stackedExperts().map { [.engine($0)] } ?? []
      }
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

  /// Weights `[inputs, outputs]`: rounded by rows, scales would belong to inputs.
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

  /// What a float checkpoint computes, or why nobody knows.
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

  /// One refusal for all layers that share a width.
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

  /// Whole units go to a shard until it is full.
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

  /// `model.safetensors`, or numbered shards, by the name that the engine expects.
  public func fileName(shard: Int) -> String {
    let stem = exporter.stem(of: self)
    return shards.count == 1
      ? stem + ".safetensors"
      : SafetensorsIndex.fileName(shard: shard, of: shards.count, stem: stem)
  }
}

extension Plan.Unit {
  /// What is written for this unit, in the order it is written.
  public var tensors: [SafetensorsLayout.Tensor] {
    SafetensorsLayout.referenceOrder(
      layers.flatMap(\.tensors) + norms.flatMap(\.tensors) + cacheTensors
        + copies.map {
          SafetensorsLayout.Tensor(name: $0.name, dtype: $0.dtype, shape: $0.shape)
        })
  }
}
