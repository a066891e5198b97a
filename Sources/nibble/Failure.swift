import ArgumentParser
import Foundation
import NibbleEngines
import NibbleFormats
import NibbleHub
import NibbleModel
import NibbleProcesses
import NibbleQuantize
import NibbleTensor
import NibbleText

/// One of our errors as a message and an exit status (sysexits.h).
struct Failure {
  static let boundCrossed: Int32 = 2
  static let usage: Int32 = 64
  static let badInput: Int32 = 65
  static let noSuchFile: Int32 = 66
  static let cannotWrite: Int32 = 73
  static let interrupted: Int32 = 75

  let message: String
  let status: Int32

  /// Nil for errors of the argument parser, which it prints itself.
  init?(_ error: any Error) {
    message = "\(error)"
    switch error {
    case let error as QuantizeError: status = Self.status(error)
    case let error as ModelError: status = Self.status(error)
    case let error as FormatError: status = Self.status(error)
    case let error as FileError: status = Self.status(error)
    case let error as RunFolderError: status = Self.status(error)
    case let error as CalibrationTextError: status = Self.status(error)
    case let error as TaskError: status = Self.status(error)
    case is HubError: status = Self.badInput
    case is ProcessGroupError: status = Self.usage
    case is ChatTemplateError, is TokenizerError, is JSONError: status = Self.badInput
    default: return nil
    }
  }

  private static func status(_ error: QuantizeError) -> Int32 {
    switch error {
    case .model(let error): status(error)
    case .format(let error): status(error)
    case .refused, .unknownRecipe, .recipeOption, .unsoundRecipe, .patternMatchedNothing: usage
    case .folder(let error): status(error)
    case .damagedOutput, .brokenFormat: cannotWrite
    case .nothingGained: boundCrossed
    case .interrupted, .interruptedWithoutTrace: interrupted
    case .nothingToQuantize, .alreadyQuantized, .nonFinite, .nonFiniteActivation, .unmeasurable,
      .recipeFile, .statistics,
      .unmeasuredCache:
      badInput
    }
  }

  private static func status(_ error: RunFolderError) -> Int32 {
    if case .file(let error) = error { status(error) } else { cannotWrite }
  }

  private static func status(_ error: TaskError) -> Int32 {
    if case .records(let error) = error { status(error) } else { badInput }
  }

  private static func status(_ error: CalibrationTextError) -> Int32 {
    if case .file(let error) = error { status(error) } else { badInput }
  }

  private static func status(_ error: ModelError) -> Int32 {
    if case .format(let error) = error { status(error) } else { badInput }
  }

  private static func status(_ error: FormatError) -> Int32 {
    if case .file(let error) = error { status(error) } else { badInput }
  }

  private static func status(_ error: FileError) -> Int32 {
    switch error.code {
    case ENOENT: noSuchFile
    case ENOSPC, EDQUOT, EROFS, EFBIG: cannotWrite
    default:
      ["create", "write", "flush", "name"].contains { error.action.hasPrefix($0) }
        ? cannotWrite : badInput
    }
  }
}
