import CNibble

extension Compute {
  /// Whether `feedForward` can run these weights for `tokens` tokens: on tiles, with float inputs,
  /// and with gate and up in the same layout.
  public func runsFeedForward(
    _ gate: PreparedWeight, _ up: PreparedWeight, _ down: PreparedWeight, tokens: Int
  ) -> Bool {
    runsGated(gate, up, tokens: tokens) && down.weight.inputRounding == nil
      && down.weight.inputOrder.isEmpty
  }

  /// Whether `gated` can run these weights for `tokens` tokens.
  public func runsGated(_ gate: PreparedWeight, _ up: PreparedWeight, tokens: Int) -> Bool {
    usesTiles && tokens > Self.stepTokens && gate.weight.inputRounding == nil
      && up.weight.inputRounding == nil && gate.weight.inputOrder == up.weight.inputOrder
      && packed(gate, parts: parts) == packed(up, parts: parts)
  }

  /// `y = silu(x · Gᵀ) · (x · Uᵀ)`: x `[t, hidden]`, y `[t, n]`, overwritten.
  ///
  /// The result has the same bits as the separate steps. The two products stay in cache.
  ///
  /// - Precondition: `runsGated`.
  public func gated(
    _ x: Span<Float>, gate: PreparedWeight, up: PreparedWeight, into y: inout MutableSpan<Float>
  ) {
    let (k, n) = (gate.weight.columns, gate.weight.rows)
    let t = x.count / k
    precondition(x.count == t * k, "\(x.count) values are not rows of \(k)")
    precondition(up.weight.columns == k && up.weight.rows == n)
    precondition(y.count == t * n, "\(y.count) results of \(t) tokens")
    precondition(runsGated(gate, up, tokens: t))
    let (layout, weights) = (TileLayout.floats(parts: parts), packed(gate, parts: parts))
    unsafe x.withUnsafeBufferPointer { x in
      unsafe y.withUnsafeMutableBufferPointer { y in
        let inputs = unsafe ProductInputs(x.baseAddress!, tokens: t, for: gate.weight, on: self)
        let isPacked = gate.tiles != nil && up.tiles != nil
        for part in isPacked ? [0..<n] : gate.weight.chunks {
          unsafe TileProduct.run(
            inputs.tiles!, layout, tokens: t, scales: nil,
            up.tiles(of: part, .floats(parts: weights), in: .weights, on: self),
            .floats(parts: weights),
            gate: gate.tiles(of: part, .floats(parts: weights), in: .gates, on: self), inputs: k,
            ProductTarget(y: y.baseAddress! + part.lowerBound, stride: n, outputs: part.count),
            on: self)
        }
      }
    }
  }

  /// `y = (silu(x · Gᵀ) · (x · Uᵀ)) · Dᵀ`: x and y `[t, hidden]`, y overwritten.
  ///
  /// The result has the same bits as the separate steps. Intermediate values stay in tiles.
  ///
  /// - Precondition: `runsFeedForward`.
  public func feedForward(
    _ x: Span<Float>, gate: PreparedWeight, up: PreparedWeight, down: PreparedWeight,
    into y: inout MutableSpan<Float>
  ) {
    let (k, n) = (gate.weight.columns, gate.weight.rows)
    let t = x.count / k
    precondition(x.count == t * k, "\(x.count) values are not rows of \(k)")
    precondition(up.weight.columns == k && up.weight.rows == n && down.weight.columns == n)
    precondition(y.count == t * down.weight.rows, "\(y.count) results of \(t) tokens")
    precondition(runsFeedForward(gate, up, down, tokens: t))
    let layout = TileLayout.floats(parts: parts)
    let (weights, ending) = (packed(gate, parts: parts), packed(down, parts: parts))
    let hidden = unsafe scratch.take(.hidden, layout.bytes(t, n))
    unsafe x.withUnsafeBufferPointer { x in
      let inputs = unsafe ProductInputs(x.baseAddress!, tokens: t, for: gate.weight, on: self)
      for part in gate.weight.chunks {
        let g = unsafe gate.tiles(of: part, .floats(parts: weights), in: .gates, on: self)
        let u = unsafe up.tiles(of: part, .floats(parts: weights), in: .weights, on: self)
        unsafe TileProduct.gated(
          inputs.tiles!, tokens: t, gate: g, up: u, inputs: k, outputs: part.count, parts: parts,
          weightParts: weights, into: hidden + layout.step(part.lowerBound),
          outStep: layout.step(n), on: self)
      }
    }
    unsafe y.withUnsafeMutableBufferPointer { y in
      let rows = down.weight.rows
      for part in down.tiles == nil ? down.weight.chunks : [0..<rows] {
        unsafe TileProduct.run(
          UnsafeRawPointer(hidden), layout, tokens: t, scales: nil,
          down.tiles(of: part, .floats(parts: ending), in: .weights, on: self),
          .floats(parts: ending), inputs: n,
          ProductTarget(y: y.baseAddress! + part.lowerBound, stride: rows, outputs: part.count),
          on: self)
      }
    }
  }

  private func packed(_ weight: PreparedWeight, parts: Int) -> Int {
    guard case .floats(let count) = weight.weight.packedLayout(for: .floats(parts: parts)) else {
      preconditionFailure("inputs in \(parts) parts")
    }
    return count
  }
}
