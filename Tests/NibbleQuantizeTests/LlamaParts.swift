import NibbleModel
import NibbleTensor

@testable import NibbleQuantize

/// The linears of a Llama block, by what they are.
extension LinearID {
  static let query = LinearID(rawValue: "self_attn.q_proj")
  static let key = LinearID(rawValue: "self_attn.k_proj")
  static let value = LinearID(rawValue: "self_attn.v_proj")
  static let output = LinearID(rawValue: "self_attn.o_proj")
  static let gate = LinearID(rawValue: "mlp.gate_proj")
  static let up = LinearID(rawValue: "mlp.up_proj")
  static let down = LinearID(rawValue: "mlp.down_proj")
}

/// The sites of a Llama block, and what reads them.
extension Site {
  static let llama: [Site] = [.attention, .output, .feedForward, .down]

  var linears: [LinearID] {
    switch self {
    case .attention: [.query, .key, .value]
    case .output: [.output]
    case .feedForward: [.gate, .up]
    default: [.down]
    }
  }
}

extension Block {
  var inputNorm: Norm { norms["input_layernorm"]! }
  var postAttentionNorm: Norm { norms["post_attention_layernorm"]! }
}

extension DecoderShape {
  /// The attention of every block.
  var attention: Attention { attentions[0].core }
}

extension WorkingBlock {
  func site(_ site: Site) -> SiteShape { shape.site(site)! }

  mutating func fold(
    _ factors: [Float], into site: Site, _ seen: inout [Site: ActivationStatistics]
  ) {
    self.seen = seen
    fold(factors, into: self.site(site))
    seen = self.seen
  }

  mutating func shift(
    by centers: [Float], at site: Site, _ seen: inout [Site: ActivationStatistics]
  ) {
    self.seen = seen
    shift(by: centers, at: self.site(site))
    seen = self.seen
  }
}
