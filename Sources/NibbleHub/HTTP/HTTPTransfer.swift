internal import CCurl
import Foundation
import Synchronization

/// Status and headers of a response.
struct HTTPHead: Sendable {
  var status = 0
  /// Names in lower case.
  var headers: [(name: String, value: String)] = []

  func first(_ name: String) -> String? { headers.first { $0.name == name }?.value }
}

/// The reason why libcurl ended a transfer.
struct TransferFault: Error {
  let reason: String
  /// No connection was made: unknown host, refused connection, or no response.
  let isUnreachable: Bool
}

/// One GET over libcurl: the header first, then the body in pieces.
///
/// The connection is read only inside `head()` and `next()`, so memory holds at most what one read
/// brings: ten buffers of 256 KiB. Redirects are returned like any other response.
///
/// `@unchecked`: libcurl's state is used on `queue` only, except for `curl_multi_wakeup`, which any
/// thread may call.
@safe final class HTTPTransfer: @unchecked Sendable {
  private static let isReady: Bool = curl_global_init(Int(CURL_GLOBAL_DEFAULT)) == CURLE_OK
  private static let headLimit = 1 << 18

  private let queue = DispatchQueue(label: "nibble.http")
  private let easy: UnsafeMutableRawPointer
  private let multi: UnsafeMutableRawPointer
  private var list: UnsafeMutablePointer<curl_slist>?
  private let received = Received()
  private let isCancelled = Atomic(false)
  private var result: CURLcode?

  /// Data that the callbacks have received.
  private final class Received {
    var head = HTTPHead()
    var headBytes = 0
    var headIsWhole = false
    var body = Data()
  }

  /// - Parameter headers: values without control characters.
  init(_ url: URL, headers: [(String, String)], isLoopback: Bool) {
    precondition(Self.isReady, "libcurl does not start")
    guard let easy = unsafe curl_easy_init(), let multi = unsafe curl_multi_init() else {
      fatalError("out of memory")
    }
    unsafe (self.easy, self.multi) = unsafe (easy, multi)
    for (name, value) in headers {
      unsafe list = curl_slist_append(list, "\(name): \(value)")
    }
    unsafe nibble_curl_set_text(easy, CURLOPT_URL, url.absoluteString)
    unsafe nibble_curl_set_pointer(easy, CURLOPT_HTTPHEADER, list)
    unsafe nibble_curl_set_text(easy, CURLOPT_PROTOCOLS_STR, "http,https")
    // The environment's proxy is used, as by other programs, but not for this machine itself.
    if isLoopback { unsafe nibble_curl_set_text(easy, CURLOPT_PROXY, "") }
    for (option, value) in [
      (CURLOPT_NOSIGNAL, 1), (CURLOPT_FOLLOWLOCATION, 0), (CURLOPT_DISALLOW_USERNAME_IN_URL, 1),
      (CURLOPT_CONNECTTIMEOUT, 10), (CURLOPT_LOW_SPEED_LIMIT, 1), (CURLOPT_LOW_SPEED_TIME, 60),
      (CURLOPT_BUFFERSIZE, 256 << 10),
    ] { unsafe nibble_curl_set_long(easy, option, value) }
    let pointer = unsafe Unmanaged.passUnretained(received).toOpaque()
    unsafe nibble_curl_set_pointer(easy, CURLOPT_HEADERDATA, pointer)
    unsafe nibble_curl_set_pointer(easy, CURLOPT_WRITEDATA, pointer)
    unsafe nibble_curl_set_callback(easy, CURLOPT_HEADERFUNCTION) { bytes, size, count, to in
      let line = unsafe UnsafeRawBufferPointer(start: bytes, count: size * count)
      let received = unsafe Unmanaged<Received>.fromOpaque(to!).takeUnretainedValue()
      return unsafe HTTPTransfer.take(header: line, into: received) ? size * count : 0
    }
    unsafe nibble_curl_set_callback(easy, CURLOPT_WRITEFUNCTION) { bytes, size, count, to in
      let piece = unsafe UnsafeRawBufferPointer(start: bytes, count: size * count)
      unsafe Unmanaged<Received>.fromOpaque(to!).takeUnretainedValue().body.append(
        contentsOf: piece)
      return size * count
    }
    unsafe curl_multi_add_handle(multi, easy)
  }

  deinit {
    unsafe curl_multi_remove_handle(multi, easy)
    unsafe curl_easy_cleanup(easy)
    unsafe curl_multi_cleanup(multi)
    unsafe curl_slist_free_all(list)
  }

  /// Status and headers of the response, once they are complete.
  func head() async throws -> HTTPHead {
    try await onQueue { [self] in
      while !received.headIsWhole {
        guard try advance() else { break }
      }
      return received.head
    }
  }

  /// The next piece of the body, or nil at its end.
  func next() async throws -> Data? {
    try await onQueue { [self] in
      while received.body.isEmpty {
        guard try advance() else { return nil }
      }
      defer { received.body = Data() }
      return received.body
    }
  }

  private func onQueue<Value: Sendable>(
    _ body: @escaping @Sendable () throws -> Value
  ) async throws -> Value {
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        queue.async { continuation.resume(with: Result(catching: body)) }
      }
    } onCancel: {
      isCancelled.store(true, ordering: .releasing)
      unsafe curl_multi_wakeup(multi)
    }
  }

  /// Waits for the connection and reads from it; false at the end of the response.
  private func advance() throws -> Bool {
    guard !isCancelled.load(ordering: .acquiring) else { throw CancellationError() }
    if let result {
      guard result == CURLE_OK else { throw Self.fault(result) }
      return false
    }
    let (body, isWhole) = (received.body.count, received.headIsWhole)
    var running: Int32 = 0
    unsafe curl_multi_perform(multi, &running)
    let ended = unsafe nibble_curl_result(multi)
    if ended >= 0 { result = CURLcode(rawValue: UInt32(ended)) }
    if result == nil, received.body.count == body, received.headIsWhole == isWhole {
      unsafe curl_multi_poll(multi, nil, 0, 1000, nil)
    }
    return true
  }

  private static func fault(_ code: CURLcode) -> TransferFault {
    TransferFault(
      reason: unsafe String(cString: curl_easy_strerror(code)),
      isUnreachable: [
        CURLE_COULDNT_RESOLVE_HOST, CURLE_COULDNT_RESOLVE_PROXY, CURLE_COULDNT_CONNECT,
      ].contains(code))
  }

  /// Takes one line of a header or trailer; false when they exceed the limit.
  private static func take(header line: UnsafeRawBufferPointer, into received: Received) -> Bool {
    guard !received.headIsWhole else { return true }
    received.headBytes += line.count
    guard received.headBytes <= headLimit else { return false }
    let text = unsafe String(decoding: line, as: UTF8.self)
      .trimmingCharacters(in: .whitespacesAndNewlines)
    if text.hasPrefix("HTTP/"), !text.prefix(while: { $0 != " " }).contains(":") {
      received.head = HTTPHead()
      received.head.status = text.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
    } else if text.isEmpty {
      // After a header with status 1xx another one follows.
      received.headIsWhole = !(100...199).contains(received.head.status)
    } else if let colon = text.firstIndex(of: ":") {
      received.head.headers.append(
        (
          text[..<colon].lowercased(),
          text[text.index(after: colon)...].trimmingCharacters(in: .whitespaces)
        ))
    }
    return true
  }
}
