#if MPI
  import CMPI
#endif

/// Processes that divide one task, as started by `mpirun -np N`; or this process alone.
///
/// All of them must call `agree` the same number of times. Needs a build with the trait MPI.
public final class ProcessGroup {
  /// Number of this process, from 0.
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

  /// Joins the processes that were started together.
  ///
  /// - Parameter environment: this process's.
  /// - Throws: when a launcher started this process as one of several and it cannot join the
  ///   others.
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

  /// The sum of each value over all processes; waits for all of them.
  public func sum(_ values: [Double]) -> [Double] {
    guard count > 1 else { return values }
    #if MPI
      var values = values
      let size = Int32(values.count)
      unsafe values.withUnsafeMutableBufferPointer { unsafe mpi_add($0.baseAddress!, size) }
    #endif
    return values
  }

  /// Waits until every process has done `work`; throws in all of them if it failed in one.
  public func agree<Result>(_ work: () throws -> Result) throws -> Result {
    let outcome = Swift.Result { try work() }
    let failed = if case .failure = outcome { 1.0 } else { 0.0 }
    let failures = sum([failed])[0]
    let result = try outcome.get()
    guard failures == 0 else { throw ProcessGroupError.otherFailed(Int(failures)) }
    return result
  }
}

/// Reasons why processes that were started together cannot work together.
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
