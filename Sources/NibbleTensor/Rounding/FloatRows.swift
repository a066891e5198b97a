import CNibble

/// A float matrix `[n, k]` that steps change while they work on a block.
public struct FloatRows: Sendable, Hashable {
  public let columns: Int
  /// `[n, k]`
  public var values: [Float]

  public var rows: Int { columns == 0 ? 0 : values.count / columns }

  public init(_ values: [Float], columns: Int) {
    precondition(columns > 0 && values.count.isMultiple(of: columns), "\(values.count), \(columns)")
    self.values = values
    self.columns = columns
  }

  /// The same values as a `FloatMatrix`, to run and to quantize.
  public var matrix: FloatMatrix {
    FloatMatrix(
      format: .f32, rows: rows, columns: columns,
      bytes: Bytes(FloatFormat.f32.encode(values.span)))
  }

  /// At most `count` rows, evenly spaced.
  public func spreadRows(_ count: Int) -> FloatRows {
    guard rows > count else { return self }
    let picked = (0..<count).flatMap { index in
      let row = index * rows / count
      return values[row * columns..<(row + 1) * columns]
    }
    return FloatRows(picked, columns: columns)
  }

  /// Multiplies column c by `factors[c]`.
  public mutating func scaleColumns(by factors: [Float], on compute: Compute) {
    precondition(factors.count == columns, "\(factors.count) factors for \(columns) columns")
    let k = columns
    unsafe values.withUnsafeMutableBufferPointer { values in
      unsafe factors.withUnsafeBufferPointer { factors in
        compute.ranges(of: values.count / k, grain: 64) { part, _ in
          for row in part {
            unsafe nibble_multiply(values.baseAddress! + row * k, factors.baseAddress!, k)
          }
        }
      }
    }
  }

  /// Subtracts `centers[c]` from column c.
  public mutating func subtract(_ centers: [Float]) {
    precondition(centers.count == columns, "\(centers.count) centers for \(columns) columns")
    for row in 0..<rows {
      for column in 0..<columns { values[row * columns + column] -= centers[column] }
    }
  }

  /// Multiplies row n by `factors[n]`.
  public mutating func scaleRows(by factors: [Float]) {
    precondition(factors.count == rows, "\(factors.count) factors for \(rows) rows")
    let k = columns
    unsafe values.withUnsafeMutableBufferPointer { values in
      for row in factors.indices {
        unsafe nibble_scale(values.baseAddress! + row * k, factors[row], k)
      }
    }
  }

  /// `Σ_c v[n, c] · x[c]` of each row, summed in double precision.
  public func times(_ x: [Float]) -> [Float] {
    precondition(x.count == columns, "\(x.count) values for \(columns) columns")
    return (0..<rows).map { row in
      var sum = 0.0
      for column in 0..<columns {
        sum += Double(values[row * columns + column]) * Double(x[column])
      }
      return Float(sum)
    }
  }

  /// The mean of each column; 0 without rows.
  public var columnMeans: [Float] {
    var sums = [Double](repeating: 0, count: columns)
    for row in 0..<rows {
      for column in 0..<columns { sums[column] += Double(values[row * columns + column]) }
    }
    return sums.map { Float($0 / Double(max(1, rows))) }
  }

  /// Largest magnitude of each row; on the caller's thread without `compute`.
  public func rowPeaks(on compute: Compute? = nil) -> [Float] {
    var peaks = [Float](repeating: 0, count: rows)
    unsafe values.withUnsafeBufferPointer { values in
      unsafe peaks.withUnsafeMutableBufferPointer { peaks in
        func find(_ part: Range<Int>) {
          for row in part {
            unsafe peaks[row] = nibble_absmax(values.baseAddress! + row * columns, columns)
          }
        }
        if let compute {
          compute.ranges(of: rows, grain: 32) { part, _ in find(part) }
        } else {
          find(0..<rows)
        }
      }
    }
    return peaks
  }

  /// Index of the first value that is infinite or not a number.
  public func firstNonFinite(on compute: Compute) -> Int? {
    rowPeaks(on: compute).firstIndex { !$0.isFinite }.flatMap { row in
      values[(row * columns)...].firstIndex { !$0.isFinite }
    }
  }

  /// Extremes and sums of each column.
  public func columnStatistics(on compute: Compute) -> ColumnStatistics {
    var statistics = ColumnStatistics(channels: columns)
    statistics.add(values, on: compute)
    return statistics
  }

  /// For each span of `span` neighbouring columns (the last may be shorter): `Σ_n p²` with `p =
  /// max_c |v[n, c]| · f[c]`. With `band` above 1, p is the largest over the `band` rows that share
  /// a scale.
  public func squaredPeaks(scaledBy factors: [Float], span: Int, band: Int = 1) -> [Double] {
    precondition(factors.count == columns, "\(factors.count) factors for \(columns) columns")
    var sums = [Double](repeating: 0, count: (columns + span - 1) / span)
    unsafe values.withUnsafeBufferPointer { values in
      unsafe factors.withUnsafeBufferPointer { factors in
        for group in sums.indices {
          for first in stride(from: 0, to: rows, by: band) {
            let rows = first..<min(first + band, rows)
            let peak = rows.reduce(Float(0)) { peak, row in
              max(
                peak,
                unsafe nibble_scaled_peak(
                  values.baseAddress! + row * columns + group * span,
                  factors.baseAddress! + group * span, min(span, columns - group * span)))
            }
            sums[group] += Double(rows.count) * Double(peak) * Double(peak)
          }
        }
      }
    }
    return sums
  }

  /// `Σ weight · e²`, where e is the rounding error of a value times its factor when each row is
  /// rounded to codes `-largest...largest` with its own scale.
  public func roundingEnergy(
    scaledBy factors: [Float], weights: [Float], largest: Float
  ) -> Double {
    precondition(factors.count == columns && weights.count == columns, "\(columns) columns")
    var sum = 0.0
    unsafe values.withUnsafeBufferPointer { values in
      unsafe factors.withUnsafeBufferPointer { factors in
        unsafe weights.withUnsafeBufferPointer { weights in
          for row in 0..<rows {
            unsafe sum += nibble_rounding_energy(
              values.baseAddress! + row * columns, factors.baseAddress!, weights.baseAddress!,
              columns, largest)
          }
        }
      }
    }
    return sum
  }

  /// The weight as floats; codes are dequantized.
  public init(_ weight: Weight, on compute: Compute) {
    let (n, k) = (weight.rows, weight.columns)
    let values = unsafe [Float](unsafeUninitializedCapacity: n * k) { values, initialized in
      let start = values.baseAddress
      compute.ranges(of: n, grain: 32) { part, _ in
        unsafe weight.widen(part, into: start! + part.lowerBound * k)
      }
      initialized = n * k
    }
    self.init(values.inOrder(weight.inputOrder), columns: k)
  }

  /// Adds `factor · other`, element by element.
  public mutating func add(_ other: FloatRows, times factor: Float, on compute: Compute) {
    precondition(values.count == other.values.count, "\(values.count), \(other.values.count)")
    let k = columns
    unsafe values.withUnsafeMutableBufferPointer { values in
      unsafe other.values.withUnsafeBufferPointer { other in
        compute.ranges(of: values.count / k, grain: 32) { part, _ in
          unsafe nibble_add_scaled(
            values.baseAddress! + part.lowerBound * k, other.baseAddress! + part.lowerBound * k,
            factor, part.count * k)
        }
      }
    }
  }

  /// `Σ importance[c] · (v - v̂)²` over all rows, with v̂ quantized with one range.
  public func roundingError(
    _ range: InputRange, _ format: ActivationScheme.Format, importance: [Float],
    on compute: Compute
  ) -> Double {
    let k = columns
    var sums = [Double](repeating: 0, count: rows)
    unsafe sums.withUnsafeMutableBufferPointer { sums in
      unsafe values.withUnsafeBufferPointer { values in
        unsafe importance.withUnsafeBufferPointer { importance in
          compute.ranges(of: sums.count, grain: 32) { part, _ in
            for row in part {
              let x = unsafe values.baseAddress! + row * k
              let error =
                format == .e4m3
                ? unsafe nibble_grid_error_e4m3(x, importance.baseAddress!, k, range.scale)
                : unsafe nibble_grid_error_int(
                  x, importance.baseAddress!, k, range.scale, range.zero, -128, 127)
              unsafe sums[row] = Double(error)
            }
          }
        }
      }
    }
    return sums.reduce(0, +)
  }

  /// `Σ v · M · vᵀ` over the rows, M `[k, k]`.
  public func energy(under moments: PreparedWeight, on compute: Compute) -> Double {
    let k = columns
    var product = [Float](repeating: 0, count: values.count)
    var out = product.mutableSpan
    moments.multiply(values.span, into: &out, on: compute)
    var sums = [Double](repeating: 0, count: rows)
    unsafe sums.withUnsafeMutableBufferPointer { sums in
      unsafe values.withUnsafeBufferPointer { values in
        unsafe product.withUnsafeBufferPointer { product in
          compute.ranges(of: sums.count, grain: 32) { part, _ in
            for row in part {
              unsafe sums[row] = Double(
                nibble_dot_f32(values.baseAddress! + row * k, product.baseAddress! + row * k, k))
            }
          }
        }
      }
    }
    return sums.reduce(0, +)
  }
}
