import Foundation

/// OpenMP, where a library that is linked brings it.
enum OpenMP {
  /// Makes it run on the calling thread alone, from this thread on.
  static func useOneThread() {
    typealias SetThreads = @convention(c) (CInt) -> Void
    #if canImport(Glibc)
      let everywhere: UnsafeMutableRawPointer? = nil
    #else
      let everywhere = UnsafeMutableRawPointer(bitPattern: -2)
    #endif
    guard let symbol = unsafe dlsym(everywhere, "omp_set_num_threads") else { return }
    unsafe unsafeBitCast(symbol, to: SetThreads.self)(1)
  }
}
