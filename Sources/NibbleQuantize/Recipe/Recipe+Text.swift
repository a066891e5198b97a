import NibbleTensor

extension Recipe {
  /// The recipe as a YAML file that `init(path:)` reads, with the given steps.
  ///
  /// - Parameter steps: lines of the list `steps`, such as `gptq`.
  public func fileText(steps: [String]) -> String {
    var lines = ["name: \(Self.quoted(name))"]
    if !summary.isEmpty { lines.append("summary: \(Self.quoted(summary))") }
    lines.append("weights: \(scheme.weights.recipeText)")
    lines.append("activations: \(scheme.activations?.recipeText ?? "float")")
    if quantizesHead { lines.append("quantize_head: true") }
    if !exceptions.isEmpty { lines.append("exceptions:") }
    for exception in exceptions {
      let text =
        exception.scheme.map {
          "weights: \($0.weights.recipeText), activations: \($0.activations?.recipeText ?? "float")"
        } ?? "keep: float"
      lines.append("  - {layers: \(Self.quoted(exception.pattern)), \(text)}")
    }
    lines.append("steps: [\(steps.joined(separator: ", "))]")
    lines.append("max_kl: \(maxKL)")
    return lines.joined(separator: "\n") + "\n"
  }

  private static func quoted(_ text: String) -> String {
    "\"" + text.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"") + "\""
  }
}

extension WeightScheme {
  /// The fields of `weights` in a recipe file.
  fileprivate var recipeText: String {
    var fields = ["format: \(format.recipeName)"]
    if hasZeroPoints { fields.append("symmetric: false") }
    switch granularity {
    case .tensor: fields.append("per: tensor")
    case .channel: fields.append("per: channel")
    case .group(let size): if format.group == nil { fields.append("group: \(size)") }
    case .block(let rows, let columns): fields.append("block: [\(rows), \(columns)]")
    case .rowGroups(let count): fields.append("row_groups: \(count)")
    }
    return "{\(fields.joined(separator: ", "))}"
  }
}

extension WeightScheme.Format {
  fileprivate var recipeName: String {
    switch numbers {
    case .integer(let bits): "int\(bits)"
    case .minifloat: self == .e4m3 ? "fp8" : "\(self)"
    }
  }
}

extension ActivationScheme {
  /// The value of `activations` in a recipe file.
  fileprivate var recipeText: String {
    let name = format == .e4m3 ? "fp8" : "int8"
    return switch self {
    case .dynamicPerToken: "{format: \(name), per: token}"
    case .dynamicPerTensor: "{format: \(name), per: tensor}"
    case .dynamicPerGroup(_, let size): "{format: \(name), group: \(size)}"
    case .staticPerTensor: "{format: \(name), static: true}"
    case .staticAsymmetric: "{format: int8, static: true, symmetric: false}"
    }
  }
}
