import CNibble

extension Compute {
  /// Whether `feedForward` runs these weights for `tokens` tokens: on tiles, with inputs that stay
  /// floats, gate and up alike.
  public func runsFeedForward(
    _ gate: PreparedWeight, _ up: PreparedWeight, _ down: PreparedWeight, tokens: Int
  ) -> Bool {
    usesTiles && tokens > 4
      && [gate, up, down].allSatisfy { $0.weight.inputRounding == nil }
      && packed(gate, parts: parts) == packed(up, parts: parts)
  }

  /// `y = (silu(x · Gᵀ) · (x · Uᵀ)) · Dᵀ`: x and y `[t, hidden]`, y overwritten.
  ///
  /// The same bits as the steps one by one; what lies between stays in tiles.
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
