import CNibble
import Foundation

/// Cosines and sines of rotary position embedding for a run of positions.
///
/// Pairs are `(i, i + d / 2)` of a head, as Hugging Face orders them: `angle = position · f[i]`, in
/// float as there, `a' = a·cos - b·sin`, `b' = b·cos + a·sin`. Source: RoFormer, arXiv 2104.09864.
public struct RotaryTable: Sendable {
  /// Half the head size.
  public let half: Int
  /// The first position and one past the last.
  public let positions: Range<Int>
  private let cosines: [Float]
  private let sines: [Float]

  /// A cosine and a sine for each pair of a head's channels.
  public static func bytesPerPosition(headSize: Int) -> Int {
    2 * (headSize / 2) * MemoryLayout<Float>.stride
  }

  /// - Parameter frequencies: `[d / 2]`, radians per position.
  public init(frequencies: [Float], positions: Range<Int>) {
    half = frequencies.count
    self.positions = positions
    var (cosines, sines): ([Float], [Float]) = ([], [])
    cosines.reserveCapacity(half * positions.count)
    sines.reserveCapacity(half * positions.count)
    for position in positions {
      for frequency in frequencies {
        let angle = Double(Float(position) * frequency)
        cosines.append(Float(cos(angle)))
        sines.append(Float(sin(angle)))
      }
    }
    self.cosines = cosines
    self.sines = sines
  }

  /// Rotates `[t, heads · d]`, whose rows stand at `position`, `position + 1`, ...
  public func rotate(
    _ x: inout MutableSpan<Float>, heads: Int, from position: Int, on compute: Compute
  ) {
    let width = heads * 2 * half
    let t = x.count / width
    precondition(x.count == t * width, "\(x.count) values are not rows of \(width)")
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
                unsafe nibble_rotate(
                  x.baseAddress! + token * width + head * 2 * half, cosines.baseAddress! + at,
                  sines.baseAddress! + at, half)
              }
            }
          }
        }
      }
    }
  }
}
