import Foundation

extension HubClient {
  /// Fetches a checkpoint into a folder that does not exist yet, or is empty.
  ///
  /// It fetches the weights (safetensors, else pytorch_model.bin, else one GGUF) and the files
  /// beside them: configuration, tokenizer, chat template, licence. Every file comes from one
  /// commit and is checked against the hub's checksum. The work is done in the sibling
  /// `FOLDER.partial`, which a later call continues and which takes the folder's name at the end.
  ///
  /// - Parameter progress: called from this task, at least twice per file.
  @discardableResult public func pull(
    _ reference: HubReference, to folder: String,
    progress: @Sendable (PullProgress) -> Void = { _ in }
  ) async throws(HubError) -> PullReport {
    let work = try PullFolder(target: folder, repository: reference.description)
    defer { work.close() }
    let connection = HubConnection(
      endpoint: endpoint, token: token, repository: reference.repository, limits: limits)
    return try await pull(reference, into: work, over: connection, progress)
  }

  private func pull(
    _ reference: HubReference, into work: PullFolder, over connection: HubConnection,
    _ progress: @Sendable (PullProgress) -> Void
  ) async throws(HubError) -> PullReport {
    let listing = try await list(reference, over: connection)
    let commit = listing.commit ?? reference.revision
    var pull = Pull(
      reference: reference, commit: commit, work: work, connection: connection,
      patience: patience)
    let companions = listing.companions()
    switch try listing.weights(for: reference) {
    case .files(let weights):
      // A GGUF contains its own.
      if weights.contains(where: { !$0.name.hasSuffix(".gguf") }),
        listing.file("config.json") == nil
      {
        throw .missingFile(repository: reference.repository, file: "config.json")
      }
      pull.files = companions + weights
    case .indexed(let index):
      guard listing.file("config.json") != nil else {
        throw .missingFile(repository: reference.repository, file: "config.json")
      }
      pull.files = [index]
      try await pull.fetch(0, progress)
      let path = work.file(index.name)
      let bytes = try FileStore.perform(path) { try [UInt8](Data(contentsOf: path)) }
      let shards = try listing.shards(
        index: bytes, named: index.name, repository: reference.repository)
      pull.files += companions + shards
    }
    try pull.requireSpace()
    for position in pull.done..<pull.files.count { try await pull.fetch(position, progress) }
    try work.finish(keeping: pull.files)
    return PullReport(
      folder: work.target.path, repository: reference.repository, commit: commit,
      files: pull.files.map(\.name), bytes: pull.bytes)
  }

  private func list(
    _ reference: HubReference, over connection: HubConnection
  ) async throws(HubError) -> HubListing {
    let url = endpoint.listing(reference)
    var failures = 0
    while true {
      do {
        let answer = try await connection.get(url)
        guard answer.head.status == 200 else {
          throw Fault.lasting(
            .badListing(
              address: HubConnection.shown(url), reason: "status \(answer.head.status)"))
        }
        var bytes: [UInt8] = []
        while let piece = try await answer.body.next() {
          guard bytes.count + piece.count <= limits.listing else {
            throw HubError.badListing(
              address: HubConnection.shown(url), reason: "more than \(limits.listing) bytes")
          }
          bytes += piece
        }
        return try HubListing(
          parsing: bytes, repository: reference.repository, address: HubConnection.shown(url),
          limits: limits)
      } catch {
        switch HubConnection.transportFault(error) {
        case .lasting(let error): throw error
        case .passing(let reason, let wait, let unreachable):
          failures += 1
          // A host that does not respond at all is reported to the user early.
          guard failures <= (unreachable ? min(1, patience.retries) : patience.retries) else {
            throw .unreachable(host: url.host ?? "the hub", reason: reason)
          }
          do { try await Task.sleep(for: wait ?? patience.wait(after: failures)) } catch {
            throw .cancelled
          }
        }
      }
    }
  }
}

/// The files of one pull, fetched one after the other.
private struct Pull {
  let reference: HubReference
  let commit: String
  let work: PullFolder
  let connection: HubConnection
  let patience: Patience
  var files: [HubFile] = []
  var done = 0
  var bytes = 0

  /// Fetches `files[position]`, or keeps it when an earlier run fetched it.
  mutating func fetch(
    _ position: Int, _ progress: @Sendable (PullProgress) -> Void
  ) async throws(HubError) {
    let file = files[position]
    let before = bytes
    var total: Int? = 0
    for file in files { total = file.size.flatMap { size in total.map { $0 + size } } }
    let count = files.count
    func report(_ activity: PullProgress.Activity, _ fileBytes: Int) {
      progress(
        PullProgress(
          activity: activity, file: file.name, number: position + 1, files: count,
          fileBytes: fileBytes, fileSize: file.size, bytes: before + fileBytes, totalBytes: total))
    }
    let target = work.file(file.name)
    if try work.holds(file) {
      let size = try FileStore.size(of: target) ?? 0
      report(.kept, size)
      bytes += size
    } else {
      var part = try PartFile(file, in: work.path)
      defer { part.close() }
      let url = connection.endpoint.file(file.name, of: reference, commit: commit)
      let transfer = FileTransfer(
        connection: connection, url: url, file: file, patience: patience)
      do throws(HubError) {
        try await transfer.run(into: &part, report: report)
      } catch {
        switch error {
        case .wrongSize, .tooLarge: try part.discard()
        default: break
        }
        throw error
      }
      try part.finish(as: target)
      bytes += part.count
      report(.finished, part.count)
    }
    done = position + 1
  }

  /// Refuses in advance if the disk has too little space.
  func requireSpace() throws(HubError) {
    guard let free = FileStore.freeBytes(work.path) else { return }
    var needed = 0
    for file in files[done...] {
      guard let size = file.size else { continue }
      let here = try FileStore.size(of: work.file(file.name)) ?? 0
      let part = try FileStore.size(of: work.file(file.name + ".part")) ?? 0
      let sum = needed.addingReportingOverflow(max(0, size - max(here, part)))
      needed = sum.overflow ? .max : sum.partialValue
    }
    if needed > free { throw .noSpace(folder: work.path.path, needed: needed, free: free) }
  }
}
