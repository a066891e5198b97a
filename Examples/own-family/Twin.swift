import NibbleModel
import NibbleTensor

/// Twin, a made-up decoder. Attention and the feed-forward unit run in parallel, each after its own
/// layer norm without bias, and each adds half of its result. Query, key and value are one fused
/// linear. The norms of queries and keys have one weight for all heads. The sliding window has 48
/// tokens. The first half of each head's channels rotates.
///
/// The only description of the family. Loading, planning, quantizing and running read the shape.
let twin = Family("Twin", modelTypes: ["twin"], harmlessKeys: ["motto"]) {
  (fields) throws(ModelError) in
  let hidden = try fields.size("hidden_size")
  let width = try fields.size("intermediate_size")
  var core = try fields.attention(hidden: hidden)
  core.window = try fields.optionalSize("window") ?? 48
  let epsilon = try fields.epsilon("norm_eps", default: 1e-5)
  let context = try fields.optionalSize("max_position_embeddings") ?? 4096
  let rotary = try fields.rotary(headSize: core.headSize, context: context, share: 0.5)
  let share = Float(try fields.optionalNumber("branch_share", in: 0.01...1) ?? 0.5)
  func norm(_ path: String, _ width: Int) -> NormShape {
    NormShape(path, width: width, kind: .layer, epsilon: epsilon)
  }
  let blocks = (0..<(try fields.blockCount())).map { index in
    var attention = AttentionShape.fused(
      "mix", core, hidden: hidden, input: "qkv", output: "out", rows: .perKeyHead,
      inputBias: true, outputBias: false, rotary: rotary)
    attention.queryNorm = .init(norm("mix.q_norm", core.headSize), .head)
    attention.keyNorm = .init(norm("mix.k_norm", core.headSize), .head)
    return BlockShape(
      "body.\(index)", .parallel,
      [
        BlockShape.Branch(before: norm("left", hidden), .attention(attention), scale: share),
        BlockShape.Branch(
          before: norm("right", hidden),
          .feedForward(.gated("unit", hidden: hidden, width: width, .geluTanh)), scale: share),
      ])
  }
  return try fields.decoder(
    hidden: hidden, context: context, blocks: blocks, finalNorm: norm("top", hidden),
    tiesHead: true, embedding: "tokens", blockPrefix: "body.")
}
