import Foundation
import NibbleTensor

/// What reference implementations make of small inputs. Made by Tests/Golden/methods.py, which says
/// what the fields are and which packages ran.
enum ReferenceFixture {
  static func load<Content: Decodable>(_ name: String, as type: Content.Type) throws -> Content {
    let file = Bundle.module.resourceURL!.appending(path: "Fixtures/methods/\(name).json")
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    return try decoder.decode(type, from: Data(contentsOf: file))
  }

  struct Inputs: Decodable {
    var weight: Data
    var inputs: Data
    var quantizedInputs: Data
    var wideWeight: Data
    var wideInputs: Data
  }

  struct Smooth: Decodable {
    struct Case: Decodable, Sendable, CustomStringConvertible {
      var reference: String
      var strength: Double
      var mirrored: Bool
      var factors: [Float]
      var description: String { "\(reference), \(strength)" }
    }
    var cases: [Case]
  }

  struct AWQ: Decodable {
    struct Candidate: Decodable, Sendable {
      var ratio: Float
      var duo: Bool
      var factors: Data
      var loss: Double
    }
    struct Case: Decodable, Sendable, CustomStringConvertible {
      var reference: String
      var bits: Int
      var symmetric: Bool
      var group: Int
      var candidates: [Candidate]
      var scheme: WeightScheme { .reference(bits: bits, symmetric: symmetric, group: group) }
      var description: String { "\(reference), \(scheme), duo \(candidates.last?.duo ?? false)" }
      var best: Candidate { candidates.min { $0.loss < $1.loss }! }
    }
    struct Clip: Decodable {
      var codes: Data
      var scales: Data
      var zeros: Data
    }
    var clip: Clip
    var cases: [Case]
  }

  struct GPTQ: Decodable {
    struct Case: Decodable, Sendable, CustomStringConvertible {
      var name: String
      var input: String
      var bits: Int
      var symmetric: Bool
      var group: Int
      var ordered: Bool
      var searched: Bool
      var damping: Float
      var compares: String
      var codes: Data
      var scales: Data
      var zeros: Data
      var loss: Double
      var nearestLoss: Double
      var ties: [Int]
      var scheme: WeightScheme { .reference(bits: bits, symmetric: symmetric, group: group) }
      var description: String { name }
    }
    var order: [Int]
    var wideOrder: [Int]
    var cases: [Case]
  }

  struct Histogram: Decodable {
    struct Case: Decodable, Sendable, CustomStringConvertible {
      var name: String
      var values: Data
      var low: Float
      var high: Float
      var scale: Float
      var zero: Int32
      var description: String { name }
    }
    var cases: [Case]
  }

  struct Align: Decodable {
    struct Method: Decodable {
      var codes: [[Int8]]
      var loss: Double
      var refit: [Double]
      var refitLoss: Double
    }
    struct Example: Decodable {
      var weight: [[Float]]
      var inputs: [[Float]]
      var quantizedInputs: [[Float]]
      var step: Float
      var wanted: [[Float]]
      var methods: [String: Method]
    }
    struct Entry: Decodable {
      var symmetric: Bool
      var ordered: Bool
      var codes: Data
      var scales: Data
      var zeros: Data
      var ties: [Int]
      var loss: Double
      var refit: Data
      var refitLoss: Double
    }
    struct Damped: Decodable {
      var damping: Float
      var wanted: Data
      var unroundedLoss: Double
      var cases: [Entry]
      var plain: Entry
    }
    struct Streams: Decodable {
      var order: [Int]
      var byDamping: [Damped]
    }
    var example: Example
    var twoStreams: Streams
  }
}

extension WeightScheme {
  /// - Parameter group: 0 for one scale per channel.
  static func reference(bits: Int, symmetric: Bool, group: Int) -> WeightScheme {
    WeightScheme(
      format: .int(bits: bits, symmetric: symmetric),
      granularity: group == 0 ? .channel : .group(group))
  }
}

extension Data {
  var halves: [Float] { FloatFormat.f16.decode(Bytes(Array(self))) }
  var floats: [Float] { FloatFormat.f32.decode(Bytes(Array(self))) }
  var signed: [Int8] { map { Int8(bitPattern: $0) } }
}

extension QuantizedMatrix {
  /// The codes, `[n, k]`, as signed numbers.
  var signedCodes: [Int8] {
    guard scheme.bits == 4 else { return codes.array.map { Int8(bitPattern: $0) } }
    return codes.array.flatMap { [Int8($0 & 15) - 8, Int8($0 >> 4) - 8] }
  }
}
