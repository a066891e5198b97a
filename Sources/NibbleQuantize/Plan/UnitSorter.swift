import NibbleFormats
import NibbleModel
import NibbleTensor

/// Sorts a checkpoint's tensors into units, and decides which linear layers are quantized.
///
/// A known family names its linear layers. In an unknown family, a float matrix in a numbered block
/// counts as a linear if its name ends like the linears of published decoders. Other matrices stay
/// float, and the plan lists them.
struct UnitSorter {
  private let recipe: Recipe
  private let exporter: any Exporter
  private let decoder: DecoderShape?
  private var blocks: [Int: Plan.Unit] = [:]
  private var outside = Plan.Unit(
    name: "embeddings, final norm and head", block: nil, layers: [], copies: [])
  private(set) var keptFloat: [Plan.KeptFloat] = []
  /// Copied tensors that `keptFloat` does not list yet.
  private var otherCopies: [Checkpoint.Tensor] = []
  /// Paths of linear layers, whether quantized or kept float by the recipe.
  private(set) var linearPaths: [String] = []
  /// The linears of each block by id, computed on the block's first tensor.
  private var linears: [Int: [LinearID: (shape: LinearShape, site: Site?)]] = [:]

  init(recipe: Recipe, exporter: any Exporter, decoder: DecoderShape?) {
    self.recipe = recipe
    self.exporter = exporter
    self.decoder = decoder
  }

  /// The blocks in order, then the unit of tensors outside them.
  var units: [Plan.Unit] {
    blocks.keys.sorted().compactMap { blocks[$0] }
      + (outside.layers.isEmpty && outside.copies.isEmpty ? [] : [outside])
  }

  var quantizesHead: Bool { !outside.layers.isEmpty }

  var foundLayers: Bool {
    !outside.layers.isEmpty || blocks.values.contains { !$0.layers.isEmpty }
  }

  mutating func add(_ tensor: Checkpoint.Tensor) {
    let block = decoder.map { $0.place(of: tensor.name).block } ?? Self.block(of: tensor.name)
    var unit =
      block.map {
        blocks[$0] ?? Plan.Unit(name: "block \($0)", block: $0, layers: [], copies: [])
      } ?? outside
    if let layer = layer(tensor, block: block) {
      unit.layers.append(layer)
    } else {
      unit.copies.append(tensor)
    }
    if let block { blocks[block] = unit } else { outside = unit }
  }

  /// Lists float tensors that are not matrices of modules and are more than 1 % of the model.
  /// Tensors with the same name in different blocks count together.
  mutating func listLargeCopies() {
    let total = units.flatMap { unit in
      unit.layers.map { $0.inputs * $0.outputs * $0.modelFormat.bytesPerValue }
        + unit.copies.map(\.byteCount)
    }.reduce(0, +)
    let places = Dictionary(grouping: otherCopies) { tensor in
      tensor.name.split(separator: ".").map { Int($0) == nil ? String($0) : "*" }
    }
    let large = places.filter { $0.value.reduce(0) { $0 + $1.byteCount } > total / 100 }
    for tensor in otherCopies {
      let place = tensor.name.split(separator: ".").map { Int($0) == nil ? String($0) : "*" }
      guard large[place] != nil else { continue }
      let count = tensor.shape.count
      keptFloat.append(
        Plan.KeptFloat(
          path: tensor.name.hasSuffix(".weight")
            ? String(tensor.name.dropLast(".weight".count)) : tensor.name,
          reason: count == 2
            ? "not known to be the weight of a linear layer"
            : "\(count) dimension\(count == 1 ? "" : "s"); matrices alone are quantized"))
    }
    otherCopies = []
  }

  /// Adds a separate head made from the embedding, if the head is tied and to be quantized. The
  /// embedding stays float.
  mutating func untieHead() {
    guard recipe.quantizesHead, !quantizesHead, let decoder, decoder.head.isTied,
      let scheme = recipe.headScheme(of: decoder.head.path),
      let embedding = outside.copies.first(where: {
        $0.name == decoder.embedding.path + ".weight"
      }), let format = embedding.dtype.floatFormat, embedding.shape.count == 2
    else { return }
    linearPaths.append(decoder.head.path)
    var layer = Plan.Layer(
      path: decoder.head.path, outputs: embedding.shape[0],
      inputs: embedding.shape[1], scheme: scheme, sourceBytes: 0, modelFormat: format)
    layer.sharedTensor = embedding.name
    layer.tensors = exporter.tensors(of: layer)
    outside.layers.append(layer)
  }

  /// Throws unless the checkpoint has every linear and norm of the family, with its shape.
  func check(_ decoder: DecoderShape, _ checkpoint: Checkpoint) throws(QuantizeError) {
    for block in decoder.blocks {
      for linear in block.linears {
        let path = block.path(of: linear.id)
        if let stack = linear.stack {
          try require(
            "\(block.path).\(stack.tensor)",
            [stack.experts]
              + (linear.isTransposed
                ? [linear.inputs, stack.outputs] : [stack.outputs, linear.inputs]),
            checkpoint)
          continue
        }
        try require(
          path + ".weight",
          linear.isTransposed ? [linear.inputs, linear.outputs] : [linear.outputs, linear.inputs],
          checkpoint)
        if linear.bias == .required || checkpoint.tensor(path + ".bias") != nil {
          try require(path + ".bias", [linear.outputs], checkpoint)
        }
      }
      for norm in block.norms { try require(norm, at: block.path(of: norm), checkpoint) }
      for parameter in block.parameters {
        try require("\(block.path).\(parameter.name)", parameter.shape, checkpoint)
      }
    }
    if let norm = decoder.finalNorm { try require(norm, at: norm.path, checkpoint) }
    let ends =
      decoder.head.isTied ? [decoder.embedding.path] : [decoder.embedding.path, decoder.head.path]
    for path in ends {
      try require(
        path + ".weight", [decoder.vocabulary, decoder.embedding.width], checkpoint)
    }
    if let extra = blocks.keys.max(), extra >= decoder.blocks.count {
      throw .model(
        .config(
          path: checkpoint.configPath, field: "num_hidden_layers",
          reason: "is \(decoder.blocks.count), but the weights hold block \(extra)"))
    }
  }

  private func require(
    _ norm: NormShape, at path: String, _ checkpoint: Checkpoint
  ) throws(QuantizeError) {
    if norm.hasWeight { try require(path + ".weight", [norm.width], checkpoint) }
    if norm.hasBias { try require(path + ".bias", [norm.width], checkpoint) }
  }

  private func require(
    _ name: String, _ shape: [Int], _ checkpoint: Checkpoint
  ) throws(QuantizeError) {
    guard let tensor = checkpoint.tensor(name) else {
      throw .model(.missingTensor(name, path: checkpoint.path))
    }
    guard tensor.shape == shape else {
      throw .model(.tensorShape(name, found: tensor.shape, expected: shape))
    }
    guard tensor.dtype.floatFormat != nil else {
      throw .model(
        .tensorType(
          name, found: tensor.dtype.rawValue,
          expected: "F32, F16 or BF16; is the source quantized already?"))
    }
  }

  private mutating func layer(_ tensor: Checkpoint.Tensor, block: Int?) -> Plan.Layer? {
    guard tensor.name.hasSuffix(".weight"), tensor.shape.count == 2,
      let format = tensor.dtype.floatFormat
    else {
      otherCopies.append(tensor)
      return nil
    }
    let path = String(tensor.name.dropLast(".weight".count))
    let linear = linear(at: path)
    let isHead = block == nil && path == decoder?.head.path ?? Plan.commonHead
    if decoder?.isOfTower(tensor.name) == true {
      keptFloat.append(
        Plan.KeptFloat(
          path: path, reason: "part of another modality, or of a block that drafts tokens",
          isLinear: true))
      return nil
    }
    if block == nil {
      guard isHead, recipe.quantizesHead else {
        keptFloat.append(
          Plan.KeptFloat(
            path: path,
            reason: isHead ? "the head stays float unless asked" : "embeddings stay float",
            isLinear: [
              decoder?.embedding.projection, decoder?.head.projection,
              decoder?.embedding.blockInputs?.projection,
            ].contains(path)))
        return nil
      }
    } else if let decoder, decoder.isHeadNorm(path) {
      otherCopies.append(tensor)
      return nil
    } else if decoder != nil ? linear == nil : !Self.looksLinear(path) {
      keptFloat.append(
        Plan.KeptFloat(path: path, reason: "not known to be a linear layer", isLinear: true))
      return nil
    }
    if linear?.shape.staysFloat == true {
      // A pattern that keeps it float matches something.
      if recipe.scheme(of: path) == nil { linearPaths.append(path) }
      keptFloat.append(
        Plan.KeptFloat(
          path: path,
          reason: linear?.shape.role == .router
            ? "routers and gates of shared experts stay float"
            : "its errors would add up in the block's state", isLinear: true))
      return nil
    }
    linearPaths.append(path)
    guard var scheme = isHead ? recipe.headScheme(of: path) : recipe.scheme(of: path) else {
      keptFloat.append(
        Plan.KeptFloat(path: path, reason: "the recipe keeps it float", isLinear: true))
      return nil
    }
    let outputs = linear?.shape.outputs ?? tensor.shape[0]
    let inputs = linear?.shape.inputs ?? tensor.shape[1]
    if recipe.isUndecided, scheme == recipe.scheme {
      // All candidates take about the same bytes.
      scheme =
        recipe.candidates.first { $0.weights.fits(outputs: outputs, inputs: inputs) } ?? scheme
    }
    var layer = Plan.Layer(
      path: path, linear: linear?.shape.id, role: linear?.shape.role, site: linear?.site,
      outputs: outputs, inputs: inputs,
      scheme: scheme, sourceBytes: tensor.byteCount, modelFormat: format)
    layer.isSparse = recipe.isSparse
    layer.tensors = exporter.tensors(of: layer)
    return layer
  }

  private mutating func linear(at path: String) -> (shape: LinearShape, site: Site?)? {
    guard let decoder else { return nil }
    let place = decoder.place(of: path)
    guard let block = place.block, block < decoder.blocks.count else { return nil }
    if linears[block] == nil {
      let shape = decoder.blocks[block]
      var sites: [LinearID: Site] = [:]
      for site in shape.sites { for id in site.ids { sites[id] = site.site } }
      linears[block] = Dictionary(
        shape.linears.map { ($0.id, ($0, sites[$0.id])) }, uniquingKeysWith: { first, _ in first })
    }
    return linears[block]?[LinearID(rawValue: place.name)]
  }

  /// The first component of a name that is a number: `model.layers.3.mlp...` is in block 3.
  static func block(of name: String) -> Int? {
    for part in name.split(separator: ".") {
      if let number = Int(part), number >= 0, String(number) == part { return number }
    }
    return nil
  }

  static func looksLinear(_ path: String) -> Bool {
    let last = path.split(separator: ".").last.map(String.init) ?? path
    let known: Set = [
      "fc1", "fc2", "w1", "w2", "w3", "dense", "dense_h_to_4h", "dense_4h_to_h",
      "query_key_value", "qkv", "out", "wq", "wk", "wv", "wo",
    ]
    return last.hasSuffix("_proj") || known.contains(last)
  }
}
