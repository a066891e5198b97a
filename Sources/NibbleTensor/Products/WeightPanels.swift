import CNibble

/// A quantized weight packed for the kernels: panels of 16 outputs, with codes in the order in
/// which a dot product of four int8 pairs reads them, and scales and zero points beside them.
///
/// As large as the codes, read from start to end once per product. Every instruction set
/// (CNibble/sets) has a kernel for them. The memory of the original codes can be released.
@safe final class WeightPanels: @unchecked Sendable {
  // Sendable by hand: written only by init.
  let matrix: QuantizedMatrix
  let groups: ProductGroups
  let codes: UnsafeMutableRawPointer
  private let scales: [Float]
  private let zeros: [Int8]
  /// `[panels, scales, 16]`; empty without offsets.
  private let offsets: [Float]
  private let sums: [Int32]

  /// Outputs per panel.
  static let height = 16

  /// Whether panels can hold a weight whose scales are constant in these groups.
  static func hold(_ matrix: QuantizedMatrix, _ groups: ProductGroups) -> Bool {
    // Codes that are looked up in a table are read in place.
    matrix.table.isEmpty && (groups.count == 1 || groups.width.isMultiple(of: 8))
  }

  /// - Parameter inputZero: whether inputs have a zero point, so that sums of the codes are needed.
  init(_ matrix: QuantizedMatrix, _ groups: ProductGroups, inputZero: Bool, on compute: Compute) {
    let (n, k, height) = (matrix.rows, matrix.columns, Self.height)
    precondition(Self.hold(matrix, groups), "panels of \(matrix.scheme), groups of \(groups.width)")
    self.matrix = matrix
    self.groups = groups
    let format = Self.format(matrix.scheme)
    let bytes = nibble_panel_bytes(n, k, format)
    unsafe codes = UnsafeMutableRawPointer.allocate(byteCount: max(64, bytes), alignment: 64)
    unsafe ProcessMemory.useLargePages(codes, bytes: bytes)
    let panels = (n + height - 1) / height
    let (grid, perRow) = (matrix.grid, matrix.grid.perRow)
    var scales = [Float](repeating: 0, count: panels * perRow * height)
    var zeros = [Int8](repeating: 0, count: matrix.zeroPoints.isEmpty ? 0 : scales.count)
    var offsets = [Float](repeating: 0, count: matrix.offsets.isEmpty ? 0 : scales.count)
    for row in 0..<n {
      let first = grid.index(row: row)
      for group in 0..<perRow {
        let at = (row / height * perRow + group) * height + row % height
        scales[at] = matrix.scales[first + group]
        if !zeros.isEmpty { zeros[at] = matrix.zeroPoints[first + group] }
        if !offsets.isEmpty { offsets[at] = matrix.offsets[first + group] }
      }
    }
    self.scales = scales
    self.zeros = zeros
    self.offsets = offsets
    let step = nibble_panel_bytes(1, k, format)
    let rowBytes = k * matrix.scheme.bits / 8
    let out = unsafe codes
    // Compressed rows are read in the bands in which they are decompressed.
    compute.ranges(of: panels, grain: CompressedRows.band / height) { part, _ in
      let rows = part.lowerBound * height..<min(part.upperBound * height, n)
      let codes = matrix.codes[rows.lowerBound * rowBytes..<rows.upperBound * rowBytes]
      unsafe codes.withUnsafeBytes {
        unsafe nibble_pack_panels(
          $0.baseAddress!.assumingMemoryBound(to: UInt8.self),
          (out + part.lowerBound * step).assumingMemoryBound(to: UInt8.self), rows.count, k, format)
      }
    }
    sums = inputZero ? Self.codeSums(matrix, groups, panels: panels, on: compute) : []
  }

  deinit { unsafe codes.deallocate() }

  /// Sums of `code - zero` over each group, `[panels, groups, 16]`.
  private static func codeSums(
    _ matrix: QuantizedMatrix, _ groups: ProductGroups, panels: Int, on compute: Compute
  ) -> [Int32] {
    let k = matrix.columns
    var sums = [Int32](repeating: 0, count: panels * groups.count * height)
    unsafe sums.withUnsafeMutableBufferPointer { sums in
      compute.ranges(of: matrix.rows, grain: CompressedRows.band) { part, _ in
        unsafe withUnsafeTemporaryAllocation(of: Float.self, capacity: part.count * k) { values in
          unsafe matrix.decode(part, into: values.baseAddress!, unscaled: true)
          for row in part {
            let line = unsafe values.baseAddress! + (row - part.lowerBound) * k
            for group in 0..<groups.count {
              var sum: Int32 = 0
              for input in groups.inputs(of: group, columns: k) {
                unsafe sum += Int32(line[input])
              }
              let at = (row / height * groups.count + group) * height + row % height
              unsafe sums[at] = sum
            }
          }
        }
      }
    }
    return sums
  }

  static func format(_ scheme: WeightScheme) -> Int32 {
    switch scheme.format.numbers {
    case .integer(let bits) where bits <= 4: Int32(NIBBLE_INT4)
    case .integer: Int32(NIBBLE_INT8)
    case .minifloat(.e4m3): Int32(NIBBLE_E4M3)
    case .minifloat: preconditionFailure("panels hold no \(scheme.format)")
    }
  }

  /// Calls `body` with the struct that the kernels read.
  func withPanels(_ body: (UnsafePointer<nibble_panels>) -> Void) {
    unsafe scales.withUnsafeBufferPointer { scales in
      unsafe zeros.withUnsafeBufferPointer { zeros in
        unsafe sums.withUnsafeBufferPointer { sums in
          var panels = unsafe nibble_panels(
            codes: UnsafePointer(codes.assumingMemoryBound(to: UInt8.self)),
            outputs: matrix.rows, columns: matrix.columns, group: groups.width,
            scale_span: groups.perWeightScale, scales: scales.baseAddress!,
            zeros: zeros.isEmpty ? nil : zeros.baseAddress!,
            sums: sums.isEmpty ? nil : sums.baseAddress!, format: Self.format(matrix.scheme))
          unsafe body(&panels)
        }
      }
    }
  }

  /// Some rows as floats, `[rows, k]`. With `unscaled`, the scales are left out.
  func decode(_ part: Range<Int>, into out: UnsafeMutablePointer<Float>, unscaled: Bool) {
    unsafe withPanels {
      unsafe nibble_panels_decode($0, part.lowerBound, part.count, out, unscaled ? 1 : 0)
    }
    if !unscaled { unsafe matrix.addOffsets(part, to: out) }
  }

  /// Adds the offsets' share to products of some panels: `y[t, n] += Σ_g sums[t, g] · offset[n, g]`,
  /// in the order of the groups. `y` points at output 0.
  func addOffsets(
    _ sums: UnsafePointer<Float>, tokens: Int, panels: Range<Int>,
    to y: UnsafeMutablePointer<Float>,
    stride: Int
  ) {
    let (height, perRow) = (Self.height, matrix.grid.perRow)
    unsafe offsets.withUnsafeBufferPointer { offsets in
      for panel in panels {
        unsafe nibble_add_offsets(
          sums, tokens, perRow, offsets.baseAddress! + panel * perRow * height,
          y + panel * height, stride, min(height, matrix.rows - panel * height))
      }
    }
  }
}
