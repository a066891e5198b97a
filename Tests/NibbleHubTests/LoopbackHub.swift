import NIOCore
import NIOHTTP1
import NIOPosix
import Synchronization

/// A server on the loopback interface that answers from a closure and remembers what it was asked.
final class LoopbackHub: Sendable {
  struct Request: Sendable {
    var path: String
    /// Names in lower case.
    var headers: [String: String]
  }

  struct Reply: Sendable {
    var status = 200
    var headers: [String: String] = [:]
    var body: [UInt8] = []
    /// What Content-Length claims when it is not the body's size. The connection is closed after
    /// the body then.
    var promised: Int?
    /// No Content-Length: the body ends where the connection does.
    var chunked = false
  }

  private let channel: any Channel
  private let log: Requests
  var port: Int { channel.localAddress!.port! }
  var address: String { "http://127.0.0.1:\(port)" }
  var requests: [Request] { log.all.withLock { $0 } }

  final class Requests: Sendable {
    let all = Mutex<[Request]>([])
  }

  /// - Parameter answer: given each request and how many with its path came before it.
  static func serve(
    _ answer: @escaping @Sendable (Request, Int) -> Reply,
    while body: (LoopbackHub) async throws -> Void
  ) async throws {
    let log = Requests()
    let channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
      .serverChannelOption(.backlog, value: 16)
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          try channel.pipeline.syncOperations.configureHTTPServerPipeline()
          try channel.pipeline.syncOperations.addHandler(Answerer(log: log, answer: answer))
        }
      }
      .bind(host: "127.0.0.1", port: 0).get()
    let hub = LoopbackHub(channel: channel, log: log)
    do { try await body(hub) } catch {
      try await channel.close()
      throw error
    }
    try await channel.close()
  }

  private init(channel: any Channel, log: Requests) {
    self.channel = channel
    self.log = log
  }

  private final class Answerer: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    let log: Requests
    let answer: @Sendable (Request, Int) -> Reply
    var request = Request(path: "", headers: [:])

    init(log: Requests, answer: @escaping @Sendable (Request, Int) -> Reply) {
      self.log = log
      self.answer = answer
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
      switch unwrapInboundIn(data) {
      case .head(let head):
        request = Request(path: head.uri, headers: [:])
        for (name, value) in head.headers { request.headers[name.lowercased()] = value }
      case .body: break
      case .end: respond(context)
      }
    }

    private func respond(_ context: ChannelHandlerContext) {
      let request = request
      let earlier = log.all.withLock { all in
        let count = all.count { $0.path == request.path }
        all.append(request)
        return count
      }
      let reply = answer(request, earlier)
      var head = HTTPResponseHead(version: .http1_1, status: .init(statusCode: reply.status))
      for (name, value) in reply.headers { head.headers.add(name: name, value: value) }
      if !reply.chunked {
        head.headers.add(name: "Content-Length", value: "\(reply.promised ?? reply.body.count)")
      }
      context.write(wrapOutboundOut(.head(head)), promise: nil)
      context.write(
        wrapOutboundOut(.body(.byteBuffer(ByteBuffer(bytes: reply.body)))), promise: nil)
      if reply.promised == nil {
        context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
      } else {
        context.flush()
        context.close(promise: nil)
      }
    }
  }
}
