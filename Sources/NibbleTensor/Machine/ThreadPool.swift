import Foundation
import Synchronization

/// A fixed set of threads that run numbered tasks together with the caller.
///
/// Which thread runs a task is not fixed. What a task computes may depend only on its number, so
/// that results do not depend on the number of threads. Idle workers poll for the next batch for
/// some tenths of a millisecond, yielding to other threads, and then sleep. A task must not call
/// `run`.
@safe public final class ThreadPool: @unchecked Sendable {
  // Sendable by hand: `shared` is written only between batches, under `callers`.
  private let shared: Shared
  private let callers = NSLock()
  public let threads: Int

  /// - Parameter threads: threads that run at once, the caller included; at least 1.
  public init(threads: Int) {
    self.threads = max(1, threads)
    shared = Shared()
    for worker in 1..<max(2, self.threads) where worker < self.threads {
      let shared = shared
      let thread = Thread { shared.serve(worker: worker) }
      thread.stackSize = 1 << 20
      thread.start()
    }
  }

  deinit { shared.stop() }

  /// Runs `body(task, worker)` once for each task in `0..<tasks` and returns when all are done;
  /// `worker` is in `0..<threads`, and no two tasks run at once under the same number.
  public func run(_ tasks: Int, _ body: (_ task: Int, _ worker: Int) -> Void) {
    guard tasks > 1, threads > 1 else {
      for task in 0..<max(0, tasks) { body(task, 0) }
      return
    }
    callers.lock()
    defer { callers.unlock() }
    withoutActuallyEscaping(body) { body in
      shared.publish(tasks, body, workers: threads - 1)
      shared.work(worker: 0)
      shared.finish()
    }
  }

  private final class Shared: @unchecked Sendable {
    // `body` and `tasks` change only while no worker is busy; `generation` publishes them.
    private var body: ((Int, Int) -> Void)?
    private var tasks = 0
    /// Polls of a counter before a thread sleeps: some tenths of a millisecond, longer than the
    /// caller's serial work between two batches of a decode step.
    private static let patience = 200_000
    /// Polls between two yields. Without yielding, pools that share cores starve each other.
    private static let looksAtOnce = 256
    private let generation = Atomic<Int>(0)
    private let next = Atomic<Int>(0)
    private let busy = Atomic<Int>(0)
    private let stopped = Atomic<Bool>(false)
    private let sleep = NSCondition()
    private let sleepers = Atomic<Int>(0)

    func publish(_ tasks: Int, _ body: @escaping (Int, Int) -> Void, workers: Int) {
      self.tasks = tasks
      self.body = body
      next.store(0, ordering: .relaxed)
      busy.store(workers, ordering: .relaxed)
      generation.add(1, ordering: .sequentiallyConsistent)
      wakeSleepers()
    }

    func stop() {
      stopped.store(true, ordering: .sequentiallyConsistent)
      wakeSleepers()
    }

    /// Wakes sleeping workers after a change. A worker counts itself as a sleeper before its last
    /// check for the change, so it either sees the change or is woken here; without sleepers no
    /// lock is taken.
    private func wakeSleepers() {
      guard sleepers.load(ordering: .sequentiallyConsistent) > 0 else { return }
      sleep.lock()
      sleep.broadcast()
      sleep.unlock()
    }

    func work(worker: Int) {
      guard let body else { return }
      while true {
        let task = next.add(1, ordering: .relaxed).oldValue
        guard task < tasks else { return }
        body(task, worker)
      }
    }

    func finish() {
      var spins = 0
      while busy.load(ordering: .acquiring) > 0 {
        spins += 1
        if spins.isMultiple(of: Self.looksAtOnce) { sched_yield() }
      }
      body = nil
    }

    func serve(worker: Int) {
      var seen = 0
      while true {
        var spins = 0
        while generation.load(ordering: .acquiring) == seen, spins < Self.patience {
          if stopped.load(ordering: .relaxed) { return }
          spins += 1
          if spins.isMultiple(of: Self.looksAtOnce) { sched_yield() }
        }
        if generation.load(ordering: .acquiring) == seen {
          sleep.lock()
          sleepers.add(1, ordering: .sequentiallyConsistent)
          while generation.load(ordering: .sequentiallyConsistent) == seen {
            if stopped.load(ordering: .sequentiallyConsistent) {
              sleep.unlock()
              return
            }
            sleep.wait()
          }
          sleepers.subtract(1, ordering: .sequentiallyConsistent)
          sleep.unlock()
        }
        seen += 1
        work(worker: worker)
        busy.subtract(1, ordering: .releasing)
      }
    }
  }
}
