import NibbleModel
import NibbleTensor

/// The learned parameters of one block, and the steps that learn them. See `Distill`.
struct Distillation {
  /// The block with everything that is not learned.
  private let block: WorkingBlock
  private let roundings: [LinearID: WeightRounding]
  private let inputs: [LinearID: InputRounding]
  private(set) var values: [BlockParameter: FloatRows] = [:]
  private var optimizers: [BlockParameter: AdamW] = [:]
  /// Rates of the first step.
  private var rates: [BlockParameter: Float] = [:]
  /// In a fixed order, so that results do not depend on that of a dictionary.
  private let order: [BlockParameter]

  init(_ block: WorkingBlock, _ settings: Distill, for exporter: any Exporter) {
    self.block = block
    let layers = block.layers
    inputs = layers.compactMapValues { $0.scheme.activations.map { InputRounding($0) } }
    roundings = layers.mapValues {
      WeightRounding(
        scheme: $0.scheme.weights, scaleFormat: exporter.scaleFormat(of: $0), search: .extremes,
        sharedPeak: block.sharedPeak(of: $0))
    }
    // Others are not written again.
    order = block.parameters.learnable.filter { parameter in
      switch parameter {
      case .weight(let id), .scales(let id), .bias(let id): layers[id] != nil
      case .norm: true
      case .normBias(let path): block.parameters.norms[path]?.shape.hasBias == true
      }
    }
    for parameter in order {
      guard let value = block.value(of: parameter) else { continue }
      values[parameter] = value
      var rate = settings.vectorRate * Self.meanMagnitude(value.values)
      var decay: Float = 0
      if case .weight(let id) = parameter, let rounding = roundings[id] {
        let matrix = QuantizedMatrix(nearest: value, to: rounding, on: block.compute)
        rate = settings.rate * matrix.scales.sorted()[matrix.scales.count / 2]
        decay = settings.decay
      }
      rates[parameter] = rate
      optimizers[parameter] = AdamW(count: value.values.count, rate: rate, decay: decay)
    }
  }

  private static func meanMagnitude(_ values: [Float]) -> Float {
    values.reduce(0) { $0 + abs($1) } / Float(max(1, values.count))
  }

  /// The codes of the weights as they are now.
  private func codes() -> [LinearID: QuantizedMatrix] {
    var codes: [LinearID: QuantizedMatrix] = [:]
    for (id, rounding) in roundings {
      guard let value = values[.weight(id)] else { continue }
      codes[id] = QuantizedMatrix(nearest: value, to: rounding, on: block.compute)
    }
    return codes
  }

  /// The block as it will run when it is rounded now.
  func rounded() -> Block {
    var rounded = block
    for parameter in order {
      if case .weight = parameter { continue }
      if let value = values[parameter] { rounded.replace(parameter, by: value) }
    }
    var block = rounded.parameters
    for (id, matrix) in codes() {
      block.linears[id]?.weight = .quantized(matrix, inputs: inputs[id])
    }
    block.pack(on: rounded.compute)
    return block
  }

  /// One step on some windows. Returns false when it led to values that are infinite or no numbers.
  ///
  /// - Parameters:
  ///   - windows: hidden states that enter the block, and those wanted behind it.
  ///   - share: of the rates of the first step.
  mutating func learn(
    from windows: [(states: [Float], wanted: [Float])], rates share: Float,
    _ pass: inout ForwardPass
  ) -> Bool {
    let compute = block.compute
    var running = values
    for (id, matrix) in codes() {
      running[.weight(id)] = FloatRows(.quantized(matrix, inputs: nil), on: compute)
    }
    var sums: [BlockParameter: FloatRows] = [:]
    for (states, wanted) in windows {
      let run = pass.record(
        block.parameters, on: states, training: running, roundingInputs: inputs)
      let error = BlockError(
        run.tape[run.output].values, wanted, width: pass.shape.hidden, share: windows.count)
      for (parameter, gradient) in run.gradients(error.gradient).parameters {
        if sums[parameter] == nil {
          sums[parameter] = gradient
        } else {
          sums[parameter]?.add(gradient, times: 1, on: compute)
        }
      }
    }
    for parameter in order {
      guard let gradient = sums[parameter], let rate = rates[parameter] else { continue }
      optimizers[parameter]?.rate = share * rate
      optimizers[parameter]?.move(
        &values[parameter, default: gradient].values, against: gradient.values, on: compute)
    }
    return values.values.allSatisfy { $0.firstNonFinite(on: compute) == nil }
  }
}

/// The loss of a window, and its gradient.
private struct BlockError {
  let loss: Double
  let gradient: FloatRows

  /// - Parameter share: the number of windows whose losses are averaged.
  init(_ states: [Float], _ wanted: [Float], width: Int, share: Int) {
    let count = max(1, states.count - width) * share
    var (sum, gradient) = (0.0, [Float](repeating: 0, count: states.count))
    for i in stride(from: width, to: states.count, by: 1) {
      let error = states[i] - wanted[i]
      sum += Double(error) * Double(error)
      gradient[i] = 2 * error / Float(count)
    }
    loss = sum / Double(count)
    self.gradient = FloatRows(gradient, columns: width)
  }
}

extension StateStreams {
  /// Distils a block. Moves the source's calibration windows past it.
  mutating func distill(
    _ block: inout WorkingBlock, from source: Block, _ settings: Distill, _ exporter: any Exporter
  ) throws(QuantizeError) -> [StepReport] {
    let wanted = try self.wanted(behind: source)
    let entering = settings.inputs == .source ? self.source : quantized
    defer { for index in calibration { self.source[index] = wanted[index] } }
    // A window's first token counts for nothing.
    let usable = calibration.filter { windows[$0].count > 1 }
    let keptOut = usable.filter { Alignment.keepsOut(window: $0, of: calibration.count) }
    let learned = usable.filter { !keptOut.contains($0) }
    let checked = Array((keptOut.isEmpty ? learned : keptOut).prefix(Self.checkedWindows))
    guard !learned.isEmpty, !block.layers.isEmpty else { return [] }
    var distillation = Distillation(block, settings, for: exporter)
    var losses = [loss(of: distillation, on: checked, entering, wanted)]
    guard losses[0].isFinite else {
      return [
        StepReport(
          step: Distill.name, block: block.index, site: nil,
          result: "left as it was: its states are too large for a loss")
      ]
    }
    var best = (loss: losses[0], step: 0, values: distillation.values)
    var (step, next, isFinite) = (0, 0, true)
    while step < settings.steps, isFinite {
      var batch: [(states: [Float], wanted: [Float])] = []
      var tokens = 0
      while tokens < settings.tokens, batch.count < learned.count {
        let index = learned[next % learned.count]
        next += 1
        tokens += windows[index].count
        batch.append((entering[index], wanted[index]))
      }
      let left = 1 - Float(step) / Float(settings.steps)
      isFinite = distillation.learn(from: batch, rates: left, &pass)
      step += 1
      guard isFinite, step.isMultiple(of: 10) || step == settings.steps else { continue }
      let loss = loss(of: distillation, on: checked, entering, wanted)
      isFinite = loss.isFinite
      if isFinite { losses.append(loss) }
      if loss < best.loss { best = (loss, step, distillation.values) }
    }
    if best.step > 0 {
      for (parameter, value) in best.values { block.replace(parameter, by: value) }
    }
    let end = isFinite ? "" : "; step \(step) diverged: use a lower rate"
    return [
      StepReport(
        step: Distill.name, block: block.index, site: nil,
        result: "loss \(best.loss) after \(best.step) steps, \(losses[0]) before" + end,
        losses: losses)
    ]
  }

  /// Windows that the loss is computed on.
  private static let checkedWindows = 4

  /// The source's hidden states behind its block, for the calibration windows.
  private mutating func wanted(behind block: Block) throws(QuantizeError) -> WindowStates {
    var block = block
    block.pack(on: pass.compute)
    var wanted = try WindowStates(sizes: calibration.map { source.sizes[$0] }, in: folder)
    for index in calibration {
      var states = source[index]
      pass.run(block, on: &states) { _, _ in }
      wanted[index] = states
    }
    return wanted
  }

  /// The mean loss of the block, as it is when it is rounded now, on some windows.
  private mutating func loss(
    of distillation: Distillation, on checked: [Int], _ entering: WindowStates,
    _ wanted: WindowStates
  ) -> Double {
    let block = distillation.rounded()
    var sum = 0.0
    for index in checked {
      var states = entering[index]
      pass.run(block, on: &states) { _, _ in }
      sum += BlockError(states, wanted[index], width: pass.shape.hidden, share: 1).loss
    }
    return sum / Double(checked.count)
  }
}
