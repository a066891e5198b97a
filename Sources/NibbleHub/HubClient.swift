public import Foundation

/// Fetches checkpoints from a Hugging Face hub or a mirror with the same API.
public struct HubClient: Sendable {
  public static let publicHub = "https://huggingface.co"

  public var limits = HubLimits()
  public var patience = Patience()
  let endpoint: Endpoint
  let token: String?

  /// - Parameters:
  ///   - endpoint: the hub's address; nil takes `HF_ENDPOINT`, or the public hub.
  ///   - token: sent to the hub's own host and nowhere else; nil takes `HF_TOKEN`, or none.
  public init(
    endpoint: String? = nil, token: String? = nil,
    environment: [String: String] = ProcessInfo.processInfo.environment
  ) throws(HubError) {
    func given(_ value: String?, _ name: String) -> String? {
      let text = (value ?? environment[name])?.trimmingCharacters(in: .whitespacesAndNewlines)
      return text?.isEmpty == false ? text : nil
    }
    let token = given(token, "HF_TOKEN")
    self.endpoint = try Endpoint(
      given(endpoint, "HF_ENDPOINT") ?? Self.publicHub, token: token)
    self.token = token
  }
}
