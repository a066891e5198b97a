import CNibble

extension FloatRows {
  /// `A · Bᵀ`, `[m, n]`, of these rows A `[m, k]` and B `[n, k]`, in float.
  package func times(transposed other: FloatRows, on compute: Compute) -> FloatRows {
    precondition(other.columns == columns, "\(columns) columns times \(other.columns)")
    let (m, n, k) = (rows, other.rows, columns)
    let tokensAtOnce = slab(inputs: k)
    let outputsAtOnce = 256
    let across = (n + outputsAtOnce - 1) / outputsAtOnce
    let product = unsafe [Float](unsafeUninitializedCapacity: m * n) { y, initialized in
      let y = y.baseAddress
      unsafe values.withUnsafeBufferPointer { a in
        unsafe other.values.withUnsafeBufferPointer { b in
          compute.pool.run((m + tokensAtOnce - 1) / tokensAtOnce * across) { task, _ in
            let (row, column) = (task / across * tokensAtOnce, task % across * outputsAtOnce)
            unsafe PlainProduct.multiplyTransposed(
              a.baseAddress! + row * k, b.baseAddress! + column * k, y! + row * n + column,
              min(tokensAtOnce, m - row), min(outputsAtOnce, n - column), k, yStride: n)
          }
        }
      }
      initialized = m * n
    }
    return FloatRows(product, columns: n)
  }

  /// `A · B`, `[m, p]`, of these rows A `[m, k]` and B `[k, p]`, in float.
  package func times(_ other: FloatRows, on compute: Compute) -> FloatRows {
    precondition(other.rows == columns, "\(columns) columns times \(other.rows) rows")
    let (m, k, p) = (rows, columns, other.columns)
    let product = unsafe [Float](unsafeUninitializedCapacity: m * p) { y, initialized in
      let y = y.baseAddress
      unsafe values.withUnsafeBufferPointer { a in
        unsafe other.values.withUnsafeBufferPointer { b in
          compute.ranges(of: m, grain: 64) { part, _ in
            unsafe PlainProduct.multiply(
              a.baseAddress! + part.lowerBound * k, b.baseAddress!, y! + part.lowerBound * p,
              part.count, p, k, aStride: k, yStride: p)
          }
        }
      }
      initialized = m * p
    }
    return FloatRows(product, columns: p)
  }

  /// `A · W`, `[m, k]`, of these rows A `[m, n]` and a stored weight W `[n, k]`, which is widened by
  /// slabs of its rows.
  package func times(_ weight: Weight, on compute: Compute) -> FloatRows {
    precondition(weight.rows == columns, "\(columns) columns times \(weight.rows) rows")
    precondition(weight.inputOrder.isEmpty, "columns in an order of their own")
    let (m, n, k) = (rows, columns, weight.columns)
    let (slab, lanes) = (512, 8)
    let slabs = (n + slab - 1) / slab
    // Each lane adds the products of every eighth slab, so that the sums do not depend on the number
    // of threads.
    var sums = [Float](repeating: 0, count: lanes * m * k)
    unsafe sums.withUnsafeMutableBufferPointer { sums in
      unsafe values.withUnsafeBufferPointer { a in
        compute.pool.run(min(lanes, slabs)) { lane, _ in
          let y = unsafe sums.baseAddress! + lane * m * k
          unsafe withUnsafeTemporaryAllocation(of: Float.self, capacity: slab * k) { wide in
            for index in stride(from: lane, to: slabs, by: lanes) {
              let part = index * slab..<min((index + 1) * slab, n)
              unsafe weight.widen(part, into: wide.baseAddress!)
              unsafe PlainProduct.multiply(
                a.baseAddress! + part.lowerBound, wide.baseAddress!, y, m, k, part.count,
                aStride: n, yStride: k, beta: 1)
            }
          }
        }
        for lane in 1..<lanes {
          unsafe nibble_add(sums.baseAddress!, sums.baseAddress! + lane * m * k, m * k)
        }
      }
    }
    return FloatRows(Array(sums[..<(m * k)]), columns: k)
  }

  /// `Aᵀ · B`, `[m, n]`, of these rows A `[t, m]` and B `[t, n]`, in float.
  package func turned(times other: FloatRows, on compute: Compute) -> FloatRows {
    precondition(other.rows == rows, "\(rows) rows times \(other.rows)")
    var product = [Float](repeating: 0, count: columns * other.columns)
    PlainProduct.add(
      turned: values, columns, times: other.values, other.columns, to: &product, on: compute)
    return FloatRows(product, columns: other.columns)
  }
}

extension PlainProduct {
  /// `y[m, n] += a[t, m]ᵀ · b[t, n]`. Each value of `y` is summed by one thread.
  static func add(
    turned a: [Float], _ m: Int, times b: [Float], _ n: Int, to y: inout [Float],
    on compute: Compute
  ) {
    let tokens = a.count / max(1, m)
    guard tokens > 0 else { return }
    let (height, width) = (128, 256)
    let across = (n + width - 1) / width
    unsafe y.withUnsafeMutableBufferPointer { y in
      unsafe a.withUnsafeBufferPointer { a in
        unsafe b.withUnsafeBufferPointer { b in
          compute.pool.run((m + height - 1) / height * across) { task, _ in
            let (row, column) = (task / across * height, task % across * width)
            unsafe accumulate(
              turned: a.baseAddress! + row, m, b.baseAddress! + column, n,
              into: y.baseAddress! + row * n + column, min(height, m - row),
              min(width, n - column), tokens)
          }
        }
      }
    }
  }
}
