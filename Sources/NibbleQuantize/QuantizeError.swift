public import NibbleFormats
public import NibbleModel
import NibbleTensor

/// Reasons why a model was not quantized. Each says where, what, and what to do next.
public enum QuantizeError: Error, Hashable, Sendable {
  case model(ModelError)
  case format(FormatError)
  case refused([Refusal])
  case unknownRecipe(String, known: [String])
  case recipeOption(recipe: String, option: String, reason: String)
  case unsoundRecipe(recipe: String, reason: String)
  case recipeFile(path: String, reason: String)
  /// `layers` are examples of existing layers.
  case patternMatchedNothing(String, layers: [String])
  case nothingToQuantize(path: String)
  case alreadyQuantized(path: String, method: String)
  case nonFinite(tensor: String, index: Int)
  /// NaN or infinity in the activation that enters a site's linears, or after the block when `site`
  /// is nil.
  case nonFiniteActivation(block: Int, site: Site?)
  case folder(RunFolderError)
  /// Finished work is kept in the folder.
  case interrupted(String)
  /// Work that is kept only when it is complete.
  case interruptedWithoutTrace(work: String)
  case damagedOutput(file: String, unit: String)
  /// The written folder breaks rules of its format: a fault of the writer.
  case brokenFormat(String, [String])
  case unmeasurable(String)
  /// Learning did not bring a model closer to its source; nothing was written.
  case nothingGained(path: String, reason: String)
  case statistics(path: String, reason: String)
  /// `what` is keys or values.
  case unmeasuredCache(block: Int, what: String, head: Int)
}

/// A reason why a plan cannot be carried out, found before any work.
public enum Refusal: Hashable, Sendable {
  /// `fitting` is the largest group size that divides every layer, if one of at least 16 does.
  /// `layer` stands for `count` layers.
  case groupDoesNotDivide(layer: String, count: Int, group: Int, inputs: Int, fitting: Int?)
  case rowGroupsDoNotDivide(layer: String, groups: Int, outputs: Int)
  case inputsNotPackable(layer: String, count: Int, inputs: Int, bits: Int)
  case memory(needed: Int, budget: Int)
  case engine(String)
}

extension Refusal: CustomStringConvertible {
  public var description: String {
    switch self {
    case .groupDoesNotDivide(let layer, let count, let group, let inputs, let fitting):
      "\(Self.name(layer, count)): groups of \(group) do not divide \(inputs) inputs. "
        + (fitting.map { "Use --group \($0), the largest that fits every layer." }
          ?? "No group of 16 or more fits every layer; use a recipe with a scale per channel.")
    case .rowGroupsDoNotDivide(let layer, let groups, let outputs):
      "\(layer): \(groups) groups of rows do not divide \(outputs) outputs. Use a divisor, or a scale "
        + "per channel."
    case .inputsNotPackable(let layer, let count, let inputs, let bits):
      "\(Self.name(layer, count)): \(inputs) inputs of \(bits) bits, or groups of them, do not fill "
        + "whole words. Use \(bits < 8 ? "an even --group, or an 8-bit recipe" : "w8a8 or fp8")."
    case .memory(let needed, let budget):
      "the plan needs \(megabytes(needed)) and the budget is \(megabytes(budget)). Use --memory "
        + "\(needed / 1_000_000 + 1)MB or more, or fewer --verdict-windows."
    case .engine(let reason): reason
    }
  }

  private static func name(_ layer: String, _ count: Int) -> String {
    count == 1 ? layer : "\(layer) and \(count - 1) more"
  }

  private func megabytes(_ bytes: Int) -> String { "\((bytes + 999_999) / 1_000_000) MB" }
}

extension QuantizeError {
  /// An error of a target below, as this target's own.
  package init(wrapping error: any Error) {
    switch error {
    case let error as QuantizeError: self = error
    case let error as ModelError: self = .model(error)
    case let error as FormatError: self = .format(error)
    case let error as RunFolderError: self = .folder(error)
    case let error as FileError: self = .format(.file(error))
    default: self = .unmeasurable("\(error)")
    }
  }
}

extension QuantizeError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .model(let error): "\(error)"
    case .format(let error): "\(error)"
    case .refused(let refusals): refusals.map(\.description).joined(separator: "\n")
    case .unknownRecipe(let name, let known):
      "there is no recipe \"\(name)\". Use one of: \(known.joined(separator: ", "))."
    case .recipeOption(let recipe, let option, let reason): "\(option) with \(recipe): \(reason)."
    case .unsoundRecipe(let recipe, let reason): "recipe \(recipe): \(reason)."
    case .recipeFile(let path, let reason): "\(path): \(reason)."
    case .patternMatchedNothing(let pattern, let layers):
      "the pattern \"\(pattern)\" matches no linear layer. There are, for example: "
        + layers.joined(separator: ", ") + "."
    case .nothingToQuantize(let path):
      "\(path): no linear layers were found. A weight counts when it is a float matrix inside a "
        + "numbered block."
    case .alreadyQuantized(let path, let method):
      "\(path) is quantized already (\(method)). Start from the float model, or add --requantize to take the "
        + "values that its codes stand for."
    case .nonFinite(let tensor, let index):
      "\(tensor): value \(index) is infinite or not a number. The checkpoint is damaged, or its "
        + "float16 weights overflowed when they were saved."
    case .nonFiniteActivation(let block, let site):
      "block \(block), \(site.map { "inputs of \($0.rawValue)" } ?? "its outputs"): infinite or not a "
        + "number on this text. The checkpoint is damaged, or its weights overflowed when they were saved; fetch it "
        + "again."
    case .folder(let error): "\(error)"
    case .interrupted(let path):
      "interrupted; what is finished is kept in \(path). Run the same command to continue."
    case .interruptedWithoutTrace(let work):
      "interrupted; \(work) keeps nothing before all of it is done. Run the same command to start over."
    case .damagedOutput(let file, let unit):
      "\(file): reading back \(unit) gave other bytes than were written. The disk may be failing; "
        + "nothing was renamed into place."
    case .brokenFormat(let path, let faults):
      "\(path): the result breaks the rules of its format. This is a fault of Nibble, not of your model; "
        + "please report it. Nothing was renamed into place.\n" + faults.joined(separator: "\n")
    case .unmeasurable(let reason): reason
    case .nothingGained(let path, let reason): "\(path): \(reason)"
    case .statistics(let path, let reason):
      "\(path): \(reason). Make it with nibble calibrate from this model."
    case .unmeasuredCache(let block, let what, let head):
      "block \(block): the \(what) of key head \(head) were all zero, or not finite, on the "
        + "calibration text, so that their cache has no scale. Use other text, or leave out --kv."
    }
  }
}
