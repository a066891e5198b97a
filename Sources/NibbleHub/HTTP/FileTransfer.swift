import Foundation

/// Fetches one file into its `.part`, reconnecting as often as needed.
struct FileTransfer {
  let connection: HubConnection
  let url: URL
  let file: HubFile
  let patience: Patience
  /// Bytes that a transfer must bring to reset the count of failures.
  static let progressThatCounts = 1 << 20

  private var limit: Int {
    file.isWeights ? connection.limits.weights : connection.limits.companion
  }

  /// - Parameter report: called with each activity and the bytes on disk.
  func run(
    into part: inout PartFile, report: (PullProgress.Activity, Int) -> Void
  ) async throws(HubError) {
    if let size = file.size, size > limit {
      throw .tooLarge(file: file.name, bytes: size, limit: limit)
    }
    report(part.count > 0 ? .resuming(from: part.count) : .fetching, part.count)
    var failures = 0
    while true {
      let before = part.count
      let fault: Fault
      do throws(Fault) {
        try await attempt(&part, report)
        return
      } catch { fault = error }
      switch fault {
      case .lasting(let error): throw error
      case .passing(let reason, let wait, let unreachable):
        if part.count - before >= Self.progressThatCounts { failures = 0 }
        failures += 1
        guard failures <= patience.retries else {
          throw unreachable
            ? .unreachable(host: url.host ?? "the hub", reason: reason)
            : .interrupted(file: file.name, reason: reason)
        }
        let delay = wait ?? patience.wait(after: failures)
        report(.retrying(reason: reason, delay: delay), part.count)
        do { try await Task.sleep(for: delay) } catch { throw .cancelled }
      }
    }
  }

  private func attempt(
    _ part: inout PartFile, _ report: (PullProgress.Activity, Int) -> Void
  ) async throws(Fault) {
    if let size = file.size, part.count == size, size > 0 { return }
    let answer = try await connection.get(url, headers: rangeHeaders(part))
    let total: Int?
    do { total = try accept(answer.head, &part) } catch let fault as Fault { throw fault } catch {
      throw HubConnection.transportFault(error)
    }
    if answer.head.status == 416 { return }
    report(.fetching, part.count)
    do {
      var reported = part.count
      while let piece = try await answer.body.next() {
        guard piece.count <= (file.size ?? limit) - part.count else {
          let bytes = part.count + piece.count
          try part.restart()
          throw HubError.tooLarge(file: file.name, bytes: bytes, limit: file.size ?? limit)
        }
        try part.append(piece)
        if part.count - reported >= FileStore.piece {
          reported = part.count
          report(.fetching, part.count)
        }
      }
    } catch { throw HubConnection.transportFault(error) }
    if let expected = file.size ?? total, part.count < expected {
      throw .passing(
        reason: "closed after \(part.count) of \(expected) bytes", wait: nil, unreachable: false)
    }
  }

  private func rangeHeaders(_ part: PartFile) -> [(String, String)] {
    guard part.count > 0 else { return [] }
    var headers = [("Range", "bytes=\(part.count)-")]
    // A weak tag does not guarantee the same bytes, and If-Range does not allow it.
    if let tag = part.tag, tag.hasPrefix("\"") { headers.append(("If-Range", tag)) }
    return headers
  }

  /// Checks the response's header against the bytes on disk and the hub's listing.
  ///
  /// - Returns: the size of the whole file, when the response states it.
  private func accept(
    _ head: HTTPHead, _ part: inout PartFile
  ) throws -> Int? {
    if let encoding = head.first("content-encoding"), encoding != "identity" {
      let reason = "content-encoding '\(encoding)', which was not asked for"
      throw Fault.lasting(.refused(address: HubConnection.shown(url), reason: reason))
    }
    let tag = head.first("etag")
    let range = head.first("content-range").flatMap(ContentRange.init(parsing:))
    var total: Int?
    switch head.status {
    case 206:
      let sameVersion = tag == nil || part.tag == nil || tag == part.tag
      guard let range, range.start == part.count, sameVersion else {
        try part.restart()
        throw Fault.passing(
          reason: "the file changed on the server", wait: nil, unreachable: false)
      }
      total = range.total
    case 416:
      if part.count > 0, range?.total == part.count { return part.count }
      try part.restart()
      throw Fault.passing(
        reason: "the server has less than what was fetched", wait: nil, unreachable: false)
    default:
      if part.count > 0 { try part.restart() }
      total = head.first("content-length").flatMap { Int($0) }
    }
    if let total, let size = file.size, total != size {
      try part.restart()
      throw HubError.wrongSize(file: file.name, expected: size, found: total)
    }
    if let total, total > limit {
      throw HubError.tooLarge(file: file.name, bytes: total, limit: limit)
    }
    try part.remember(tag: tag)
    return total
  }
}

/// The header `Content-Range: bytes START-END/TOTAL`, or `bytes */TOTAL`.
struct ContentRange: Hashable, Sendable {
  var start: Int?
  var total: Int?

  init?(parsing text: String) {
    let words = text.split(separator: " ")
    guard words.count == 2, words[0].lowercased() == "bytes" else { return nil }
    let parts = words[1].split(separator: "/", omittingEmptySubsequences: false)
    guard parts.count == 2 else { return nil }
    start = parts[0].split(separator: "-").first.flatMap { Int($0) }
    total = Int(parts[1])
  }
}
