import NibbleTensor
import Synchronization
import Testing

@Suite struct ThreadPoolTests {
  @Test(arguments: [1, 2, 3, 8], [0, 1, 2, 33])
  func runsEachTaskOnce(_ threads: Int, _ tasks: Int) {
    let pool = ThreadPool(threads: threads)
    #expect(pool.threads == threads)
    for _ in 0..<200 {
      let runs = Mutex([Int](repeating: 0, count: tasks))
      let workers = Mutex(Set<Int>())
      pool.run(tasks) { task, worker in
        runs.withLock { $0[task] += 1 }
        workers.withLock { _ = $0.insert(worker) }
      }
      // All are done when run returns.
      #expect(runs.withLock { $0.allSatisfy { $0 == 1 } })
      #expect(workers.withLock { $0.allSatisfy { (0..<threads).contains($0) } })
    }
  }

  @Test func noTwoTasksRunAtOnceUnderOneNumber() {
    let pool = ThreadPool(threads: 4)
    let busy = Mutex([Bool](repeating: false, count: 4))
    let clashes = Atomic<Int>(0)
    for _ in 0..<50 {
      pool.run(64) { _, worker in
        let wasBusy = busy.withLock { flags in
          defer { flags[worker] = true }
          return flags[worker]
        }
        if wasBusy { clashes.add(1, ordering: .relaxed) }
        busy.withLock { $0[worker] = false }
      }
    }
    #expect(clashes.load(ordering: .relaxed) == 0)
  }

  @Test func fewerThanOneThreadIsOne() {
    #expect(ThreadPool(threads: 0).threads == 1)
    #expect(ThreadPool(threads: -3).threads == 1)
    var runs = 0
    ThreadPool(threads: 2).run(-1) { _, _ in runs += 1 }
    #expect(runs == 0)
  }

  /// Callers on several threads take turns.
  @Test func callersMayShareAPool() async {
    let pool = ThreadPool(threads: 3)
    let whole = await withTaskGroup(of: Int.self) { group in
      for _ in 0..<4 {
        group.addTask {
          var whole = 0
          for _ in 0..<50 {
            let sum = Atomic<Int>(0)
            pool.run(17) { task, _ in sum.add(task, ordering: .relaxed) }
            if sum.load(ordering: .relaxed) == 136 { whole += 1 }
          }
          return whole
        }
      }
      return await group.reduce(0, +)
    }
    #expect(whole == 200)
  }

  /// A pool that is let go stops its threads, asleep or spinning.
  @Test func poolsComeAndGo() {
    for round in 0..<100 {
      let pool = ThreadPool(threads: 4)
      let count = Atomic<Int>(0)
      if round.isMultiple(of: 2) {
        pool.run(5) { _, _ in count.add(1, ordering: .relaxed) }
        #expect(count.load(ordering: .relaxed) == 5)
      }
    }
  }
}
