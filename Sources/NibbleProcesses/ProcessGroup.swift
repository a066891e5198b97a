#if MPI
  import CMPI
#endif

/// The processes that share one task, as started by `mpirun -np N`, or this process alone.
///
/// All of them must make the same calls of `sum` and `agree`. Needs a build with the trait MPI.
public final class ProcessGroup {
  /// Number of this process, in `0..<count`.
  public let rank: Int
  public let count: Int

  public var isFirst: Bool { rank == 0 }

  /// A group of this process only.
  public static var alone: ProcessGroup { ProcessGroup(rank: 0, count: 1) }

  private init(rank: Int, count: Int) { (self.rank, self.count) = (rank, count) }

  deinit {
    #if MPI
      if count > 1 { mpi_leave() }
    #endif
  }

  /// Joins the processes that a launcher started together.
  ///
  /// - Parameter environment: environment variables of this process.
  /// - Throws: if a launcher started several processes and this one cannot join the others.
  public static func join(
    _ environment: [String: String]
  ) throws(ProcessGroupError) -> ProcessGroup {
    let started =
      ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS"]
      .compactMap { environment[$0].flatMap { Int($0) } }.first ?? 1
    guard started > 1 else { return alone }
    #if MPI
      var (rank, count): (Int32, Int32) = (0, 1)
      guard unsafe mpi_join(&rank, &count) == 1 else { throw .notJoined(started) }
      return ProcessGroup(rank: Int(rank), count: Int(count))
    #else
      throw .builtWithout(started)
    #endif
  }

  /// The elementwise sum over all processes. Waits for all of them.
  public func sum(_ values: [Double]) -> [Double] {
    guard count > 1 else { return values }
    #if MPI
      var values = values
      let size = Int32(values.count)
      unsafe values.withUnsafeMutableBufferPointer { unsafe mpi_add($0.baseAddress!, size) }
    #endif
    return values
  }

  /// Runs `work` and waits for all processes. Throws in all of them if `work` fails in any.
  public func agree<Result>(_ work: () throws -> Result) throws -> Result {
    let outcome = Swift.Result { try work() }
    let failed = if case .failure = outcome { 1.0 } else { 0.0 }
    let failures = sum([failed])[0]
    let result = try outcome.get()
    guard failures == 0 else { throw ProcessGroupError.otherFailed(Int(failures)) }
    return result
  }
}

/// Why processes that were started together cannot share a task.
public enum ProcessGroupError: Error, Hashable, Sendable, CustomStringConvertible {
  case builtWithout(Int)
  case notJoined(Int)
  case otherFailed(Int)

  public var description: String {
    switch self {
    case .builtWithout(let count):
      "this is one of \(count) processes that were started together, but this build does not speak "
        + "MPI. Build it with swift build -c release --traits MPI (Debian: libopenmpi-dev), or start "
        + "one process: it uses all cores."
    case .notJoined(let count):
      "this is one of \(count) processes that were started together, and MPI did not let it join them"
    case .otherFailed(let count):
      "\(count) of the processes failed; what they say comes first. Nothing was finished."
    }
  }
}
