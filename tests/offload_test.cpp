// offload_test.cpp - calls that block, beside the loop.
// SPDX-License-Identifier: MIT
#include "../runtime/offload.hpp"

#include <signal.h>

#include <algorithm>
#include <atomic>
#include <semaphore>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "../runtime/combine.hpp"
#include "../runtime/group.hpp"
#include "../runtime/shield.hpp"
#include "../runtime/testing.hpp"
#include "catch.hpp"
#include "support.hpp"

using namespace violet;
using namespace support;
using namespace std::chrono_literals;

namespace {

// ThreadSanitizer ends a process that is forked from one with threads as soon
// as it makes a thread itself.
#if defined(__SANITIZE_THREAD__)
constexpr bool kForksMayHaveThreads = false;
#elif defined(__has_feature)
constexpr bool kForksMayHaveThreads = !__has_feature(thread_sanitizer);
#else
constexpr bool kForksMayHaveThreads = true;
#endif

/// A call that runs until it is let go.
class Blocker {
 public:
  Blocker() = default;
  Blocker(const Blocker&) = delete;

  /// To be called on another thread.
  void block() noexcept {
    entered_.release();
    let_go_.acquire();
    ended = true;
  }
  void let_go(int calls = 1) noexcept { let_go_.release(calls); }

  /// Blocks this thread until the call has begun.
  void await() noexcept { entered_.acquire(); }

  std::atomic<bool> ended = false;

 private:
  std::counting_semaphore<> entered_{0};
  std::counting_semaphore<> let_go_{0};
};

/// Lets a call end from another thread, a little later.
Thread soon(Blocker& blocker) {
  return Thread([&] {
    for (int i = 0; i < 100; ++i) std::this_thread::yield();
    blocker.let_go();
  });
}

Task<> hold(OffloadPool& pool, Blocker& blocker) {
  co_await offload(pool, [&] { blocker.block(); });
}

Task<> note(OffloadPool& pool, std::atomic<int>& runs) {
  co_await offload(pool, [&] { ++runs; });
}

/// Waits, in real time, until something is so.
template <class Condition>
Task<> until(Condition condition) {
  while (!condition()) co_await violet::sleep(100us);
}

}  // namespace

// ---------------------------------------------------------------- what it does

TEST_CASE("offload: the value arrives, made on another thread",
          "[offload][threads]") {
  std::thread::id where;
  const auto body = [&]() -> Task<int> {
    co_return co_await offload([&] {
      where = std::this_thread::get_id();
      return 42;
    });
  };
  CHECK(run(body()) == 42);
  CHECK(where != std::thread::id());
  CHECK(where != std::this_thread::get_id());
}

TEST_CASE("offload: what it throws is thrown where it is awaited",
          "[offload][threads]") {
  const auto body = []() -> Task<std::string> {
    try {
      co_await offload([] { throw std::runtime_error("from a thread"); });
    } catch (const std::runtime_error& e) {
      co_return e.what();
    }
    co_return "nothing";
  };
  CHECK(run(body()) == "from a thread");
}

TEST_CASE("offload: values may be references, or only movable",
          "[offload][threads]") {
  const int before = Tracked::alive();
  int target = 1;
  const auto body = [&]() -> Task<> {
    int& same = co_await offload([&]() -> int& { return target; });
    same = 2;
    const auto made = co_await offload([] { return std::make_unique<int>(3); });
    CHECK(*made == 3);
    co_await offload([&] { target += 5; });
  };
  run(body());
  CHECK(target == 7);
  CHECK(Tracked::alive() == before);
}

TEST_CASE("offload: a function that has a name is neither copied nor moved",
          "[offload][threads]") {
  const auto body = []() -> Task<> {
    const Tracked tracked(4);
    auto named = [tracked, calls = 0]() mutable {
      ++calls;
      return calls + tracked.value();
    };
    const int before = Tracked::copies();
    const int alive = Tracked::alive();
    const int first = co_await offload(named);
    const int second = co_await offload(named);
    CHECK(first == 5);
    CHECK(second == 6);
    CHECK(Tracked::copies() == before);
    CHECK(Tracked::alive() == alive);
  };
  run(body());
}

TEST_CASE("offload: the loop goes on meanwhile", "[offload][threads]") {
  Blocker blocker;
  int ticks = 0;
  const auto body = [&]() -> Task<> {
    OffloadPool pool(1);
    const Job<> waits = spawn(hold, std::ref(pool), std::ref(blocker));
    for (; ticks < 100; ++ticks) co_await yield_now();
    CHECK_FALSE(blocker.ended);
    blocker.let_go();
    co_await join(waits);
    CHECK(blocker.ended);
  };
  run(body());
  CHECK(ticks == 100);
}

TEST_CASE("offload: a thousand calls on four threads, and never more at once",
          "[offload][threads]") {
  OffloadPool pool(4);
  std::atomic<int> at_once = 0;
  std::atomic<int> most = 0;
  std::vector<int> squares(1000, -1);
  const auto square = [&](int i) -> Task<> {
    squares[static_cast<std::size_t>(i)] = co_await offload(pool, [&] {
      const int now = ++at_once;
      int seen = most;
      while (now > seen && !most.compare_exchange_weak(seen, now)) {
      }
      std::this_thread::yield();
      --at_once;
      return i * i;
    });
  };
  const auto body = [&]() -> Task<> {
    TaskGroup group;
    for (int i = 0; i < 1000; ++i) group.spawn(square, i);
    co_await group.join();
  };
  run(body());
  for (int i = 0; i < 1000; ++i) {
    REQUIRE(squares[static_cast<std::size_t>(i)] == i * i);
  }
  CHECK(most <= 4);
  CHECK(pool.threads() <= 4);
  CHECK(pool.queued() == 0);
}

TEST_CASE("offload: threads are made on demand, and used again",
          "[offload][threads]") {
  OffloadPool pool(8);
  CHECK(pool.threads() == 0);
  CHECK(pool.most_threads() == 8);
  std::atomic<int> runs = 0;
  run(note(pool, runs));
  CHECK(pool.threads() == 1);
  Blocker blocker;
  const auto body = [&]() -> Task<> {
    TaskGroup group;
    for (int i = 0; i < 3; ++i) {
      group.spawn(hold, std::ref(pool), std::ref(blocker));
    }
    for (int i = 0; i < 3; ++i) {
      co_await yield_now();
      blocker.await();
    }
    CHECK(pool.threads() == 3);
    blocker.let_go(3);
    co_await group.join();
  };
  run(body());
  CHECK(pool.threads() == 3);
  CHECK(runs == 1);
}

TEST_CASE("offload: calls begin in the order in which they came",
          "[offload][threads]") {
  OffloadPool pool(1);
  std::vector<int> order;
  const auto call = [&](int i) -> Task<> {
    co_await offload(pool, [&] { order.push_back(i); });
  };
  const auto body = [&]() -> Task<> {
    TaskGroup group;
    for (int i = 0; i < 100; ++i) group.spawn(call, i);
    co_await group.join();
  };
  run(body());
  CHECK(order.size() == 100);
  CHECK(std::is_sorted(order.begin(), order.end()));
}

TEST_CASE("offload: what comes back together wakes the loop once",
          "[offload][threads]") {
  CountedLoop counted;
  OffloadPool pool(4);
  std::atomic<int> done = 0;
  const auto call = [&]() -> Task<> {
    co_await offload(pool, [&] { ++done; });
  };
  const auto body = [&]() -> Task<> {
    TaskGroup group;
    for (int i = 0; i < 100; ++i) group.spawn(call);
    co_await yield_now();
    // Their threads are past the count, and hand back what they have done.
    while (done < 100) std::this_thread::yield();
    co_await group.join();
  };
  counted.loop.run(body());
  CHECK(counted.poller.wakes >= 1);
  CHECK(counted.poller.wakes <= 5);  // each thread may come late with its last
}

TEST_CASE("offload: loops of several threads share a pool",
          "[offload][threads]") {
  OffloadPool pool(2);
  std::atomic<int> sum = 0;
  const auto body = [&]() -> Task<> {
    for (int i = 1; i <= 200; ++i) {
      auto add = [&] { sum += i; };
      co_await offload(pool, add);
    }
  };
  {
    std::vector<Thread> threads;
    for (int i = 0; i < 4; ++i) threads.emplace_back([&] { run(body()); });
  }
  CHECK(sum == 4 * 20100);
}

TEST_CASE("offload: its threads block all signals", "[offload][threads]") {
  sigset_t blocked;
  const auto body = [&]() -> Task<> {
    OffloadPool pool(1);
    co_await offload(pool,
                     [&] { pthread_sigmask(SIG_SETMASK, nullptr, &blocked); });
  };
  run(body());
  for (const int signal : {SIGINT, SIGTERM, SIGUSR1, SIGCHLD, SIGPIPE}) {
    CHECK(sigismember(&blocked, signal) == 1);
  }
  CHECK(sigismember(&blocked, SIGSEGV) == 0);
}

// ------------------------------------------------------------------------ kill

TEST_CASE(
    "offload: a kill before it has begun takes it back, and it never runs",
    "[offload][threads]") {
  OffloadPool pool(1);
  Blocker blocker;
  std::atomic<int> runs = 0;
  const auto body = [&]() -> Task<> {
    const Job<> first = spawn(hold, std::ref(pool), std::ref(blocker));
    const Job<> second = spawn(note, std::ref(pool), std::ref(runs));
    co_await yield_now();
    blocker.await();
    CHECK(pool.queued() == 1);
    CHECK(second.kill());
    CHECK(pool.queued() == 0);
    blocker.let_go();
    co_await join(first);
    std::atomic<int> later = 0;
    co_await note(pool, later);
    CHECK(later == 1);
  };
  run(body());
  CHECK(runs == 0);
}

TEST_CASE("offload: while it runs a kill is held until the next wait",
          "[offload][threads]") {
  Blocker blocker;
  Order order;
  const auto child = [&](OffloadPool& pool) -> Task<> {
    const Noted end(order, "frame gone");
    int local = 1;
    co_await offload(pool, [&] {
      blocker.block();
      local = 2;
    });
    order.push_back(local == 2 ? "went on" : "wrong");
    co_await yield_now();
    order.push_back("never");
  };
  const auto body = [&]() -> Task<> {
    OffloadPool pool(1);
    const Job<> job = spawn(child, std::ref(pool));
    co_await yield_now();
    blocker.await();
    CHECK_FALSE(job.kill("enough"));
    co_await yield_now();
    CHECK(order.empty());
    blocker.let_go();
    co_await wait(job);
    CHECK(job.killed());
  };
  run(body());
  CHECK(order == Order{"went on", "frame gone"});
}

TEST_CASE("offload: a kill from above waits for one that runs, not for others",
          "[offload][threads]") {
  OffloadPool pool(1);
  Blocker blocker;
  std::atomic<int> runs = 0;
  const auto above = [&]() -> Task<> {
    TaskGroup group;
    for (int i = 0; i < 5; ++i) {
      group.spawn(note, std::ref(pool), std::ref(runs));
    }
    co_await group.join();
  };
  const auto body = [&]() -> Task<> {
    const Job<> holds = spawn(hold, std::ref(pool), std::ref(blocker));
    const Job<> waits = spawn(above);
    for (int i = 0; i < 3; ++i) co_await yield_now();
    blocker.await();
    CHECK(pool.queued() == 5);
    CHECK(waits.kill());
    CHECK(pool.queued() == 0);
    blocker.let_go();
    co_await join(holds);
  };
  run(body());
  CHECK(runs == 0);
}

TEST_CASE("offload: a held kill from above lets queued calls run after all",
          "[offload][threads]") {
  OffloadPool pool(1);
  Blocker blocker;
  std::atomic<int> runs = 0;
  const auto above = [&]() -> Task<> {
    TaskGroup group;
    for (int i = 0; i < 5; ++i) {
      group.spawn(note, std::ref(pool), std::ref(runs));
    }
    group.spawn(hold, std::ref(pool), std::ref(blocker));
    for (int i = 0; i < 5; ++i) {
      group.spawn(note, std::ref(pool), std::ref(runs));
    }
    co_await group.join();
  };
  const auto body = [&]() -> Task<> {
    const Job<> waits = spawn(above);
    co_await until([&] { return runs == 5 && pool.queued() == 5; });
    blocker.await();
    CHECK_FALSE(waits.kill());
    CHECK(pool.queued() == 5);  // they are as they were
    blocker.let_go();
    co_await wait(waits);
    CHECK(waits.killed());
    CHECK(pool.queued() == 0);
  };
  run(body());
}

TEST_CASE("offload: a shield beside a queued call still holds a kill",
          "[offload][threads]") {
  OffloadPool pool(1);
  Blocker blocker;
  Gate gate;
  std::atomic<int> runs = 0;
  const auto guarded = [&]() -> Task<> {
    co_await shield([](Gate& g) -> Task<> { co_await g.pass(); }(gate));
  };
  const auto above = [&]() -> Task<> {
    TaskGroup group;
    group.spawn(guarded);
    group.spawn(note, std::ref(pool), std::ref(runs));
    co_await group.join();
  };
  const auto body = [&]() -> Task<> {
    const Job<> holds = spawn(hold, std::ref(pool), std::ref(blocker));
    const Job<> waits = spawn(above);
    for (int i = 0; i < 4; ++i) co_await yield_now();
    blocker.await();
    CHECK_FALSE(waits.kill());
    CHECK(pool.queued() == 1);
    gate.open();
    co_await wait(waits);
    blocker.let_go();
    co_await join(holds);
    CHECK(waits.killed());
  };
  run(body());
  CHECK(runs == 0);
}

TEST_CASE("offload: a limit takes back what has not begun",
          "[offload][threads]") {
  OffloadPool pool(1);
  Blocker blocker;
  std::atomic<int> runs = 0;
  const auto body = [&]() -> Task<> {
    const Job<> holds = spawn(hold, std::ref(pool), std::ref(blocker));
    co_await yield_now();
    blocker.await();
    const bool event = co_await within(1ms, offload(pool, [&] { ++runs; }));
    const bool task = co_await within(1ms, note(pool, runs));
    CHECK_FALSE(event);
    CHECK_FALSE(task);
    blocker.let_go();
    co_await join(holds);
  };
  run(body());
  CHECK(runs == 0);
}

TEST_CASE("offload: a limit waits for what runs, and its value arrives",
          "[offload][threads]") {
  OffloadPool pool(1);
  Blocker blocker;
  int timeouts = 0;
  const auto pass_limit = [&](Deadline& deadline) -> Task<> {
    for (int i = 0; i < 3; ++i) co_await yield_now();
    blocker.await();
    deadline.move(0s);
    for (int i = 0; i < 10; ++i) co_await yield_now();
    CHECK_FALSE(blocker.ended);
    ++timeouts;
    blocker.let_go();
  };
  const auto wait_twice = [&]() -> Task<> {
    co_await hold(pool, blocker);
    co_await yield_now();
  };
  const auto body = [&]() -> Task<> {
    Deadline first(1h);
    spawn(pass_limit, std::ref(first));
    const auto got = co_await within(first, offload(pool, [&] {
                                       blocker.block();
                                       return 7;
                                     }));
    CHECK(got == 7);
    CHECK(timeouts == 1);
    blocker.ended = false;
    Deadline second(1h);
    spawn(pass_limit, std::ref(second));
    const bool in_time = co_await within(second, wait_twice());
    CHECK_FALSE(in_time);
    CHECK(timeouts == 2);
  };
  run(body());
}

TEST_CASE("offload: the end of a group's scope blocks until it has ended",
          "[offload][threads]") {
  OffloadPool pool(1);
  Blocker blocker;
  std::atomic<int> runs = 0;
  const auto body = [&]() -> Task<> {
    std::optional<Thread> helper;
    {
      TaskGroup group;
      group.spawn(hold, std::ref(pool), std::ref(blocker));
      group.spawn(note, std::ref(pool), std::ref(runs));
      co_await yield_now();
      blocker.await();
      helper.emplace(soon(blocker));
    }
    CHECK(blocker.ended);
    CHECK(runs == 0);
  };
  run(body());
}

TEST_CASE("offload: so does the end of a loop", "[offload][threads]") {
  OffloadPool pool(1);
  Blocker blocker;
  std::optional<Thread> helper;
  {
    Loop loop;
    loop.spawn(hold, std::ref(pool), std::ref(blocker));
    loop.run_once();
    blocker.await();
    helper.emplace(soon(blocker));
  }
  CHECK(blocker.ended);
}

TEST_CASE(
    "offload: one that is back and not yet told of is dropped with its job",
    "[offload][threads]") {
  const int before = Tracked::alive();
  OffloadPool pool(1);
  std::atomic<bool> done = false;
  const auto child = [&]() -> Task<> {
    co_await offload(pool, [&] {
      done = true;
      return 1;
    });
  };
  {
    Loop loop;
    loop.spawn(child);
    loop.run_once();
    while (!done) std::this_thread::yield();
  }
  CHECK(Tracked::alive() == before);
}

// --------------------------------------------------------------------- abandon

TEST_CASE("abandon: value and exception arrive as ever", "[offload][threads]") {
  const auto body = []() -> Task<> {
    const int three = co_await offload(abandon, [] { return 3; });
    const auto add = [](int& a, int b) { return a + b; };
    const int seven = co_await offload(abandon, add, three, 4);
    CHECK(seven == 7);
    OffloadPool pool(1);
    co_await offload(abandon, pool, [] {});
    std::string text;
    try {
      co_await offload(abandon, [] { throw std::runtime_error("left"); });
    } catch (const std::runtime_error& e) {
      text = e.what();
    }
    CHECK(text == "left");
  };
  run(body());
}

TEST_CASE("abandon: a kill leaves a running call behind",
          "[offload][threads]") {
  const auto blocker = std::make_shared<Blocker>();
  OffloadPool pool(1);
  const auto call = [&]() -> Task<> {
    auto block = [](const std::shared_ptr<Blocker>& held) {
      held->block();
      return held;
    };
    co_await offload(abandon, pool, block, blocker);
  };
  const auto body = [&]() -> Task<> {
    const Job<> job = spawn(call);
    co_await yield_now();
    blocker->await();
    CHECK(job.kill());
    CHECK_FALSE(blocker->ended);
  };
  run(body());  // and the loop is gone
  CHECK(blocker.use_count() == 2);
  blocker->let_go();
  while (blocker.use_count() != 1) std::this_thread::yield();
  CHECK(blocker->ended);
}

TEST_CASE("abandon: a limit does so, too, and so does any",
          "[offload][threads]") {
  const auto blocker = std::make_shared<Blocker>();
  OffloadPool pool(2);
  auto block = [](const std::shared_ptr<Blocker>& held) { held->block(); };
  const auto body = [&]() -> Task<> {
    Deadline deadline(1h);
    const auto pass_limit = [&]() -> Task<> {
      blocker->await();
      deadline.move(0s);
      co_return;
    };
    spawn(pass_limit);
    const bool ended =
        co_await within(deadline, offload(abandon, pool, block, blocker));
    CHECK_FALSE(ended);
    Gate gate;
    const auto open = [&]() -> Task<> {
      blocker->await();
      gate.open();
      co_return;
    };
    spawn(open);
    const auto first =
        co_await any(offload(abandon, pool, block, blocker), gate.pass());
    CHECK(first.index() == 1);
  };
  run(body());
  blocker->let_go(2);
  while (blocker.use_count() != 1) std::this_thread::yield();
}

TEST_CASE("abandon: one that has not begun never runs, and dies at once",
          "[offload][threads]") {
  OffloadPool pool(1);
  Blocker blocker;
  std::atomic<int> runs = 0;
  const auto owned = std::make_shared<int>(1);
  const auto call = [&]() -> Task<> {
    auto count = [&](const std::shared_ptr<int>&) { ++runs; };
    co_await offload(abandon, pool, count, owned);
  };
  const auto body = [&]() -> Task<> {
    const Job<> holds = spawn(hold, std::ref(pool), std::ref(blocker));
    const Job<> job = spawn(call);
    co_await yield_now();
    blocker.await();
    CHECK(owned.use_count() == 2);
    CHECK(job.kill());
    CHECK(owned.use_count() == 1);
    blocker.let_go();
    co_await join(holds);
  };
  run(body());
  CHECK(runs == 0);
}

// ----------------------------------------------------------------- around it

TEST_CASE("offload: a pool that goes refuses what it has not begun",
          "[offload][threads]") {
  auto pool = std::make_unique<OffloadPool>(1);
  Blocker blocker;
  std::atomic<int> runs = 0;
  std::string said;
  const auto refused = [&]() -> Task<> {
    try {
      co_await note(*pool, runs);
    } catch (const Misuse& e) {
      said = e.what();
    }
  };
  const auto body = [&]() -> Task<> {
    const Job<> holds = spawn(hold, std::ref(*pool), std::ref(blocker));
    const Job<> waits = spawn(refused);
    co_await yield_now();
    blocker.await();
    pool.reset();
    co_await join(waits);
    blocker.let_go();
    co_await join(holds);
  };
  run(body());
  CHECK(runs == 0);
  CHECK(contains(said, "the pool of an offload is gone"));
}

TEST_CASE("offload: a pool of no threads is a mistake", "[offload]") {
  CHECK_THROWS_AS(OffloadPool(0), Misuse);
}

TEST_CASE("offload: while one runs, waiting for nothing is no deadlock",
          "[offload][threads]") {
  Gate gate;
  Blocker blocker;
  const auto body = [&]() -> Task<> {
    OffloadPool pool(1);
    co_await hold(pool, blocker);
    co_await gate.pass();
  };
  const Thread helper = soon(blocker);
  CHECK_THROWS_AS(run(body()), Deadlock);
  CHECK(blocker.ended);
}

TEST_CASE("offload: virtual time does not jump while one runs",
          "[offload][threads]") {
  Blocker blocker;
  const auto sleeper = []() -> Task<> { co_await violet::sleep(1h); };
  const auto body = [&]() -> Task<> {
    OffloadPool pool(1);
    const Job<> sleeps = spawn(sleeper);
    const TimePoint before = now();
    co_await hold(pool, blocker);
    CHECK(now() - before < 30min);
    co_await join(sleeps);
    CHECK(now() - before >= 1h);
  };
  const Thread helper = soon(blocker);
  in_virtual_time(body);
}

TEST_CASE("offload: a dump tells what is queued and what runs",
          "[offload][threads]") {
  OffloadPool pool(1);
  Blocker blocker;
  std::atomic<int> runs = 0;
  std::string text;
  const auto body = [&]() -> Task<> {
    TaskGroup group;
    group.spawn(hold, std::ref(pool), std::ref(blocker));
    group.spawn(note, std::ref(pool), std::ref(runs));
    co_await yield_now();
    blocker.await();
    text = Loop::current().dump();
    blocker.let_go();
    co_await group.join();
  };
  run(body());
  CHECK(contains(text, "waiting for offload, running"));
  CHECK(contains(text, "waiting for offload, queued"));
}

TEST_CASE("offload: a process ends though a call never does",
          "[offload][threads]") {
  if (!kForksMayHaveThreads) return;
  const ChildEnd end = in_child([] {
    static Blocker never;
    auto block = [] { never.block(); };
    const auto call = [&]() -> Task<> { co_await offload(abandon, block); };
    const auto body = [&]() -> Task<> {
      const Job<> job = spawn(call);
      co_await yield_now();
      never.await();
      if (!job.kill()) throw std::logic_error("it is waited for");
    };
    run(body());
    std::exit(7);  // as main() would: static objects are destroyed
  });
  CHECK(end.signal == 0);
  CHECK(end.status == 7);
}

TEST_CASE("offload: a forked process has threads of its own",
          "[offload][threads]") {
  if (!kForksMayHaveThreads) return;
  OffloadPool pool(2);
  std::atomic<int> runs = 0;
  run(note(pool, runs));
  const auto use_both = []() -> Task<int> {
    co_return co_await offload([] { return 5; });
  };
  CHECK(run(use_both()) == 5);
  const ChildEnd end = in_child([&] {
    if (pool.threads() != 0) throw std::logic_error("threads were forked");
    run(note(pool, runs));
    if (runs != 2) throw std::logic_error("it did not run");
    if (run(use_both()) != 5) throw std::logic_error("nor the other");
  });
  CAPTURE(end.errors);
  CHECK(end.status == 0);
  run(note(pool, runs));
  CHECK(runs == 2);
}

TEST_CASE("offload: where no thread can be made, it says so",
          "[offload][threads]") {
  FaultPlan plan;
  plan.fail(Call::kStartThread, EAGAIN);
  OffloadPool pool(2);
  std::atomic<int> runs = 0;
  CHECK_THROWS_WITH(run(note(pool, runs)),
                    Catch::Contains("offload: no thread can be made: "));
  CHECK(runs == 0);
  run(note(pool, runs));
  CHECK(runs == 1);
}

TEST_CASE("offload: where no more can be made, those that there are will do",
          "[offload][threads]") {
  FaultPlan plan;
  plan.fail(Call::kStartThread, EAGAIN, 2, FaultPlan::kForEver);
  OffloadPool pool(4);
  std::atomic<int> runs = 0;
  const auto body = [&]() -> Task<> {
    TaskGroup group;
    for (int i = 0; i < 20; ++i) {
      group.spawn(note, std::ref(pool), std::ref(runs));
    }
    co_await group.join();
  };
  run(body());
  CHECK(runs == 20);
  CHECK(pool.threads() == 1);
  CHECK(plan.failed(Call::kStartThread) > 0);
}

TEST_CASE("offload: who answers system calls on the loop does so in the call",
          "[offload][threads]") {
  FaultPlan plan;
  plan.fail(Call::kUnlink, EROFS);
  const auto body = []() -> Task<int> {
    co_return co_await offload([] { return sys::calls->unlink("/none"); });
  };
  CHECK(run(body()) == -EROFS);
  CHECK(run(body()) == -ENOENT);
}

TEST_CASE("offload: a kill at every wait leaves nothing behind",
          "[offload][threads][kill]") {
  struct Books {
    std::atomic<int> inside = 0;
    std::atomic<int> alive = 0;
  };
  static OffloadPool& pool = *new OffloadPool(2);
  const auto call = [](Books& books) -> Task<> {
    ++books.alive;
    struct Leaving {
      explicit Leaving(Books& b) noexcept : books(b) {}
      ~Leaving() {
        if (books.inside != 0) fatal("a frame went from under a call");
        --books.alive;
      }
      Books& books;
    } leaving(books);
    std::atomic<int> mine = 0;
    co_await offload(pool, [&] { ++mine; });
    auto own = [](int& i) { return i; };
    co_await offload(abandon, pool, own, 1);
    co_await within(1ms, offload(pool, [&] { ++mine; }));
  };
  const auto body = [call](Books& books) -> Task<> {
    TaskGroup group;
    for (int i = 0; i < 3; ++i) group.spawn(call, std::ref(books));
    co_await group.join();
  };
  testing::Options options;
  options.seeds = 100;
  const auto counts = testing::kill_everywhere<Books>(
      body,
      [](Books& books) {
        if (books.alive != 0) throw std::runtime_error("a frame is left");
      },
      options);
  CHECK(counts.waits >= 10);
  CHECK(counts.kills >= counts.waits);
}
