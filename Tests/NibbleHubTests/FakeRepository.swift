import Foundation
import NibbleFormats

@testable import NibbleHub

/// A repository as a hub serves it: a listing with checksums, and files with ranges and ETags.
struct FakeRepository: Sendable {
  typealias Request = LoopbackHub.Request
  typealias Reply = LoopbackHub.Reply

  static let commit = String(repeating: "ab", count: 20)
  static let listingPath = "/api/models/acme/tiny/revision/main?blobs=true"

  var files: [String: [UInt8]]

  /// A small checkpoint: weights of an awkward size, more than one piece of the disk's.
  static let checkpoint = FakeRepository(files: [
    "config.json": Array(#"{"model_type":"llama"}"#.utf8),
    "tokenizer.json": Array("{}".utf8),
    "model.safetensors": (0..<2_500_003).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 9) },
    "pytorch_model.bin": Array("never fetched".utf8),
    "onnx/model.onnx": Array("never fetched either".utf8),
  ])

  static func path(_ name: String) -> String { "/acme/tiny/resolve/\(commit)/\(name)" }

  /// Large files get a SHA-256, small ones git's checksum, as on the real hub.
  var listing: JSON {
    let siblings = files.sorted { $0.key < $1.key }.map { name, bytes -> JSON in
      var entry: JSONObject = JSONObject()
      entry["rfilename"] = .string(name)
      entry["size"] = JSON(bytes.count)
      if name.hasSuffix(".safetensors") || name.hasSuffix(".gguf") {
        entry["lfs"] = ["sha256": .string(Checksum.sha256(bytes)), "size": JSON(bytes.count)]
      } else {
        let stream = DigestStream(.gitBlob(""), size: bytes.count)
        stream.update(Data(bytes))
        entry["blobId"] = .string(stream.hex()!)
      }
      return .object(entry)
    }
    return ["sha": .string(Self.commit), "siblings": .array(siblings)]
  }

  func reply(_ request: Request) -> Reply {
    if request.path == Self.listingPath { return Reply(body: Array(listing.text().utf8)) }
    guard let name = files.keys.first(where: { request.path == Self.path($0) }) else {
      return Reply(status: 404)
    }
    return Self.file(files[name]!, tag: "\"\(name)-1\"", request)
  }

  /// One file, from where the request's Range begins if its If-Range names this version.
  static func file(_ bytes: [UInt8], tag: String, _ request: Request) -> Reply {
    guard let range = request.headers["range"], request.headers["if-range"] ?? tag == tag else {
      return Reply(headers: ["ETag": tag], body: bytes)
    }
    let start = Int(range.dropFirst("bytes=".count).dropLast())!
    guard start < bytes.count else {
      return Reply(status: 416, headers: ["Content-Range": "bytes */\(bytes.count)"])
    }
    let extent = "bytes \(start)-\(bytes.count - 1)/\(bytes.count)"
    return Reply(
      status: 206, headers: ["ETag": tag, "Content-Range": extent], body: Array(bytes[start...]))
  }
}

/// A folder that is gone when the test ends.
func withScratch(_ body: (URL) async throws -> Void) async throws {
  let folder = FileManager.default.temporaryDirectory
    .appendingPathComponent("nibble-hub-\(UUID().uuidString)", isDirectory: true)
  try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(at: folder) }
  try await body(folder)
}

func contents(_ folder: URL) -> [String] {
  ((try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []).sorted()
}
