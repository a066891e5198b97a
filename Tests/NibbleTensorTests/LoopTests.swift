import CNibble
import Testing

@testable import NibbleTensor

/// The loops that every instruction set compiles: the same bits as plain C, whatever the vectors' width.
@Suite struct LoopTests {
  /// On both sides of 16 lanes, two runs of them, and a page.
  static let sizes = [1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 576, 1000]

  /// Asks `body` for bits on each set and compares them with those of plain C.
  private func expectSameBits<Bits: Equatable>(
    _ what: Comment, _ body: (nibble_kernels) -> [Bits]
  ) {
    let plain = unsafe body(KernelSet.all[0].kernels)
    for set in KernelSet.all.dropFirst() {
      let found = unsafe body(set.kernels)
      #expect(found == plain, "\(what) on \(set.name)")
    }
  }

  private func floats(_ count: Int, _ body: (UnsafeMutablePointer<Float>) -> Void) -> [UInt32] {
    var out = [Float](repeating: 0.25, count: count)
    unsafe out.withUnsafeMutableBufferPointer { unsafe body($0.baseAddress!) }
    return out.bits
  }

  private func bytes(_ count: Int, _ body: (UnsafeMutablePointer<UInt8>) -> Void) -> [UInt8] {
    var out = [UInt8](repeating: 0xA5, count: count)
    unsafe out.withUnsafeMutableBufferPointer { unsafe body($0.baseAddress!) }
    return out
  }

  /// Values of many magnitudes, some not finite.
  private func wild(_ count: Int) -> [Float] {
    var random = SplitMix(state: 7)
    return (0..<count).map { _ in
      let value = Float(bitPattern: UInt32(truncatingIfNeeded: random.next()))
      return random.next() % 3 == 0 ? value : random.uniform() * 500
    }
  }

  @Test(arguments: sizes) func formatsConvertAlike(_ n: Int) {
    let x = wild(n)
    let halves = (0..<n).map { UInt16(truncatingIfNeeded: $0 &* 40503) }
    let codes = (0..<n).map { UInt8(truncatingIfNeeded: $0 &* 167) }
    unsafe expectSameBits("f16_to_f32") { k in
      unsafe floats(n) { unsafe k.f16_to_f32(halves, $0, n) }
    }
    unsafe expectSameBits("bf16_to_f32") { k in
      unsafe floats(n) { unsafe k.bf16_to_f32(halves, $0, n) }
    }
    unsafe expectSameBits("e4m3_to_f32") { k in
      unsafe floats(n) { unsafe k.e4m3_to_f32(codes, $0, n) }
    }
    unsafe expectSameBits("f32_to_e4m3") { k in unsafe bytes(n) { unsafe k.f32_to_e4m3(x, $0, n) } }
    unsafe expectSameBits("round_e4m3") { k in
      unsafe bytes(n) { unsafe k.round_e4m3(x, $0, n, 0.37) }
    }
    unsafe expectSameBits("f32_to_f16, f32_to_bf16") { k in
      var (half, brain) = ([UInt16](repeating: 0, count: n), [UInt16](repeating: 0, count: n))
      unsafe k.f32_to_f16(x, &half, n)
      unsafe k.f32_to_bf16(x, &brain, n)
      return half + brain
    }
  }

  @Test(arguments: sizes) func minifloatsAreAlike(_ n: Int) {
    let (x, factors) = (wild(n), uniform(n * n, seed: 5, times: 1).map { abs($0) + 0.1 })
    let (w, scales) = (uniform(n, seed: 6, times: 3), [Float](repeating: 0.4, count: n))
    let codes = (0..<n).map { UInt8(truncatingIfNeeded: $0 &* 167) }
    for format in Minifloat.named {
      var loop = format.loop
      let table = format.values + [Float](repeating: 0, count: 256 - format.values.count)
      unsafe expectSameBits("round_minifloat, \(format)") { k in
        unsafe bytes(n) { unsafe k.round_minifloat(x, $0, n, 0.37, &loop) }
      }
      unsafe expectSameBits("decode_table, \(format)") { k in
        unsafe floats(2 * n) {
          unsafe k.decode_table(codes, 8, $0, n, table, 0.3)
          unsafe k.decode_table(codes, 4, $0 + n, n / 2 * 2, table, 0.7)
        }
      }
      unsafe expectSameBits("grid_error_minifloat, \(format)") { k in
        unsafe floats(2) {
          unsafe $0[0] = k.grid_error_minifloat(w, factors, n, 0.37, &loop)
          unsafe $0[1] = k.grid_error_minifloat(w, nil, n, 0.37, &loop)
        }
      }
      unsafe expectSameBits("round_feedback_minifloat, \(format)") { k in
        var carry = [Float](repeating: 0.1, count: n)
        var rounded = [UInt8](repeating: 0, count: n)
        let errors = unsafe floats(n) {
          unsafe k.round_feedback_minifloat(w, &carry, factors, n, n, scales, &loop, &rounded, $0)
        }
        return errors + carry.bits + rounded.map(UInt32.init)
      }
    }
  }

  @Test(arguments: sizes) func roundingIsAlike(_ n: Int) {
    let x = uniform(n, seed: 3, times: 40)
    unsafe expectSameBits("absmax, minmax") { k in
      unsafe floats(4) {
        unsafe $0[0] = k.absmax(x, n)
        unsafe $0[1] = k.absmax(wild(n), n)
        unsafe k.minmax(x, n, $0 + 2, $0 + 3)
      }
    }
    for (scale, zero) in [(Float(0.4), Int32(0)), (0.1, -3)] {
      unsafe expectSameBits("round_int") { k in
        var codes = [Int8](repeating: 0, count: n)
        unsafe k.round_int(x, &codes, n, scale, zero, -128, 127)
        return codes
      }
    }
    for group in [8, 32, 64, n] {
      let groups = (n + group - 1) / group
      unsafe expectSameBits("round_groups") { k in
        var codes = [Int8](repeating: 0, count: n)
        var scales = [Float](repeating: 0, count: groups)
        var sums = [Int32](repeating: 0, count: groups)
        unsafe k.round_groups(x, n, group, &codes, &scales, &sums, 1)
        return codes.map { Int32($0) } + sums + scales.map { Int32(bitPattern: $0.bitPattern) }
      }
    }
    let codes = (0..<n).map { Int8(truncatingIfNeeded: $0 &* 91) }
    unsafe expectSameBits("decode_int8") { k in
      unsafe floats(n) { unsafe k.decode_int8(codes, $0, n, 0.3, -4) }
    }
    let even = n / 2 * 2
    let pairs = (0..<n).map { UInt8(truncatingIfNeeded: $0 &* 89) }
    unsafe expectSameBits("decode_int4") { k in
      unsafe floats(n) { unsafe k.decode_int4(pairs, $0, even, 0.3, -4) }
    }
    unsafe expectSameBits("unpack_int4") { k in
      var out = [Int8](repeating: 0, count: n)
      unsafe k.unpack_int4(pairs, &out, even)
      return out
    }
    unsafe expectSameBits("error_energy") { k in
      var (error, signal) = (0.0, 0.0)
      unsafe k.error_energy(x, uniform(n, seed: 4), n, &error, &signal)
      return [error, signal]
    }
  }

  @Test(arguments: sizes) func feedbackIsAlike(_ n: Int) {
    let (w, r) = (uniform(n, seed: 5), uniform(n * n, seed: 6).map { $0 + 2 })
    let (scale, importance) = (
      uniform(n, seed: 7).map { abs($0) + 0.1 }, uniform(n, seed: 8).map(abs)
    )
    let zero = (0..<n).map { Int8($0 % 5) - 2 }
    unsafe expectSameBits("round_feedback") { k in
      var (carry, error) = (uniform(n, seed: 9), [Float](repeating: 0, count: n))
      var codes = [Int8](repeating: 0, count: n)
      unsafe k.round_feedback_int(w, &carry, r, n, n, scale, zero, -8, 7, &codes, &error)
      var fp8 = [UInt8](repeating: 0, count: n)
      unsafe k.round_feedback_e4m3(w, &carry, r, n, n, scale, &fp8, &error)
      var followed = [Float](repeating: 0, count: n)
      unsafe k.follow_feedback(w, &carry, r, n, n, &followed)
      return codes.map { UInt32(bitPattern: Int32($0)) } + fp8.map { UInt32($0) } + carry.bits
        + error.bits + followed.bits
    }
    unsafe expectSameBits("grid_error") { k in
      unsafe floats(n + 3) {
        unsafe $0[n] = k.grid_error_int(w, importance, n, 0.1, 1, -8, 7)
        unsafe $0[n + 1] = k.grid_error_e4m3(w, importance, n, 0.1)
        unsafe $0[n + 2] = k.grid_energy_int(w, r, n, n, 0.1, 1, -8, 7, $0)
      }
    }
  }

  @Test(arguments: sizes) func statisticsAreAlike(_ n: Int) {
    let (x, factor) = (uniform(33 * n, seed: 10), uniform(n, seed: 11).map(abs))
    unsafe expectSameBits("column_statistics") { k in
      var (low, high) = ([Float](repeating: 9, count: n), [Float](repeating: -9, count: n))
      var (magnitude, energy) = ([Double](repeating: 1, count: n), [Double](repeating: 1, count: n))
      unsafe k.column_statistics(x, 33, n, n, &low, &high, &magnitude, &energy)
      return (low + high).map { Double($0) } + magnitude + energy
    }
    unsafe expectSameBits("scaled_peak, rounding_energy") { k in
      unsafe [
        Double(k.scaled_peak(x, factor, n)), k.rounding_energy(x, factor, factor, n, 127),
      ]
    }
    unsafe expectSameBits("multiply, add, scale, add_scaled") { k in
      unsafe floats(n) {
        unsafe k.multiply($0, factor, n)
        unsafe k.add($0, x, n)
        unsafe k.scale($0, 1.7, n)
        unsafe k.add_scaled($0, factor, -0.3, n)
      }
    }
  }

  @Test(arguments: sizes) func productsOfARowAreAlike(_ n: Int) {
    let (x, w) = (uniform(n, seed: 12), uniform(3 * n, seed: 13))
    let halves = (0..<3 * n).map { UInt16(truncatingIfNeeded: $0 &* 40503) & 0xBFFF }
    unsafe expectSameBits("matvec, dot_f32") { k in
      unsafe floats(10) {
        unsafe k.matvec_f32(x, w, $0, n, 3)
        unsafe k.matvec_f16(x, halves, $0 + 3, n, 3)
        unsafe k.matvec_bf16(x, halves, $0 + 6, n, 3)
        unsafe $0[9] = k.dot_f32(x, w, n)
      }
    }
    let (a, b) = (
      (0..<n).map { Int8(truncatingIfNeeded: $0 &* 91) },
      (0..<n).map { Int8(truncatingIfNeeded: $0 &* 57) }
    )
    for (group, zero) in [(n, Int32(0)), (24, 0), (24, 5)] {
      unsafe expectSameBits("group_sums_s8, sums_s8") { k in
        let groups = (n + group - 1) / group
        var sums = [Int32](repeating: 0, count: 2 * groups)
        unsafe sums.withUnsafeMutableBufferPointer {
          unsafe k.group_sums_s8(a, b, $0.baseAddress!, n, group, zero)
          unsafe k.sums_s8(a, $0.baseAddress! + groups, n, group, 1)
        }
        return sums
      }
    }
  }

  @Test(arguments: sizes) func theOtherPartsOfABlockAreAlike(_ n: Int) {
    let (x, w) = (uniform(n, seed: 14, times: 20), uniform(n, seed: 15))
    unsafe expectSameBits("rms_norm, silu_multiply, softmax, rotate") { k in
      unsafe floats(4 * n) {
        unsafe k.rms_norm(x, w, $0, n, 1e-5)
        unsafe k.silu_multiply($0 + n, x, n)
        unsafe ($0 + 2 * n).update(from: x, count: n)
        unsafe k.softmax($0 + 2 * n, n)
        unsafe ($0 + 3 * n).update(from: x, count: n)
        unsafe k.rotate($0 + 3 * n, w, x, n / 2)
      }
    }
    unsafe expectSameBits("delta_step") { k in
      unsafe floats(4 * n) { out in
        // A state of three rows.
        for row in 0..<3 { unsafe (out + row * n).update(from: row == 1 ? w : x, count: n) }
        unsafe k.delta_step(out, w, x, x, 0.7, 0.3, out + 3 * n, min(3, n), n)
      }
    }
    unsafe expectSameBits("log_sum_exp, kl, argmax") { k in
      unsafe [
        k.log_sum_exp(x, n), k.kl(x, w, k.log_sum_exp(x, n), k.log_sum_exp(w, n), n),
        Double(k.argmax(x, n)),
      ]
    }
  }

  @Test(
    arguments: [
      NIBBLE_CACHE_F32, NIBBLE_CACHE_F16, NIBBLE_CACHE_INT8, NIBBLE_CACHE_INT4, NIBBLE_CACHE_INT3,
      NIBBLE_CACHE_E4M3,
    ], [2, 64, 66, 80, 128])
  func keptKeysAndValuesAreAlike(_ format: Int, _ head: Int) {
    let page = Int(NIBBLE_CACHE_PAGE)
    let (rows, query) = (uniform(page * head, seed: 16), uniform(head, seed: 17))
    for isKey in [Int32(1), 0] {
      unsafe expectSameBits("cache") { k in
        var kept = [UInt8](repeating: 0, count: nibble_cache_bytes(Int32(format), head))
        unsafe rows.withUnsafeBufferPointer { rows in
          let group = Int(NIBBLE_CACHE_GROUP)
          if isKey == 1, format == NIBBLE_CACHE_INT4 || format == NIBBLE_CACHE_INT3 {
            for first in stride(from: 0, to: page, by: group) {
              unsafe k.cache_store_keys(
                rows.baseAddress! + first * head, head, &kept, Int32(format), first, head, 0)
            }
            return
          }
          for token in 0..<page {
            unsafe k.cache_store(
              rows.baseAddress! + token * head, &kept, Int32(format), token, head, isKey, 0)
          }
        }
        return unsafe floats(page * head + 2 * page + head) {
          let (scores, out) = unsafe ($0 + page * head, $0 + page * head + page)
          unsafe k.cache_load(kept, $0, Int32(format), head, isKey)
          unsafe k.cache_scores($0, query, scores, head)
          unsafe out[head] = k.cache_weights(scores, page - 3, 0.2, out + head + 1)
          unsafe k.cache_mix($0, scores, out, page - 3, head)
        }
      }
    }
  }

  @Test func anUnknownSetIsNamed() {
    #expect(
      InstructionSet.fault("avx3")?.contains("avx3; the sets that run here are plain") == true)
    #expect(InstructionSet.fault("plain") == nil)
    #expect(InstructionSet.here.map(\.name) == KernelSet.all.map(\.name))
  }
}
