/// How a config says that a linear layer is stored, in the same terms for all formats.
struct ModuleScheme: Hashable {
  /// Which tensors there are, and how codes lie in them.
  enum Layout: String {
    case intQuantized = "int-quantized"
    case floatQuantized = "float-quantized"
    case packQuantized = "pack-quantized"
    case naive = "naive-quantized"
    case mxfp4 = "mxfp4-pack-quantized"
    case nvfp4 = "nvfp4-pack-quantized"
    case mxfp8 = "mxfp8-quantized"
    case awq
    case gptq
    /// E4M3 with `weight_scale`, or with `weight_scale_inv` per block.
    case fp8
    case modeloptFP8 = "modelopt-fp8"
    case modeloptNVFP4 = "modelopt-nvfp4"
    case mlx
    case smoothQuant = "smooth_quant"
    /// Tensors that this check does not know.
    case other
  }

  enum Inputs: String {
    case float
    case dynamicToken = "dynamic-token"
    case dynamicTensor = "dynamic-tensor"
    case dynamicGroup = "dynamic-group"
    /// NVFP4: a static global scale, dynamic local ones.
    case local
    case staticTensor = "static"
    case other
  }

  var layout: Layout
  /// Bits of a weight.
  var bits: Int
  var isFloat = false
  /// Inputs per scale; -1 for one scale per output, 0 for one per tensor, -2 for blocks.
  var group: Int
  /// Rows and columns of a block.
  var block: [Int] = []
  var isSymmetric = true
  var inputs = Inputs.float
  var inputBits = 8
  var inputsAreSymmetric = true
  /// Whether groups follow an order of their own, which `g_idx` gives.
  var ordersInputs = false

  var isPerTensor: Bool { group == 0 }
}

extension ModuleScheme: CustomStringConvertible {
  var description: String {
    let grain =
      switch group {
      case -2: "blocks of \(block.map { "\($0)" }.joined(separator: "x"))"
      case -1: "per channel"
      case 0: "per tensor"
      default: "groups of \(group)"
      }
    return "\(layout.rawValue), \(isFloat ? "fp" : "int")\(bits) \(grain)"
      + (isSymmetric ? "" : ", asymmetric")
      + (inputs == .float ? "" : ", \(inputs.rawValue) inputs of \(inputBits) bits")
  }
}
