import CNibble
import COneDNN
import Foundation
import Synchronization

/// Arithmetic of float products. Sums are float in both.
public enum Precision: String, Sendable, Hashable, Codable, CaseIterable {
  /// Products of floats. On a processor with AMX each float is split into three bfloat16 parts; of
  /// the nine products of parts the six largest are summed, which is within 2^-24 of the product.
  case f32
  /// Both factors are rounded to bfloat16 first: 8 bits of mantissa, and several times the speed
  /// where the processor multiplies bfloat16. Products of up to eight tokens are bound by memory
  /// bandwidth and are not rounded.
  case bf16
}

/// Threads, the precision of float products, and scratch memory that is reused from one product to
/// the next.
///
/// Results do not depend on the number of threads. Several callers may share a `Compute`: the pool
/// serves one at a time, and each calling thread has its own scratch memory.
public final class Compute: Sendable {
  public let pool: ThreadPool
  public let precision: Precision
  private let scratches = Mutex<[UInt: Scratch]>([:])

  /// Scratch memory of the calling thread.
  var scratch: Scratch {
    #if canImport(Darwin)
      let thread = unsafe UInt(bitPattern: pthread_self())
    #else
      let thread = UInt(pthread_self())
    #endif
    return scratches.withLock { scratches in
      if let scratch = scratches[thread] { return scratch }
      let scratch = Scratch()
      scratches[thread] = scratch
      return scratch
    }
  }

  /// - Parameter threads: nil for one per processor.
  public init(threads: Int? = nil, precision: Precision) {
    InstructionSet.exitUnlessKnown()
    _ = Self.oneDNNAvoidsAMX
    pool = ThreadPool(threads: threads ?? ProcessInfo.processInfo.activeProcessorCount)
    self.precision = precision
  }

  /// bfloat16 parts per float in tiles.
  var parts: Int { precision == .bf16 ? 1 : 3 }

  /// Instructions used for bfloat16 tile products on this processor.
  public static let tiles: TileProducts =
    switch nibble_tile_products() {
    case Int32(NIBBLE_TILES_AMX): .amx
    case Int32(NIBBLE_TILES_DOTS): .dots
    default: .none
    }

  /// Largest batch whose rows are bit-identical to running them one at a time. Larger batches use tiled
  /// kernels, which add in another order.
  public static let stepTokens = 8

  /// Whether float products run on tiles. Without AMX, splitting floats into three bfloat16 parts
  /// is slower than a plain float product.
  var usesTiles: Bool { Self.tiles == .amx || Self.tiles == .dots && precision == .bf16 }

  // oneDNN 2.6.3 stops with an illegal instruction in its AMX kernels on some virtual machines, so
  // it is limited to AVX-512; the AMX kernels are ours (CNibble/tiles). `NIBBLE_ISA` limits oneDNN
  // too.
  private static let oneDNNAvoidsAMX: Bool = {
    let most =
      switch InstructionSet.asked {
      case "plain": dnnl_cpu_isa_sse41
      case "avx2": dnnl_cpu_isa_avx2
      case "avx_vnni": dnnl_cpu_isa_avx2_vnni
      default: dnnl_cpu_isa_avx512_core_bf16
      }
    return dnnl_set_max_cpu_isa(most) == dnnl_success
  }()

  /// Runs `body` for ranges of `grain` items that together cover `count` items. The ranges are the
  /// same for any number of threads.
  func ranges(of count: Int, grain: Int, _ body: (Range<Int>, _ worker: Int) -> Void) {
    pool.run((count + grain - 1) / grain) { task, worker in
      body(task * grain..<min(count, (task + 1) * grain), worker)
    }
  }
}

/// The instruction set used for products of tiles, 16 rows of 64 bytes each.
public enum TileProducts: String, Sendable, Hashable {
  case none
  /// AVX-512's dot product of bfloat16 pairs.
  case dots
  /// AMX: bfloat16 and int8.
  case amx
}

/// Scratch memory of one thread: buffers that grow when needed and are kept.
///
/// `@unchecked`: only the thread that `Compute` made it for takes memory from it.
@safe final class Scratch: @unchecked Sendable {
  enum Use: Int, CaseIterable {
    case activations, hidden, gates, weights, scores, sums, rows, panels, offsets, gathered
  }

  private var blocks: [UnsafeMutableRawPointer?] = unsafe Array(
    repeating: nil, count: Use.allCases.count)
  private var sizes = [Int](repeating: 0, count: Use.allCases.count)

  /// At least `bytes` bytes, aligned to 64, with unspecified content; valid until the next call for
  /// the same use.
  func take(_ use: Use, _ bytes: Int) -> UnsafeMutableRawPointer {
    if sizes[use.rawValue] < bytes {
      if let old = unsafe blocks[use.rawValue] { unsafe old.deallocate() }
      unsafe blocks[use.rawValue] = UnsafeMutableRawPointer.allocate(
        byteCount: bytes, alignment: 64)
      sizes[use.rawValue] = bytes
    }
    return unsafe blocks[use.rawValue]!
  }

  deinit {
    for index in sizes.indices where sizes[index] > 0 { unsafe blocks[index]!.deallocate() }
  }
}
