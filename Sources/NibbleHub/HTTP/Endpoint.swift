import Foundation

/// The address of a hub.
struct Endpoint: Hashable, Sendable {
  let url: URL

  init(_ text: String, token: String?) throws(HubError) {
    let trimmed = text.hasSuffix("/") ? String(text.dropLast()) : text
    guard let url = URL(string: trimmed), let scheme = url.scheme?.lowercased(),
      ["http", "https"].contains(scheme), let host = url.host, !host.isEmpty
    else { throw .badEndpoint(text, reason: "not an http or https address") }
    guard url.user == nil, url.password == nil, url.query == nil, url.fragment == nil else {
      throw .badEndpoint(text, reason: "an address has no user, query or fragment")
    }
    if token != nil, scheme == "http", !Self.isLoopback(host) {
      throw .tokenInTheOpen(endpoint: text)
    }
    self.url = url
  }

  static func isLoopback(_ host: String) -> Bool {
    ["localhost", "127.0.0.1", "::1", "[::1]"].contains(host)
  }

  /// Whether an address has the scheme, host and port of the hub: the token is sent nowhere else.
  func isOrigin(of other: URL) -> Bool { Self.origin(url) == Self.origin(other) }

  private static func origin(_ url: URL) -> String {
    let scheme = (url.scheme ?? "").lowercased()
    let port = url.port ?? (scheme == "https" ? 443 : 80)
    return "\(scheme)://\((url.host ?? "").lowercased()):\(port)"
  }

  func listing(_ reference: HubReference) -> URL {
    let revision = Self.escape(reference.revision)
    return address("/api/models/\(reference.repository)/revision/\(revision)?blobs=true")
  }

  func file(_ name: String, of reference: HubReference, commit: String) -> URL {
    let path = name.split(separator: "/").map { Self.escape(String($0)) }.joined(separator: "/")
    return address("/\(reference.repository)/resolve/\(Self.escape(commit))/\(path)")
  }

  private func address(_ path: String) -> URL { URL(string: url.absoluteString + path)! }

  /// Percent-encodes all but letters, digits and `-._~`.
  private static func escape(_ text: String) -> String {
    var escaped = ""
    for byte in text.utf8 {
      switch byte {
      case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, UInt8(ascii: "-"), UInt8(ascii: "."),
        UInt8(ascii: "_"), UInt8(ascii: "~"):
        escaped.unicodeScalars.append(Unicode.Scalar(byte))
      default:
        let hex = String(byte, radix: 16, uppercase: true)
        escaped += "%" + (byte < 16 ? "0" : "") + hex
      }
    }
    return escaped
  }
}
