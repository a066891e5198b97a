import Foundation
import Synchronization
import Testing

@testable import NibbleHub

@Suite struct PullTests {
  typealias Reply = LoopbackHub.Reply

  let repository = FakeRepository.checkpoint
  let wanted = ["config.json", "model.safetensors", "tokenizer.json"]
  let weights = FakeRepository.path("model.safetensors")

  /// Pulls `acme/tiny` from the hub into `scratch/tiny`.
  @discardableResult func pull(
    _ hub: LoopbackHub, into scratch: URL, token: String? = nil, limits: HubLimits = HubLimits(),
    progress: @Sendable (PullProgress) -> Void = { _ in }
  ) async throws -> PullReport {
    var client = try HubClient(endpoint: hub.address, token: token, environment: [:])
    client.patience = Patience(retries: 3, delay: .zero)
    client.limits = limits
    return try await client.pull(
      try HubReference(parsing: "acme/tiny"), to: scratch.appendingPathComponent("tiny").path,
      progress: progress)
  }

  func expectWhole(_ scratch: URL) throws {
    let folder = scratch.appendingPathComponent("tiny")
    #expect(contents(scratch) == ["tiny"])
    #expect(contents(folder) == wanted)
    for name in wanted {
      let bytes = try [UInt8](Data(contentsOf: folder.appendingPathComponent(name)))
      #expect(bytes == repository.files[name], "\(name)")
    }
  }

  func leavePart(_ scratch: URL, _ bytes: some Sequence<UInt8>, tag: String?) throws {
    let partial = scratch.appendingPathComponent("tiny.partial")
    try FileManager.default.createDirectory(at: partial, withIntermediateDirectories: true)
    try Data("acme/tiny".utf8).write(to: partial.appendingPathComponent(".nibble-pull"))
    let part = partial.appendingPathComponent("model.safetensors.part")
    try Data(bytes).write(to: part)
    if let tag { try Data(tag.utf8).write(to: part.appendingPathExtension("etag")) }
  }

  @Test func bringsEveryFileOfACheckpoint() async throws {
    try await withScratch { scratch in
      try await LoopbackHub.serve { [repository] request, _ in
        repository.reply(request)
      } while: { hub in
        let seen = Mutex<[PullProgress]>([])
        let report = try await pull(hub, into: scratch) { progress in
          seen.withLock { $0.append(progress) }
        }
        try expectWhole(scratch)
        #expect(report.commit == FakeRepository.commit)
        let total = wanted.reduce(0) { $0 + repository.files[$1]!.count }
        #expect(report.bytes == total)
        let last = seen.withLock { $0.last }
        #expect(last?.bytes == total && last?.totalBytes == total && last?.number == 3)
        let headers = hub.requests.map { $0.headers["authorization"] }
        #expect(headers == [nil, nil, nil, nil])
      }
    }
  }

  @Test func bringsPyTorchShardsWhereThereAreNoSafetensors() async throws {
    let index = "pytorch_model.bin.index.json"
    let repository = FakeRepository(files: [
      "config.json": Array("{}".utf8), index: Array(#"{"weight_map":{"x":"one.bin"}}"#.utf8),
      "one.bin": Array("weights".utf8), "training_args.bin": Array("never fetched".utf8),
    ])
    try await withScratch { scratch in
      try await LoopbackHub.serve { request, _ in
        repository.reply(request)
      } while: { hub in
        try await pull(hub, into: scratch)
        #expect(
          contents(scratch.appendingPathComponent("tiny")) == ["config.json", "one.bin", index])
      }
    }
  }

  @Test func continuesWhereTheConnectionBroke() async throws {
    try await withScratch { scratch in
      let weights = weights
      try await LoopbackHub.serve { [repository] request, earlier in
        var reply = repository.reply(request)
        guard request.path == weights, earlier < 2 else { return reply }
        reply.promised = reply.body.count
        reply.body = Array(reply.body.prefix(1_000_001))
        return reply
      } while: { hub in
        try await pull(hub, into: scratch)
        try expectWhole(scratch)
        let ranges = hub.requests.filter { $0.path == weights }.map { $0.headers["range"] }
        #expect(ranges.count == 3 && ranges[0] == nil)
        #expect(ranges[1] != nil && ranges[2] != nil && ranges[1] != ranges[2])
        #expect(hub.requests.last { $0.path == weights }?.headers["if-range"] != nil)
      }
    }
  }

  @Test func aLaterRunContinuesAnInterruptedOne() async throws {
    try await withScratch { scratch in
      let weights = weights
      try await LoopbackHub.serve { [repository] request, earlier in
        var reply = repository.reply(request)
        guard request.path == weights, earlier < 4 else { return reply }
        reply.promised = reply.body.count
        reply.body = Array(reply.body.prefix(100_003))
        return reply
      } while: { hub in
        await #expect(throws: HubError.self) { try await pull(hub, into: scratch) }
        #expect(contents(scratch) == ["tiny.partial"])
        let before = hub.requests.count
        let seen = Mutex<[PullProgress.Activity]>([])
        try await pull(hub, into: scratch) { progress in
          seen.withLock { $0.append(progress.activity) }
        }
        try expectWhole(scratch)
        #expect(
          hub.requests[before...].map(\.path) == [FakeRepository.listingPath, weights])
        #expect(seen.withLock { $0.filter { $0 == .kept }.count } == 2)
        #expect(
          seen.withLock { activities in
            activities.contains { if case .resuming(from: 1...) = $0 { true } else { false } }
          })
      }
    }
  }

  /// What a kill leaves just before the folder takes its name: every file, and the marker.
  @Test func aPullThatWasKilledBeforeItNamedItsFolderEndsWithoutFetching() async throws {
    try await withScratch { scratch in
      try leavePart(scratch, [], tag: nil)
      let partial = scratch.appendingPathComponent("tiny.partial")
      for name in wanted {
        try Data(repository.files[name]!).write(to: partial.appendingPathComponent(name))
      }
      try await LoopbackHub.serve { [repository] request, _ in
        repository.reply(request)
      } while: { hub in
        try await pull(hub, into: scratch)
        try expectWhole(scratch)
        #expect(hub.requests.map(\.path) == [FakeRepository.listingPath])
      }
    }
  }

  @Test func startsAfreshWhenTheServerIgnoresRange() async throws {
    try await withScratch { scratch in
      try leavePart(scratch, repository.files["model.safetensors"]!.prefix(77), tag: nil)
      try await LoopbackHub.serve { [repository] request, _ in
        var plain = request
        plain.headers["range"] = nil
        return repository.reply(plain)
      } while: { hub in
        try await pull(hub, into: scratch)
        try expectWhole(scratch)
        #expect(hub.requests.contains { $0.headers["range"] == "bytes=77-" })
      }
    }
  }

  @Test(arguments: [true, false])
  func startsAfreshWhenTheFileChanged(honoursIfRange: Bool) async throws {
    try await withScratch { scratch in
      try leavePart(scratch, [UInt8](repeating: 1, count: 500), tag: "\"old\"")
      try await LoopbackHub.serve { [repository] request, _ in
        var request = request
        if !honoursIfRange { request.headers["if-range"] = nil }
        return repository.reply(request)
      } while: { hub in
        try await pull(hub, into: scratch)
        try expectWhole(scratch)
        #expect(hub.requests.contains { $0.headers["if-range"] == "\"old\"" })
      }
    }
  }

  @Test func startsAfreshWhenTheRangeIsRefused() async throws {
    try await withScratch { scratch in
      try leavePart(scratch, [UInt8](repeating: 1, count: 500), tag: nil)
      try await LoopbackHub.serve { [repository] request, _ in
        if request.headers["range"] != nil { return Reply(status: 416) }
        return repository.reply(request)
      } while: { hub in
        try await pull(hub, into: scratch)
        try expectWhole(scratch)
      }
    }
  }

  @Test func asksForNothingThatIsWholeAlready() async throws {
    try await withScratch { scratch in
      try leavePart(scratch, repository.files["model.safetensors"]!, tag: nil)
      try await LoopbackHub.serve { [repository] request, _ in
        repository.reply(request)
      } while: { hub in
        try await pull(hub, into: scratch)
        try expectWhole(scratch)
        #expect(!hub.requests.contains { $0.path == weights })
      }
    }
  }

  @Test func removesAFileWithAWrongChecksum() async throws {
    try await withScratch { scratch in
      let weights = weights
      try await LoopbackHub.serve { [repository] request, earlier in
        var reply = repository.reply(request)
        if request.path == weights, earlier == 0 { reply.body[1_234_567] ^= 1 }
        return reply
      } while: { hub in
        await #expect {
          try await pull(hub, into: scratch)
        } throws: { error in
          if case HubError.wrongChecksum("model.safetensors", _, _) = error { true } else { false }
        }
        let left = contents(scratch.appendingPathComponent("tiny.partial"))
        #expect(left == [".nibble-pull", "config.json", "tokenizer.json"])
        try await pull(hub, into: scratch)
        try expectWhole(scratch)
      }
    }
  }

  @Test func checksSmallFilesAsGitDoes() async throws {
    try await withScratch { scratch in
      try await LoopbackHub.serve { [repository] request, _ in
        var reply = repository.reply(request)
        if request.path == FakeRepository.path("config.json") { reply.body[3] ^= 1 }
        return reply
      } while: { hub in
        await #expect {
          try await pull(hub, into: scratch)
        } throws: { error in
          if case HubError.wrongChecksum("config.json", _, _) = error { true } else { false }
        }
      }
    }
  }

  @Test(arguments: [-1, 1])
  func refusesAFileOfAnotherSizeThanTheListing(difference: Int) async throws {
    try await withScratch { scratch in
      let weights = weights
      try await LoopbackHub.serve { [repository] request, _ in
        var reply = repository.reply(request)
        if request.path == weights {
          reply.body = difference < 0 ? Array(reply.body.dropLast()) : reply.body + [0]
        }
        return reply
      } while: { hub in
        let size = repository.files["model.safetensors"]!.count
        await #expect(
          throws: HubError.wrongSize(
            file: "model.safetensors", expected: size, found: size + difference)
        ) { try await pull(hub, into: scratch) }
        #expect(
          !contents(scratch.appendingPathComponent("tiny.partial")).contains {
            $0.hasPrefix("model")
          })
      }
    }
  }

  @Test func stopsReadingABodyThatHasNoEnd() async throws {
    try await withScratch { scratch in
      let weights = weights
      try await LoopbackHub.serve { [repository] request, _ in
        var reply = repository.reply(request)
        if request.path == weights {
          reply.chunked = true
          reply.body += [1, 2, 3]
        }
        return reply
      } while: { hub in
        await #expect {
          try await pull(hub, into: scratch)
        } throws: { error in
          if case HubError.tooLarge("model.safetensors", _, _) = error { true } else { false }
        }
      }
    }
  }

  @Test func refusesAFileAboveTheLimitBeforeFetchingIt() async throws {
    try await withScratch { scratch in
      try await LoopbackHub.serve { [repository] request, _ in
        repository.reply(request)
      } while: { hub in
        var limits = HubLimits()
        limits.weights = 2_500_002
        await #expect(
          throws: HubError.tooLarge(
            file: "model.safetensors", bytes: 2_500_003, limit: 2_500_002)
        ) { try await pull(hub, into: scratch, limits: limits) }
        #expect(!hub.requests.contains { $0.path == weights })
        limits = HubLimits()
        limits.listing = 10
        await #expect {
          try await pull(hub, into: scratch, limits: limits)
        } throws: { error in
          if case HubError.badListing = error { true } else { false }
        }
      }
    }
  }

  @Test(arguments: [(404, nil), (401, nil), (403, "secret"), (418, nil)] as [(Int, String?)])
  func tellsWhatAStatusMeans(status: Int, token: String?) async throws {
    try await withScratch { scratch in
      try await LoopbackHub.serve { _, _ in
        Reply(status: status)
      } while: { hub in
        let listing = "\(hub.address)/api/models/acme/tiny/revision/main"
        let expected: HubError =
          switch status {
          case 404: .notFound(address: listing)
          case 418: .refused(address: listing, reason: "status 418")
          default:
            .unauthorized(repository: "acme/tiny", status: status, tokenSent: token != nil)
          }
        await #expect(throws: expected) {
          try await pull(hub, into: scratch, token: token)
        }
        #expect(hub.requests.count == 1)
        #expect(hub.requests[0].headers["authorization"] == token.map { "Bearer \($0)" })
      }
    }
  }

  @Test func asksAgainAfterAServerError() async throws {
    try await withScratch { scratch in
      try await LoopbackHub.serve { [repository] request, earlier in
        earlier < 2 ? Reply(status: earlier == 0 ? 503 : 429) : repository.reply(request)
      } while: { hub in
        try await pull(hub, into: scratch)
        try expectWhole(scratch)
      }
    }
  }

  @Test func givesUpOnAServerThatOnlyFails() async throws {
    try await withScratch { scratch in
      try await LoopbackHub.serve { _, _ in
        Reply(status: 500)
      } while: { hub in
        await #expect {
          try await pull(hub, into: scratch)
        } throws: { error in
          if case HubError.unreachable = error { true } else { false }
        }
        #expect(hub.requests.count == 4)
      }
    }
  }

  @Test func keepsTheTokenFromOtherHosts() async throws {
    try await withScratch { scratch in
      let (repository, weights) = (repository, weights)
      try await LoopbackHub.serve { request, _ in
        FakeRepository.file(repository.files["model.safetensors"]!, tag: "\"x\"", request)
      } while: { storage in
        let address = storage.address
        try await LoopbackHub.serve { request, _ in
          if request.path == weights {
            return Reply(status: 302, headers: ["Location": "\(address)/blob?key=1"])
          }
          if request.path == FakeRepository.path("config.json") {
            return Reply(status: 307, headers: ["Location": "/moved/config.json"])
          }
          if request.path == "/moved/config.json" {
            return Reply(body: repository.files["config.json"]!)
          }
          return repository.reply(request)
        } while: { hub in
          try await pull(hub, into: scratch, token: "secret")
          try expectWhole(scratch)
          #expect(hub.requests.allSatisfy { $0.headers["authorization"] == "Bearer secret" })
          #expect(hub.requests.contains { $0.path == "/moved/config.json" })
          #expect(storage.requests.map(\.path) == ["/blob?key=1"])
          #expect(storage.requests[0].headers["authorization"] == nil)
        }
      }
    }
  }

  @Test(arguments: ["", "ftp://127.0.0.1/x", "file:///etc/passwd", "/api/loop"])
  func refusesARedirectThatLeadsNowhere(_ location: String) async throws {
    try await withScratch { scratch in
      try await LoopbackHub.serve { _, _ in
        Reply(status: 302, headers: location.isEmpty ? [:] : ["Location": location])
      } while: { hub in
        await #expect {
          try await pull(hub, into: scratch)
        } throws: { error in
          if case HubError.refused = error { true } else { false }
        }
        #expect(hub.requests.count <= 9)
      }
    }
  }

  @Test func refusesARepositoryWithHostileFileNames() async throws {
    try await withScratch { scratch in
      var hostile = repository
      hostile.files["../../evil.json"] = [1]
      try await LoopbackHub.serve { [hostile] request, _ in
        hostile.reply(request)
      } while: { hub in
        await #expect(
          throws: HubError.hostileFileName(repository: "acme/tiny", name: "../../evil.json")
        ) { try await pull(hub, into: scratch) }
        #expect(hub.requests.count == 1)
      }
    }
  }

  @Test func bringsTheShardsOfAnIndexAndNoOthers() async throws {
    try await withScratch { scratch in
      let index = #"{"weight_map":{"x":"model-2.safetensors","y":"model-1.safetensors"}}"#
      let sharded = FakeRepository(files: [
        "config.json": Array("{}".utf8), "model-1.safetensors": [1], "model-2.safetensors": [],
        "consolidated.safetensors": [3], "model.safetensors.index.json": Array(index.utf8),
      ])
      try await LoopbackHub.serve { request, _ in
        sharded.reply(request)
      } while: { hub in
        let report = try await pull(hub, into: scratch)
        #expect(report.files.count == 4)
        #expect(
          contents(scratch.appendingPathComponent("tiny")) == [
            "config.json", "model-1.safetensors", "model-2.safetensors",
            "model.safetensors.index.json",
          ])
      }
    }
  }

  @Test func touchesNoFolderThatIsNotItsOwn() async throws {
    try await withScratch { scratch in
      try await LoopbackHub.serve { [repository] request, _ in
        repository.reply(request)
      } while: { hub in
        let taken = scratch.appendingPathComponent("tiny")
        try FileManager.default.createDirectory(at: taken, withIntermediateDirectories: true)
        let mine = taken.appendingPathComponent("mine")
        try Data([1]).write(to: mine)
        await #expect(throws: HubError.folderExists(taken.path)) {
          try await pull(hub, into: scratch)
        }
        try FileManager.default.removeItem(at: mine)
        let partial = scratch.appendingPathComponent("tiny.partial")
        try FileManager.default.createDirectory(at: partial, withIntermediateDirectories: true)
        try Data([1]).write(to: partial.appendingPathComponent("mine"))
        await #expect(throws: HubError.foreignFolder(partial.path, holds: "other files")) {
          try await pull(hub, into: scratch)
        }
        #expect(hub.requests.isEmpty)
        try FileManager.default.removeItem(at: partial)
        try await pull(hub, into: scratch)
        try expectWhole(scratch)
      }
    }
  }

  @Test func saysThatAHostCannotBeReached() async throws {
    try await withScratch { scratch in
      // Port 1 of the loopback interface has no listener.
      var client = try HubClient(endpoint: "http://127.0.0.1:1", environment: [:])
      client.patience = Patience(retries: 3, delay: .zero)
      await #expect {
        try await client.pull(
          try HubReference(parsing: "acme/tiny"), to: scratch.appendingPathComponent("t").path)
      } throws: { error in
        if case HubError.unreachable("127.0.0.1", _) = error { true } else { false }
      }
    }
  }

  @Test(arguments: ["ftp://host", "host", "", "https://", "https://me:pw@host", "https://h/?q=1"])
  func refusesAnEndpoint(_ endpoint: String) {
    // An empty setting counts as none.
    guard !endpoint.isEmpty else {
      #expect(throws: Never.self) { try HubClient(environment: ["HF_ENDPOINT": ""]) }
      return
    }
    #expect(throws: HubError.self) {
      try HubClient(environment: ["HF_ENDPOINT": endpoint])
    }
  }

  @Test func neverSendsAHeaderThatATokenForges() async throws {
    try await withScratch { scratch in
      try await LoopbackHub.serve { [repository] request, _ in
        repository.reply(request)
      } while: { hub in
        await #expect {
          try await pull(hub, into: scratch, token: "secret\r\nX-Forged: yes")
        } throws: { error in
          if case HubError.refused = error { true } else { false }
        }
        #expect(hub.requests.isEmpty)
      }
    }
  }

  @Test func neverSendsATokenUnencrypted() {
    #expect(throws: HubError.tokenInTheOpen(endpoint: "http://mirror.test")) {
      try HubClient(
        environment: ["HF_ENDPOINT": "http://mirror.test", "HF_TOKEN": "secret"])
    }
  }
}
