import CNibble
import COneDNN
import Foundation
import Synchronization

/// In what arithmetic float products run. Sums are float in both.
public enum Precision: String, Sendable, Hashable, Codable, CaseIterable {
  /// Products of floats. On a processor with AMX each float is three bfloat16 parts, and the six
  /// products of parts that matter are within 2^-24 of the product.
  case f32
  /// Both factors rounded to bfloat16 first: 8 bits of mantissa, and several times the speed where
  /// the processor multiplies bfloat16. Products of up to eight tokens, which are bound by
  /// memory, do without the rounding.
  case bf16
}

/// Where numbers are computed: threads, the arithmetic of float products, and scratch memory that is
/// used again from one product to the next.
///
/// Results do not depend on the number of threads. Callers on several threads share the pool, which serves
/// one of them at a time, and have scratch memory of their own.
public final class Compute: Sendable {
  public let pool: ThreadPool
  public let precision: Precision
  private let scratches = Mutex<[UInt: Scratch]>([:])

  /// The calling thread's.
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

  /// - Parameter threads: nil for one a processor.
  public init(threads: Int? = nil, precision: Precision) {
    InstructionSet.exitUnlessKnown()
    _ = Self.oneDNNIsTamed
    pool = ThreadPool(threads: threads ?? ProcessInfo.processInfo.activeProcessorCount)
    self.precision = precision
  }

  /// Parts of a float in tiles.
  var parts: Int { precision == .bf16 ? 1 : 3 }

  /// On what tiles of bfloat16 are multiplied here.
  public static let tiles: TileProducts =
    switch nibble_tile_products() {
    case Int32(NIBBLE_TILES_AMX): .amx
    case Int32(NIBBLE_TILES_DOTS): .dots
    default: .none
    }

  /// Largest batch whose rows are bit-identical to running them one at a time. Larger batches use tiled
  /// kernels, which add in another order.
  public static let stepTokens = 8

  /// Whether float products run on tiles. Without AMX those of floats in three parts would be slower
  /// than float products themselves.
  var usesTiles: Bool { Self.tiles == .amx || Self.tiles == .dots && precision == .bf16 }

  // oneDNN 2.6.3 stops with an illegal instruction in its AMX kernels on some virtual machines, so it
  // is kept to AVX-512; tiles are ours (CNibble/tiles). A set that NIBBLE_ISA names binds oneDNN too.
  private static let oneDNNIsTamed: Bool = {
    let most =
      switch InstructionSet.asked {
      case "plain": dnnl_cpu_isa_sse41
      case "avx2": dnnl_cpu_isa_avx2
      case "avx_vnni": dnnl_cpu_isa_avx2_vnni
      default: dnnl_cpu_isa_avx512_core_bf16
      }
    return dnnl_set_max_cpu_isa(most) == dnnl_success
  }()

  /// Runs `body` for ranges of `count` items, `grain` items each: the ranges are the same for any
  /// number of threads.
  func ranges(of count: Int, grain: Int, _ body: (Range<Int>, _ worker: Int) -> Void) {
    pool.run((count + grain - 1) / grain) { task, worker in
      body(task * grain..<min(count, (task + 1) * grain), worker)
    }
  }
}

/// What multiplies tiles of 16 rows by 64 bytes.
public enum TileProducts: String, Sendable, Hashable {
  case none
  /// AVX-512's dot product of bfloat16 pairs.
  case dots
  /// AMX: bfloat16 and int8.
  case amx
}

/// Memory for intermediate results of one thread, grown when needed and kept.
///
/// `@unchecked`: only the thread that `Compute` made it for takes memory from it.
@safe final class Scratch: @unchecked Sendable {
  enum Use: Int, CaseIterable {
    case activations, hidden, gates, weights, scores, sums, rows, panels
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
