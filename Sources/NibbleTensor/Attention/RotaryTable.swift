import CNibble
import Foundation

/// Cosines and sines of rotary position embedding for a range of positions.
///
/// Pairs are `(i, i + D / 2)` of the first D channels of a head, as Hugging Face orders them, or
/// `(2i, 2i + 1)`: `angle = position · f[i]`, in float as there, `a' = a·cos - b·sin`,
/// `b' = b·cos + a·sin`. Source: RoFormer, arXiv 2104.09864.
public struct RotaryTable: Sendable {
  /// Pairs of channels that are rotated, per head.
  public let half: Int
  public let isInterleaved: Bool
  /// The first position and one past the last.
  public let positions: Range<Int>
  private let cosines: [Float]
  private let sines: [Float]

  /// Bytes of one position: a cosine and a sine per pair of channels.
  public static func bytesPerPosition(pairs: Int) -> Int { 2 * pairs * MemoryLayout<Float>.stride }

  /// - Parameters:
  ///   - frequencies: `[D / 2]`, radians per position.
  ///   - amplitude: factor of all cosines and sines.
  ///   - isInterleaved: whether pairs are neighbouring channels, `(2i, 2i + 1)`.
  public init(
    frequencies: [Float], amplitude: Float = 1, isInterleaved: Bool = false, positions: Range<Int>
  ) {
    self.isInterleaved = isInterleaved
    half = frequencies.count
    self.positions = positions
    var (cosines, sines): ([Float], [Float]) = ([], [])
    cosines.reserveCapacity(half * positions.count)
    sines.reserveCapacity(half * positions.count)
    for position in positions {
      for frequency in frequencies {
        let angle = Double(Float(position) * frequency)
        cosines.append(amplitude * Float(cos(angle)))
        sines.append(amplitude * Float(sin(angle)))
      }
    }
    self.cosines = cosines
    self.sines = sines
  }

  /// The table that rotates by the opposite angles: the transpose of this rotation.
  package var transposed: RotaryTable { RotaryTable(self, sines: sines.map { -$0 }) }

  private init(_ other: RotaryTable, sines: [Float]) {
    half = other.half
    isInterleaved = other.isInterleaved
    positions = other.positions
    cosines = other.cosines
    self.sines = sines
  }

  /// Rotates the first `2 · half` channels of each head of `[t, heads · d]`. Row i stands at
  /// position `position + i`.
  public func rotate(
    _ x: inout MutableSpan<Float>, heads: Int, headSize: Int, from position: Int,
    on compute: Compute
  ) {
    let width = heads * headSize
    let t = x.count / width
    precondition(x.count == t * width, "\(x.count) values are not rows of \(width)")
    precondition(2 * half <= headSize, "\(half) pairs in heads of \(headSize)")
    precondition(
      position >= positions.lowerBound && position + t <= positions.upperBound,
      "positions \(position)..<\(position + t) of a table for \(positions)")
    let first = position - positions.lowerBound
    unsafe x.withUnsafeMutableBufferPointer { x in
      unsafe cosines.withUnsafeBufferPointer { cosines in
        unsafe sines.withUnsafeBufferPointer { sines in
          compute.ranges(of: t, grain: 16) { tokens, _ in
            for token in tokens {
              let at = (first + token) * half
              for head in 0..<heads {
                let row = unsafe x.baseAddress! + token * width + head * headSize
                if isInterleaved {
                  for i in 0..<half {
                    let (a, b) = unsafe (row[2 * i], row[2 * i + 1])
                    let (c, s) = unsafe (cosines[at + i], sines[at + i])
                    unsafe row[2 * i] = a * c - b * s
                    unsafe row[2 * i + 1] = b * c + a * s
                  }
                } else {
                  unsafe nibble_rotate(
                    row, cosines.baseAddress! + at, sines.baseAddress! + at, half)
                }
              }
            }
          }
        }
      }
    }
  }
}
