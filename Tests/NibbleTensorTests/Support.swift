import Foundation
import NibbleTensor

func fixturePath(_ name: String) -> String {
  Bundle.module.resourceURL!.appendingPathComponent("Fixtures/" + name).path
}

/// The rows of a comma-separated fixture without its heading.
func table(_ name: String) throws -> [[String]] {
  try String(contentsOfFile: fixturePath(name), encoding: .utf8)
    .split(separator: "\n").dropFirst().map { $0.split(separator: ",").map(String.init) }
}

/// A folder that is gone after `body`.
func inTemporaryFolder<Result>(_ body: (String) throws -> Result) throws -> Result {
  let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
  try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(at: folder) }
  return try body(folder.path)
}

/// Steele, Lea and Flood's SplitMix64: a test that fails fails again.
struct SplitMix: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  /// In -1..<1, a multiple of 2^-23.
  mutating func uniform() -> Float { Float(Int64(next() >> 40)) * 0x1p-23 - 1 }
}

func uniform(_ count: Int, seed: UInt64, times factor: Float = 1) -> [Float] {
  var random = SplitMix(state: seed)
  return (0..<count).map { _ in factor * random.uniform() }
}

/// Standard normal values by Box and Muller.
func gaussian(_ count: Int, seed: UInt64) -> [Float] {
  var random = SplitMix(state: seed)
  var values: [Float] = []
  values.reserveCapacity(count + 1)
  while values.count < count {
    let radius = (-2 * log(Double(random.next() >> 11 | 1) * 0x1p-53)).squareRoot()
    let angle = 2 * Double.pi * Double(random.next() >> 11) * 0x1p-53
    values.append(Float(radius * cos(angle)))
    values.append(Float(radius * sin(angle)))
  }
  return Array(values.prefix(count))
}

/// `value` rounded to bfloat16, half to even, by its definition: not by the code under test.
func roundedToBFloat(_ value: Float) -> Float {
  let bits = value.bitPattern
  return Float(bitPattern: (bits &+ 0x7FFF &+ (bits >> 16 & 1)) & 0xFFFF_0000)
}

extension FloatMatrix {
  init(_ values: [Float], _ rows: Int, _ columns: Int, as format: FloatFormat = .f32) {
    self.init(
      format: format, rows: rows, columns: columns, bytes: Bytes(format.encode(values.span)))
  }
}

extension [Float] {
  var bits: [UInt32] { map(\.bitPattern) }
}

/// A new one each time: a `Compute` has one caller at a time, and tests run side by side.
var oneThread: Compute { Compute(threads: 1, precision: .f32) }
