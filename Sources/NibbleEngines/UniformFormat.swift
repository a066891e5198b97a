import NibbleQuantize

/// Refusals of formats that hold one scheme for all layers of the blocks.
extension Plan {
  /// A layer with another scheme than the first; nil if there is none.
  func secondScheme(in format: String) -> Refusal? {
    layers.first { $0.scheme != layers[0].scheme }.map { layer in
      .engine(
        "\(layer.path): the format \(format) holds one scheme for all layers. Use --format "
          + "compressed-tensors.")
    }
  }

  /// The head, if it is quantized.
  func quantizedHead(in format: String) -> Refusal? {
    layers.first { $0.path == headPath }.map { head in
      .engine(
        "\(head.path): engines read a float head beside \(format) weights. Leave out --quantize-head."
      )
    }
  }
}
