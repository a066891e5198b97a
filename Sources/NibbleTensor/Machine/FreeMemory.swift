import Foundation

/// Memory that this process can still take.
public enum FreeMemory {
  /// Bytes available without swapping, at most what the process's control group still allows; half
  /// of the machine's memory where the system does not say.
  public static var bytes: Int {
    var limits = [groupBytes].compactMap(\.self)
    if let text = try? String(contentsOfFile: "/proc/meminfo", encoding: .utf8),
      let kilobytes = number(after: "MemAvailable:", in: text)
    {
      limits.append(kilobytes * 1024)
    } else {
      limits.append(Int(clamping: ProcessInfo.processInfo.physicalMemory / 2))
    }
    return max(0, limits.min() ?? 0)
  }

  /// Bytes left below the limit of the process's control group (version 2), with its file cache
  /// counted as free. Nil without a limit.
  private static var groupBytes: Int? {
    func value(_ name: String) -> String? {
      try? String(contentsOfFile: "/sys/fs/cgroup/" + name, encoding: .utf8)
    }
    func bytes(_ name: String) -> Int? {
      value(name).flatMap { Int($0.trimmingCharacters(in: .whitespacesAndNewlines)) }
    }
    guard let limit = bytes("memory.max"), let used = bytes("memory.current") else { return nil }
    let cached = value("memory.stat").flatMap { number(after: "inactive_file", in: $0) } ?? 0
    return limit - used + cached
  }

  private static func number(after name: String, in text: String) -> Int? {
    for line in text.split(separator: "\n") where line.hasPrefix(name) {
      return line.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap { Int($0) }
    }
    return nil
  }
}
