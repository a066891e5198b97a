import CAllocator
import Foundation

/// Memory of this process, as the system reports it.
public enum ProcessMemory {
  /// Makes the allocator return every freed buffer of 1 MiB or more to the system at once.
  ///
  /// By default glibc keeps buffers of up to 32 MiB, and the peak of a run would depend on how they
  /// happen to fragment.
  public static func returnFreedBuffers() {
    #if canImport(Glibc)
      mallopt(M_MMAP_THRESHOLD, 1 << 20)
    #endif
  }

  /// Asks for large pages in memory that has not been written yet and will be read from start to end:
  /// fewer address translations while it is streamed.
  static func useLargePages(_ memory: UnsafeMutableRawPointer, bytes: Int) {
    #if canImport(Glibc)
      let page = sysconf(CInt(_SC_PAGESIZE))
      let start = Int(bitPattern: memory)
      let first = (start + page - 1) / page * page
      let end = (start + bytes) / page * page
      guard first < end, let pages = unsafe UnsafeMutableRawPointer(bitPattern: first) else {
        return
      }
      // Advice: where the system does not take it, pages stay small.
      unsafe madvise(pages, end - first, MADV_HUGEPAGE)
    #endif
  }

  /// Peak resident bytes, mapped files included while their pages were resident.
  public static var peakResidentBytes: Int {
    // `ru_maxrss` includes the parent's peak at fork; VmHWM does not.
    if let status = try? String(contentsOfFile: "/proc/self/status", encoding: .utf8),
      let line = status.split(separator: "\n").first(where: { $0.hasPrefix("VmHWM:") }),
      let kilobytes = line.split(whereSeparator: \.isWhitespace).compactMap({ Int($0) }).first
    {
      return kilobytes * 1024
    }
    var usage = rusage()
    #if canImport(Glibc)
      let who = RUSAGE_SELF.rawValue
      _ = unsafe getrusage(__rusage_who_t(CInt(who)), &usage)
      return usage.ru_maxrss * 1024
    #else
      _ = unsafe getrusage(RUSAGE_SELF, &usage)
      return usage.ru_maxrss
    #endif
  }
}
