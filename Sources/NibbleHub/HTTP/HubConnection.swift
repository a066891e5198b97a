import AsyncHTTPClient
import Foundation
import NIOCore
import NIOHTTP1
import NIOPosix

/// Why one request did not bring what it was sent for.
enum Fault: Error {
  /// Asking again may help.
  case passing(reason: String, wait: Duration?, unreachable: Bool)
  case lasting(HubError)
}

/// Requests to the hub. Redirects are followed by hand, so that the token stays with its host.
struct HubConnection: Sendable {
  let http: HTTPClient
  let endpoint: Endpoint
  let token: String?
  let repository: String
  let limits: HubLimits

  static func makeClient() -> HTTPClient {
    var configuration = HTTPClient.Configuration(
      redirectConfiguration: .disallow,
      timeout: .init(connect: .seconds(10), read: .seconds(60)),
      decompression: .disabled)
    configuration.connectionPool.retryConnectionEstablishment = false
    return HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
  }

  /// Sends a GET and returns the answer that is no redirect, with a status of 200, 206 or 416.
  func get(_ start: URL, headers: [(String, String)] = []) async throws(Fault) -> HTTPClientResponse
  {
    var url = start
    for _ in 0...limits.redirects {
      let response = try await send(url, headers)
      let status = Int(response.status.code)
      switch status {
      case 200, 206, 416: return response
      case 301, 302, 303, 307, 308: url = try follow(response.headers.first(name: "location"), url)
      default: throw fault(status, response, url)
      }
    }
    throw .lasting(.refused(address: Self.shown(start), reason: "too many redirects"))
  }

  private func send(_ url: URL, _ headers: [(String, String)]) async throws(Fault)
    -> HTTPClientResponse
  {
    var request = HTTPClientRequest(url: url.absoluteString)
    request.headers.add(name: "User-Agent", value: "nibble")
    request.headers.add(name: "Accept-Encoding", value: "identity")
    for (name, value) in headers { request.headers.add(name: name, value: value) }
    if let token, endpoint.isOrigin(of: url) {
      request.headers.add(name: "Authorization", value: "Bearer \(token)")
    }
    do { return try await http.execute(request, deadline: .distantFuture) } catch {
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

  private func fault(_ status: Int, _ response: HTTPClientResponse, _ url: URL) -> Fault {
    let atHub = endpoint.isOrigin(of: url)
    switch status {
    case 401,
      403 where atHub:
      return .lasting(
        .unauthorized(repository: repository, status: status, tokenSent: token != nil))
    case 404, 410: return .lasting(.notFound(address: Self.shown(url)))
    // A signed address of a storage host expires; the hub gives a new one.
    case 403, 408, 429, 500...599:
      let seconds = response.headers.first(name: "retry-after").flatMap { Int($0) }
      return .passing(
        reason: "status \(status) from \(url.host ?? "the hub")",
        wait: seconds.map { .seconds(min(max($0, 0), 60)) }, unreachable: false)
    default: return .lasting(.refused(address: Self.shown(url), reason: "status \(status)"))
    }
  }

  /// Sorts what the client throws: cancelled, a fault of the network that may pass, or our own.
  static func transportFault(_ error: any Error) -> Fault {
    if let fault = error as? Fault { return fault }
    if let error = error as? HubError { return .lasting(error) }
    if error is CancellationError || Task.isCancelled { return .lasting(.cancelled) }
    if let error = error as? HTTPClientError {
      if error == .cancelled { return .lasting(.cancelled) }
      let reason = error.shortDescription
      return .passing(reason: reason, wait: nil, unreachable: error == .connectTimeout)
    }
    if error is NIOConnectionError {
      return .passing(reason: "no connection", wait: nil, unreachable: true)
    }
    if let error = error as? IOError {
      return .passing(reason: "\(error)", wait: nil, unreachable: error.errnoCode == ECONNREFUSED)
    }
    return .passing(reason: "\(error)", wait: nil, unreachable: false)
  }

  /// An address without its query: that of a storage host is a key.
  static func shown(_ url: URL) -> String {
    String(url.absoluteString.prefix { $0 != "?" })
  }
}
