import NibbleTensor
import Testing

@testable import NibbleTensor

@Suite struct FloatFormatTests {
  @Test func roundsToFloat16AndBFloat16LikeTorch() throws {
    let rows = try table("fp8/casts_f16_bf16.csv")
    #expect(rows.count == 2538)
    let values = rows.map { Float(bitPattern: UInt32($0[0], radix: 16)!) }
    let halves = words(FloatFormat.f16.encode(values.span))
    let brains = words(FloatFormat.bf16.encode(values.span))
    for (index, row) in rows.enumerated() {
      let (half, brain) = (UInt16(row[1], radix: 16)!, UInt16(row[2], radix: 16)!)
      if values[index].isNaN {
        // Any NaN will do: the payload is the hardware's choice.
        #expect(halves[index] & 0x7FFF > 0x7C00 && brains[index] & 0x7FFF > 0x7F80)
      } else {
        #expect(halves[index] == half, "\(values[index])")
        #expect(brains[index] == brain, "\(values[index])")
      }
    }
  }

  @Test func widensEveryHalfExactly() {
    let bits = (0...UInt16.max).map { $0 }
    let bytes = Bytes(bits.flatMap { [UInt8(truncatingIfNeeded: $0), UInt8($0 >> 8)] })
    let halves = FloatFormat.f16.decode(bytes)
    let brains = FloatFormat.bf16.decode(bytes)
    for (index, bit) in bits.enumerated() {
      let half = Float(Float16(bitPattern: bit))
      let brain = Float(bitPattern: UInt32(bit) << 16)
      // One expectation a value would take a minute in debug.
      guard halves[index] == half || halves[index].isNaN && half.isNaN else {
        Issue.record("f16 \(bit): \(halves[index]), not \(half)")
        continue
      }
      guard brains[index] == brain || brains[index].isNaN && brain.isNaN else {
        Issue.record("bf16 \(bit): \(brains[index]), not \(brain)")
        continue
      }
    }
    // Every half that is a number comes back from a float.
    let numbers = bits.filter { $0 & 0x7C00 != 0x7C00 }
    let values = numbers.map { Float(Float16(bitPattern: $0)) }
    #expect(words(FloatFormat.f16.encode(values.span)) == numbers)
  }

  @Test(arguments: FloatFormat.allCases, [0, 1, 31, 33, 127])
  func roundingTwiceChangesNothing(_ format: FloatFormat, _ count: Int) {
    let values = uniform(count, seed: UInt64(count), times: 1e4)
    let bytes = format.encode(values.span)
    #expect(bytes.count == count * format.bytesPerValue)
    let rounded = format.decode(Bytes(bytes))
    #expect(format.encode(rounded.span) == bytes)
    #expect(values.map { format.round($0) } == rounded)
    if format == .f32 { #expect(rounded == values) }
  }

  @Test func overflowGivesInfinityHalfwayPastTheLargest() {
    #expect(FloatFormat.f16.round(65519.996) == 65504)
    #expect(FloatFormat.f16.round(-65520) == -.infinity)
    #expect(FloatFormat.bf16.round(.greatestFiniteMagnitude) == .infinity)
    #expect(FloatFormat.bf16.round(0x1.fep127) == 0x1.fep127)
    #expect(FloatFormat.f16.round(0x1p-25) == 0)
    #expect(FloatFormat.f16.round(0x1.8p-25) == 0x1p-24)
    #expect(FloatFormat.bf16.round(.leastNonzeroMagnitude) == 0)
  }

  @Test func everyE4M3CodeDecodesLikeTorch() throws {
    let rows = try table("fp8/decode_e4m3fn.csv")
    #expect(rows.count == 256)
    let matrix = QuantizedMatrix(
      scheme: WeightScheme(format: .e4m3, granularity: .tensor), rows: 1, columns: 256,
      codes: Bytes((0...255).map { UInt8($0) }), scales: [1])
    let values = matrix.decoded()
    for (index, row) in rows.enumerated() {
      if row[1] == "nan" {
        #expect(values[index].isNaN)
      } else {
        #expect(values[index].bitPattern == UInt32(row[1], radix: 16))
      }
    }
  }

  /// With 448 the largest magnitude the scale is 1, so the codes are the casts themselves.
  @Test func roundsToE4M3LikeTorch() throws {
    let rows = try table("fp8/casts.csv")
    let pairs = rows.map {
      (Float(bitPattern: UInt32($0[0], radix: 16)!), UInt8($0[1], radix: 16)!)
    }.filter { abs($0.0) <= 448 }
    #expect(pairs.count > 1500)
    let values = pairs.map(\.0)
    let matrix = try QuantizedMatrix(
      rounding: FloatMatrix(values, 1, values.count),
      to: WeightScheme(format: .e4m3, granularity: .tensor), scaleFormat: .f32, on: oneThread)
    #expect(matrix.scales == [1])
    for (code, pair) in zip(matrix.codes.array, pairs) {
      #expect(code == pair.1, "\(pair.0)")
    }
  }

  private func words(_ bytes: [UInt8]) -> [UInt16] {
    stride(from: 0, to: bytes.count, by: 2).map { UInt16(bytes[$0]) | UInt16(bytes[$0 + 1]) << 8 }
  }
}
