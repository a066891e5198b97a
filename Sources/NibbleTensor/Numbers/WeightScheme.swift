/// How one weight is stored: its number format, and which values share a scale.
public struct WeightScheme: Hashable, Sendable, Codable {
  public enum Granularity: Hashable, Sendable, Codable {
    case tensor
    /// One scale per output (row).
    case channel
    /// One scale per group of neighbouring inputs of each output.
    case group(Int)
    /// One scale per rectangle of outputs and inputs; the last ones may be smaller.
    case block(rows: Int, columns: Int)
    /// One scale per block of rows, for this many equal blocks: coarser than per channel. Source:
    /// ZeroQuant.
    case rowGroups(Int)

    /// Whether outputs share scales.
    public var sharesRows: Bool {
      switch self {
      case .channel, .group: false
      case .tensor, .block, .rowGroups: true
      }
    }
  }

  public var format: Format
  public var granularity: Granularity

  public init(format: Format, granularity: Granularity) {
    self.format = format
    self.granularity = granularity
  }

  /// Bits that a code takes in memory: 4 or 8.
  public var bits: Int { format.numbers.bits <= 4 ? 4 : 8 }

  /// Divisor of the largest magnitude that gives the scale: half the width of the code range. With
  /// row groups it is ZeroQuant's `2^(bits-1)`, which clips the largest value by up to one code.
  public var largestCode: Float {
    if case .integer(let bits) = format.numbers, case .rowGroups = granularity {
      Float(1 << (bits - 1))
    } else {
      format.numbers.largest
    }
  }

  /// Whether codes carry zero points.
  public var hasZeroPoints: Bool { format.hasZeroPoints }

  /// Whether one float belongs to all scales of the weight: the scale itself, or what E4M3 scales
  /// are relative to. Layers that an engine fuses must have the same.
  public var hasTensorScale: Bool {
    format.scales == .e4m3 || format == .e4m3 && granularity == .tensor
  }

  /// Whether a weight of this shape can be stored. Groups must divide the inputs and row groups the
  /// outputs; values that share a scale must fill whole bytes of a row; zero points need
  /// per-channel or per-group scales; formats with coded scales have groups of one size.
  public func fits(outputs: Int, inputs: Int) -> Bool {
    let (divides, takesZeros): (Bool, Bool) =
      switch granularity {
      case .tensor: (true, false)
      case .channel: (true, true)
      case .group(let size): (size > 0 && inputs.isMultiple(of: size), true)
      case .block(let rows, let columns): (rows > 0 && columns > 0, false)
      case .rowGroups(let count): (count > 0 && outputs.isMultiple(of: count), false)
      }
    guard divides, inputs > 0, takesZeros || !(hasZeroPoints || format.hasOffsets),
      format.group.map({ granularity == .group($0) }) ?? true
    else { return false }
    let span = grid(outputs: outputs, inputs: inputs).columns
    return (span * bits).isMultiple(of: 8) && (inputs * bits).isMultiple(of: 8)
  }

  /// The rectangles that share a scale in a weight of this shape, which must fit.
  public func grid(outputs: Int, inputs: Int) -> ScaleGrid {
    switch granularity {
    case .tensor: ScaleGrid(rows: max(1, outputs), columns: inputs, outputs: 1, inputs: inputs)
    case .channel: ScaleGrid(rows: 1, columns: inputs, outputs: outputs, inputs: inputs)
    case .group(let size): ScaleGrid(rows: 1, columns: size, outputs: outputs, inputs: inputs)
    case .block(let rows, let columns):
      ScaleGrid(
        rows: rows, columns: min(columns, inputs), outputs: outputs, inputs: inputs)
    case .rowGroups(let count):
      ScaleGrid(
        rows: max(1, outputs / count), columns: inputs, outputs: outputs, inputs: inputs)
    }
  }

  /// Scales per row of `inputs` values.
  public func scalesPerRow(inputs: Int) -> Int { grid(outputs: 1, inputs: inputs).perRow }
}

/// A weight `[n, k]` cut into rectangles that share a scale; the last ones may be smaller.
public struct ScaleGrid: Hashable, Sendable {
  /// Outputs per rectangle.
  public let rows: Int
  /// Inputs per rectangle.
  public let columns: Int
  /// Rectangles along the outputs.
  public let bands: Int
  /// Rectangles along the inputs.
  public let perRow: Int

  init(rows: Int, columns: Int, outputs: Int, inputs: Int) {
    self.rows = rows
    self.columns = columns
    bands = (outputs + rows - 1) / rows
    perRow = (inputs + columns - 1) / max(1, columns)
  }

  /// Number of scales, whose shape is `[bands, perRow]`, row-major.
  public var count: Int { bands * perRow }

  /// Index of the first scale of an output's row; the row's others follow it.
  public func index(row: Int) -> Int { row / rows * perRow }
}

extension WeightScheme: CustomStringConvertible {
  public var description: String {
    let granularity =
      switch granularity {
      case .tensor: "per tensor"
      case .channel: "per channel"
      case .group(let size): "groups of \(size)"
      case .block(let rows, let columns): "blocks of \(rows)x\(columns)"
      case .rowGroups(let count): "\(count) groups of rows"
      }
    return "\(format), \(granularity)"
  }
}
