import CNibble

/// Products of several packed weights with the same inputs, as one batch of tasks.
struct PanelProduct {
  /// One weight and where its results go: the outputs in `part`, which starts at a multiple of 16.
  @safe struct Job {
    let panels: WeightPanels
    let part: Range<Int>
    let y: UnsafeMutablePointer<Float>
    let stride: Int

    var panelCount: Int { (part.count + WeightPanels.height - 1) / WeightPanels.height }
  }

  /// `y = x · Wᵀ` of every job. Each output is computed by itself, so the division into tasks does
  /// not change results.
  ///
  /// - Precondition: all weights use the same input rounding and the same groups; those with offsets
  ///   have the same scales per row.
  static func run(_ inputs: borrowing RoundedInputs, _ jobs: [Job], on compute: Compute) {
    let (t, k) = (inputs.tokens, inputs.columns)
    let inIntegers = unsafe inputs.codes != nil
    let panels = jobs.reduce(0) { $0 + $1.panelCount }
    let isStep = t <= fewTokens
    // Few tokens are bound by memory bandwidth: long runs of panels. Many tokens reuse a panel:
    // equal slabs of tokens that stay in cache, and short runs that balance the threads.
    let panelsAtOnce =
      isStep ? max(2, (panels + 4 * compute.pool.threads - 1) / (4 * compute.pool.threads)) : 6
    let slabs = isStep ? 1 : (t + 255) / 256
    let tokensAtOnce = (t + 4 * slabs - 1) / (4 * slabs) * 4
    let scratchBytes = nibble_panels_scratch(k)
    let scratch =
      unsafe inIntegers && scratchBytes > 0
      ? compute.scratch.take(.panels, scratchBytes * compute.pool.threads) : nil
    let x = unsafe inputs.panelInputs(groups: jobs[0].panels.groups)
    let sums =
      unsafe jobs.contains { !$0.panels.matrix.offsets.isEmpty }
      ? inputs.sums(ofEach: jobs[0].panels.matrix.grid.columns, jobs[0].panels.groups, on: compute)
      : nil
    let perRow = jobs[0].panels.matrix.grid.perRow
    let chunks = jobs.reduce(0) { $0 + ($1.panelCount + panelsAtOnce - 1) / panelsAtOnce }
    compute.pool.run(slabs * chunks) { task, worker in
      var chunk = task % chunks
      let token = task / chunks * tokensAtOnce
      for job in jobs {
        let mine = (job.panelCount + panelsAtOnce - 1) / panelsAtOnce
        guard chunk < mine else {
          chunk -= mine
          continue
        }
        let first = chunk * panelsAtOnce
        let count = min(panelsAtOnce, job.panelCount - first)
        let skipped = job.part.lowerBound / WeightPanels.height
        var rows = unsafe x
        unsafe rows.advance(
          to: token, count: min(tokensAtOnce, t - token), of: t, isInteger: inIntegers)
        unsafe job.panels.withPanels { panels in
          // Points at output 0, which may lie before the part.
          let y = unsafe job.y + token * job.stride - job.part.lowerBound
          if inIntegers {
            let memory = unsafe scratch.map { unsafe $0 + worker * scratchBytes }
            unsafe nibble_panels_integers(
              &rows, panels, skipped + first, count, y, job.stride, memory)
          } else {
            unsafe nibble_panels_floats(&rows, panels, skipped + first, count, y, job.stride)
          }
          if let sums = unsafe sums, !job.panels.matrix.offsets.isEmpty {
            unsafe job.panels.addOffsets(
              sums + token * perRow, tokens: rows.tokens,
              panels: skipped + first..<skipped + first + count, to: y, stride: job.stride)
          }
        }
        return
      }
    }
  }

  /// Largest number of tokens whose product is bound by reading the codes once from memory.
  static let fewTokens = Compute.stepTokens
}

extension nibble_inputs {
  /// Drops the rows before `token`; scales and sums keep their stride of `total` tokens.
  fileprivate mutating func advance(to token: Int, count: Int, of total: Int, isInteger: Bool) {
    unsafe values = values + token * stride * (isInteger ? 1 : 4)
    if let scales = unsafe scales { unsafe self.scales = scales + token }
    if let sums = unsafe sums { unsafe self.sums = sums + token }
    unsafe tokens = count
  }
}
