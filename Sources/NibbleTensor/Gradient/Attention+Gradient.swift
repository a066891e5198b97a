import Foundation

/// Causal attention of a whole sequence. Inputs: queries `[t, heads · d]`, keys and values
/// `[t, keyHeads · d]`, and sinks `[1, heads]` or nothing.
///
/// With u the changed scores and P their softmax, of which nothing is kept:
///
///     D_i = Σ_d g_o o,  dP = g_o vᵀ,  du = P (dP - D) (1 - (u / cap)²)
///     g_q = scale · du k,  g_k = scale · duᵀ q,  g_v = Pᵀ g_o,  g_sink = -Σ_i P_sink D_i
///
/// P is computed again for a slab of queries at a time.
package struct AttentionPrimitive: Primitive {
  let attention: Attention

  package init(_ attention: Attention) { self.attention = attention }

  package func forward(_ inputs: [FloatRows], on compute: Compute) -> FloatRows {
    let (q, k, v) = (inputs[0], inputs[1], inputs[2])
    let store = KeyValueStore(attention, capacity: q.rows)
    store.store(keys: k.values.span, values: v.values.span, at: 0, on: compute)
    var attended = [Float](repeating: 0, count: q.values.count)
    var out = attended.mutableSpan
    attention.attend(
      q.values.span, store, from: 0, keys: k.values.span, values: v.values.span,
      sinks: inputs.count > 3 ? inputs[3].values : nil, into: &out, on: compute)
    return FloatRows(attended, columns: q.columns)
  }

  package func backward(
    _ gradient: FloatRows, _ inputs: [FloatRows], _ output: FloatRows, needed: [Bool],
    on compute: Compute
  ) -> [FloatRows?] {
    let (q, k, v) = (inputs[0], inputs[1], inputs[2])
    let sinks = inputs.count > 3 ? inputs[3].values : nil
    let (heads, d) = (attention.heads, attention.headSize)
    let (t, group) = (q.rows, attention.heads / attention.keyHeads)
    var ofQueries = [Float](repeating: 0, count: q.values.count)
    var ofSinks = [Float](repeating: 0, count: heads)
    // Of keys and of values, `[heads, 2, t, d]`: a task owns one query head.
    var ofHeads = [Float](repeating: 0, count: heads * 2 * t * d)
    unsafe ofQueries.withUnsafeMutableBufferPointer { gq in
      unsafe ofSinks.withUnsafeMutableBufferPointer { gs in
        unsafe ofHeads.withUnsafeMutableBufferPointer { gh in
          compute.pool.run(heads) { head, _ in
            let at = unsafe gh.baseAddress! + head * 2 * t * d
            let backward = HeadBackward(
              attention: attention, head: head, sink: sinks?[head],
              keys: Self.head(head / group, of: k, d), values: Self.head(head / group, of: v, d),
              outputs: Self.head(head, of: output, d), gradient: Self.head(head, of: gradient, d))
            unsafe q.values.withUnsafeBufferPointer { q in
              for first in stride(from: 0, to: t, by: HeadBackward.grain) {
                let tokens = min(HeadBackward.grain, t - first)
                let row = first * heads * d + head * d
                unsafe gs[head] += backward.run(
                  q.baseAddress! + row, tokens: tokens, from: first,
                  into: gq.baseAddress! + row, at, at + t * d)
              }
            }
          }
        }
      }
    }
    var gradients: [FloatRows?] = [FloatRows(ofQueries, columns: q.columns)]
    for part in 0..<2 {
      var sums = [Float](repeating: 0, count: k.values.count)
      for head in 0..<heads {
        for token in 0..<t {
          let from = ((head * 2 + part) * t + token) * d
          let to = token * k.columns + head / group * d
          for i in 0..<d { sums[to + i] += ofHeads[from + i] }
        }
      }
      gradients.append(FloatRows(sums, columns: k.columns))
    }
    if sinks != nil { gradients.append(FloatRows(ofSinks, columns: heads)) }
    return gradients
  }

  /// One head of `[t, heads · d]`, `[t, d]`.
  private static func head(_ head: Int, of rows: FloatRows, _ d: Int) -> [Float] {
    var values: [Float] = []
    values.reserveCapacity(rows.rows * d)
    for row in 0..<rows.rows {
      let first = row * rows.columns + head * d
      values += rows.values[first..<first + d]
    }
    return values
  }
}

/// The backward pass of one query head.
private struct HeadBackward {
  /// Queries per slab.
  static let grain = 128

  let attention: Attention
  let head: Int
  let sink: Float?
  /// `[t, d]`
  let keys: [Float]
  let values: [Float]
  let outputs: [Float]
  let gradient: [Float]

  /// A slab of queries from position `first` on. Adds to the gradients of keys and values.
  ///
  /// - Parameters:
  ///   - q: in rows of all heads, as `gq`.
  ///   - gk: `[t, d]`, as `gv`.
  /// - Returns: the slab's part of the sink's gradient.
  func run(
    _ q: UnsafePointer<Float>, tokens: Int, from first: Int,
    into gq: UnsafeMutablePointer<Float>, _ gk: UnsafeMutablePointer<Float>,
    _ gv: UnsafeMutablePointer<Float>
  ) -> Float {
    let (d, width) = (attention.headSize, attention.heads * attention.headSize)
    let seen = attention.seen(by: tokens, from: first)
    let (start, length) = (seen.lowerBound, seen.count)
    var weights = [Float](repeating: 0, count: tokens * length)
    var changes = weights
    let caps = unsafe capped(q, tokens: tokens, seen)
    var ofSink = 0.0
    unsafe weights.withUnsafeMutableBufferPointer { weights in
      unsafe changes.withUnsafeMutableBufferPointer { changes in
        unsafe keys.withUnsafeBufferPointer { keys in
          unsafe values.withUnsafeBufferPointer { values in
            unsafe gradient.withUnsafeBufferPointer { gradient in
              let (p, du) = (weights.baseAddress!, changes.baseAddress!)
              let go = unsafe gradient.baseAddress! + first * d
              unsafe attention.weigh(
                q, keys.baseAddress!, p, tokens: tokens, from: first, head: head, sink: sink)
              unsafe PlainProduct.multiplyTransposed(
                go, values.baseAddress! + start * d, du, tokens, length, d, yStride: length)
              unsafe PlainProduct.accumulate(
                turned: p, length, go, d, into: gv + start * d, length, d, tokens)
              for token in 0..<tokens {
                var along: Float = 0
                for i in 0..<d {
                  unsafe along += go[token * d + i] * outputs[(first + token) * d + i]
                }
                var sum = 0.0
                for i in token * length..<(token + 1) * length {
                  unsafe sum += Double(p[i])
                  unsafe du[i] = p[i] * (du[i] - along) * (caps.isEmpty ? 1 : caps[i])
                }
                if sink != nil { ofSink -= (1 - sum) * Double(along) }
              }
              // The factor of the scores belongs to both products.
              for i in 0..<tokens * length { unsafe du[i] *= attention.scale }
              unsafe PlainProduct.multiply(
                du, keys.baseAddress! + start * d, gq, tokens, d, length, aStride: length,
                yStride: width)
              unsafe PlainProduct.accumulate(
                turned: du, length, q, width, into: gk + start * d, yStride: d, length, d,
                tokens)
            }
          }
        }
      }
    }
    return Float(ofSink)
  }

  /// `1 - (u / cap)²` of each score; empty without a cap.
  private func capped(
    _ q: UnsafePointer<Float>, tokens: Int, _ seen: Range<Int>
  ) -> [Float] {
    guard let cap = attention.softCap else { return [] }
    let d = attention.headSize
    var scores = [Float](repeating: 0, count: tokens * seen.count)
    unsafe scores.withUnsafeMutableBufferPointer { scores in
      unsafe keys.withUnsafeBufferPointer { keys in
        unsafe PlainProduct.multiplyTransposed(
          q, keys.baseAddress! + seen.lowerBound * d, scores.baseAddress!, tokens, seen.count, d,
          alpha: attention.scale, aStride: attention.heads * d, yStride: seen.count)
      }
    }
    return scores.map {
      let t = tanh($0 / cap)
      return 1 - t * t
    }
  }
}
