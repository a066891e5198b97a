import Foundation
import NibbleFormats
import NibbleTensor

/// Gradients by PyTorch in double precision. Made by Tests/Golden/gradients.py, which says what the
/// tensors are.
struct GradientFixture: Sendable {
  static let primitives = try! GradientFixture("primitives")
  static let blocks = try! GradientFixture("blocks")

  let index: JSON
  private let tensors: [String: FloatRows]

  init(_ name: String) throws {
    let folder = Bundle.module.resourceURL!.appending(path: "Fixtures/gradients").path
    index = try JSON(parsing: Array(Data(contentsOf: URL(filePath: "\(folder)/\(name).json"))))
    let file = try SafetensorsFile(path: "\(folder)/\(name).safetensors")
    tensors = Dictionary(
      uniqueKeysWithValues: file.entries.map { entry in
        (
          entry.name,
          FloatRows(
            FloatFormat.f32.decode(file.bytes(of: entry.name)!), columns: entry.shape.last ?? 1)
        )
      })
  }

  struct Case: Sendable, CustomStringConvertible {
    let name: String
    let json: JSON
    var description: String { name }
  }

  func cases(_ kind: String) -> [Case] {
    (index[kind]?.array ?? []).map { Case(name: $0["name"]?.string ?? "", json: $0) }
  }

  /// A tensor of a case; rows of its last axis, or of `columns`.
  func rows(_ c: Case, _ name: String, columns: Int? = nil) -> FloatRows? {
    tensors["\(c.name)/\(name)"].map { FloatRows($0.values, columns: columns ?? $0.columns) }
  }

  /// Names of a case's tensors that begin with `prefix`, without it.
  func names(_ c: Case, _ prefix: String) -> [String] {
    tensors.keys.filter { $0.hasPrefix("\(c.name)/\(prefix)") }.map {
      String($0.dropFirst(c.name.count + 1 + prefix.count))
    }.sorted()
  }
}

extension FloatRows {
  /// The largest difference, relative to the largest value of `other`.
  func difference(from other: FloatRows) -> Float {
    guard values.count == other.values.count else { return .infinity }
    let largest = other.values.reduce(Float(1e-30)) { max($0, abs($1)) }
    return zip(values, other.values).reduce(0) { worst, pair in
      let difference = abs(pair.0 - pair.1) / largest
      // NaN is no small difference.
      return difference <= worst ? worst : difference.isNaN ? .infinity : difference
    }
  }

  /// The same, row by row.
  func rowDifference(from other: FloatRows) -> Float {
    guard values.count == other.values.count else { return .infinity }
    let k = other.columns
    return (0..<other.rows).reduce(0) { worst, row in
      let part = row * k..<(row + 1) * k
      return max(
        worst,
        FloatRows(Array(values[part]), columns: k).difference(
          from: FloatRows(Array(other.values[part]), columns: k)))
    }
  }
}
