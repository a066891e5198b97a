import CNibble
import Foundation

/// What the system says of this process's memory.
public enum ProcessMemory {
  /// Makes the allocator give every freed buffer of a MiB or more back to the system at once.
  ///
  /// glibc would otherwise come to keep buffers of up to 32 MiB, and a run's peak would depend on how
  /// they happen to fall apart.
  public static func returnFreedBuffers() {
    nibble_return_freed_buffers()
  }

  /// The most bytes that were ever resident, mapped files counted while their pages were in use.
  public static var peakResidentBytes: Int {
    // Linux counts to a process what its parent held when it was started, but for this line.
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
