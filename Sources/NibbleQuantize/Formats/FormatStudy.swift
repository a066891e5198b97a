import Foundation
public import NibbleFormats
public import NibbleModel
public import NibbleTensor

/// How well the numbers of each format fit a model: the error of its weights, with one scale per
/// channel, and of what enters its linears, with one scale per tensor.
///
/// Scales map the largest magnitude to the format's largest number; nothing is searched. Source of
/// the comparison: "FP8 versus INT8 for efficient deep learning inference", arXiv 2303.17951.
public struct FormatStudy: Sendable, Hashable {
  /// The errors of one tensor.
  public struct Tensor: Sendable, Hashable {
    public enum Kind: String, Sendable, Hashable { case weight, input }

    public var kind: Kind
    /// Module path of the linear; of an input, of the first linear that reads it.
    public var path: String
    /// Power of the values over that of their rounding errors, in dB, by format; infinite without
    /// errors.
    public var signalToNoise: [NumberFormat: Double]

    /// The formats of a width, the best first; of equal ones integers first.
    public func ranked(_ formats: [NumberFormat]) -> [NumberFormat] {
      formats.enumerated().sorted { a, b in
        let (x, y) = (signalToNoise[a.element] ?? 0, signalToNoise[b.element] ?? 0)
        return x == y ? a.offset < b.offset : x > y
      }.map(\.element)
    }
  }

  public var tensors: [Tensor]

  /// - Parameters:
  ///   - statistics: of the model's activations, from `nibble calibrate`; nil: weights alone.
  ///   - progress: called after each block.
  /// - Throws: when the family is unknown, a weight is not finite, or the statistics are another
  ///   model's.
  public init(
    of checkpoint: Checkpoint, statistics: StatisticsFile? = nil, on compute: Compute,
    progress: (_ done: Int, _ total: Int) -> Void = { _, _ in }
  ) throws(QuantizeError) {
    try statistics?.check(checkpoint)
    let shape: DecoderShape
    do { shape = try checkpoint.decoderShape() } catch { throw .model(error) }
    tensors = []
    for (index, block) in shape.blocks.enumerated() {
      let weights: Block
      do { weights = try Block(block, from: checkpoint) } catch { throw .model(error) }
      for linear in block.linears where linear.stack == nil && !linear.staysFloat {
        guard let weight = weights.linears[linear.id]?.weight else { continue }
        let path = block.path(of: linear.id)
        let rows = FloatRows(weight, on: compute)
        if let bad = rows.firstNonFinite(on: compute) {
          throw .nonFinite(tensor: path + ".weight", index: bad)
        }
        tensors.append(
          Tensor(
            kind: .weight, path: path,
            signalToNoise: Self.signalToNoise(of: rows, peak: nil, on: compute)))
        weight.release()
      }
      for site in block.sites {
        guard let statistics, let first = site.linears.first else { continue }
        let seen = ActivationStatistics(
          try statistics.record(index, site.site), moments: nil)
        guard seen.channels == site.width else {
          throw .statistics(path: statistics.path, reason: "its records have other sizes")
        }
        guard seen.tokens > 0 else { continue }
        tensors.append(
          Tensor(
            kind: .input, path: block.path(of: first.id),
            signalToNoise: Self.signalToNoise(
              of: seen.sample, peak: seen.columns.peaks.max() ?? 0, on: compute)))
      }
      progress(index + 1, shape.blocks.count)
    }
  }

  private static func signalToNoise(
    of rows: FloatRows, peak: Float?, on compute: Compute
  ) -> [NumberFormat: Double] {
    let energy = rows.energy
    var found: [NumberFormat: Double] = [:]
    for format in NumberFormat.eightBits + NumberFormat.fourBits {
      let error = rows.roundingEnergy(format, peak: peak, on: compute)
      found[format] = error > 0 ? 10 * log10(energy / error) : .infinity
    }
    return found
  }

  /// How many tensors of a kind each of the formats fits best.
  public func wins(_ kind: Tensor.Kind, _ formats: [NumberFormat]) -> [NumberFormat: Int] {
    tensors.filter { $0.kind == kind }.reduce(into: [:]) { wins, tensor in
      if let best = tensor.ranked(formats).first { wins[best, default: 0] += 1 }
    }
  }

  public var json: JSON {
    func counts(_ kind: Tensor.Kind, _ formats: [NumberFormat]) -> JSON {
      let wins = wins(kind, formats)
      var json: JSON = [:]
      for format in formats { json.set("\(format)", JSON(wins[format] ?? 0)) }
      return json
    }
    return [
      "best_of_8_bits": [
        "weights": counts(.weight, NumberFormat.eightBits),
        "inputs": counts(.input, NumberFormat.eightBits),
      ],
      "best_of_4_bits": [
        "weights": counts(.weight, NumberFormat.fourBits),
        "inputs": counts(.input, NumberFormat.fourBits),
      ],
      "tensors": .array(
        tensors.map { tensor in
          var noise: JSON = [:]
          for format in NumberFormat.eightBits + NumberFormat.fourBits {
            let value = tensor.signalToNoise[format] ?? 0
            noise.set("\(format)", value.isFinite ? .number(value) : .null)
          }
          return [
            "kind": .string(tensor.kind.rawValue), "path": .string(tensor.path), "sqnr_db": noise,
          ]
        }),
    ]
  }
}
