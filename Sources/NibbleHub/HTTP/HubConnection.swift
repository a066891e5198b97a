import Foundation

/// The reason why one request failed.
enum Fault: Error {
  /// A temporary fault: a retry may succeed.
  case passing(reason: String, wait: Duration?, unreachable: Bool)
  case lasting(HubError)
}

/// Requests to the hub. Redirects are followed here, so that the token stays with its host.
struct HubConnection: Sendable {
  let endpoint: Endpoint
  let token: String?
  let repository: String
  let limits: HubLimits

  /// A response: its header, and the transfer to read its body from.
  struct Answer: Sendable {
    let head: HTTPHead
    let body: HTTPTransfer
  }

  /// Sends a GET and follows redirects; returns a response with status 200, 206 or 416.
  func get(_ start: URL, headers: [(String, String)] = []) async throws(Fault) -> Answer {
    var url = start
    for _ in 0...limits.redirects {
      let answer = try await send(url, headers)
      switch answer.head.status {
      case 200, 206, 416: return answer
      case 301, 302, 303, 307, 308: url = try follow(answer.head.first("location"), url)
      default: throw fault(answer.head, url)
      }
    }
    throw .lasting(.refused(address: Self.shown(start), reason: "too many redirects"))
  }

  private func send(_ url: URL, _ headers: [(String, String)]) async throws(Fault) -> Answer {
    var headers = [("User-Agent", "nibble"), ("Accept-Encoding", "identity")] + headers
    if let token, endpoint.isOrigin(of: url) {
      headers.append(("Authorization", "Bearer \(token)"))
    }
    for (name, value) in headers where !value.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7F }) {
      throw .lasting(
        .refused(
          address: Self.shown(url),
          reason: "the value of the header \(name) would hold a control character"))
    }
    let transfer = HTTPTransfer(
      url, headers: headers, isLoopback: Endpoint.isLoopback(url.host ?? ""))
    do { return Answer(head: try await transfer.head(), body: transfer) } catch {
      throw Self.transportFault(error)
    }
  }

  private func follow(_ location: String?, _ url: URL) throws(Fault) -> URL {
    guard let location, let next = URL(string: location, relativeTo: url)?.absoluteURL,
      let scheme = next.scheme?.lowercased(), ["http", "https"].contains(scheme), next.host != nil
    else {
      throw .lasting(.refused(address: Self.shown(url), reason: "a redirect to nowhere"))
    }
    if url.scheme?.lowercased() == "https", scheme == "http" {
      throw .lasting(
        .refused(address: Self.shown(url), reason: "a redirect from https to plain http"))
    }
    return next
  }

  private func fault(_ head: HTTPHead, _ url: URL) -> Fault {
    let status = head.status
    let atHub = endpoint.isOrigin(of: url)
    switch status {
    case 401,
      403 where atHub:
      return .lasting(
        .unauthorized(repository: repository, status: status, tokenSent: token != nil))
    case 404, 410: return .lasting(.notFound(address: Self.shown(url)))
    // A signed address of a storage host has expired; the hub issues a new one.
    case 403, 408, 429, 500...599:
      let seconds = head.first("retry-after").flatMap { Int($0) }
      return .passing(
        reason: "status \(status) from \(url.host ?? "the hub")",
        wait: seconds.map { .seconds(min(max($0, 0), 60)) }, unreachable: false)
    default: return .lasting(.refused(address: Self.shown(url), reason: "status \(status)"))
    }
  }

  /// Classifies errors of the client: cancelled, temporary network fault, or other.
  static func transportFault(_ error: any Error) -> Fault {
    if let fault = error as? Fault { return fault }
    if let error = error as? HubError { return .lasting(error) }
    if error is CancellationError || Task.isCancelled { return .lasting(.cancelled) }
    if let error = error as? TransferFault {
      return .passing(reason: error.reason, wait: nil, unreachable: error.isUnreachable)
    }
    return .passing(reason: "\(error)", wait: nil, unreachable: false)
  }

  /// An address without its query, which is a key for a storage host.
  static func shown(_ url: URL) -> String {
    String(url.absoluteString.prefix { $0 != "?" })
  }
}
