// core.cpp - what the core costs: switch, call, spawn, kill, locks, timers.
//
// ns per operation, best of seven. Compare with bare C++20 coroutines in the
// same run: single figures drift with the machine.
// SPDX-License-Identifier: MIT
#include <memory>
#include <random>
#include <vector>

#include "../../runtime/combine.hpp"
#include "../../runtime/events.hpp"
#include "../../runtime/generator.hpp"
#include "../../runtime/sync.hpp"
#include "../../runtime/within.hpp"
#include "bench.hpp"

using namespace violet;

namespace {

[[gnu::noinline]] Task<int> child(int x) {
  co_return x + 1;
}

Task<> call_children(long count) {
  int sum = 0;
  for (long i = 0; i < count; ++i) sum = co_await child(sum);
  volatile int sink = sum;
  (void)sink;
}

Task<> yielder(long count) {
  for (long i = 0; i < count; ++i) co_await yield_now();
}

Task<> yielders(int jobs, long count) {
  for (int i = 0; i < jobs; ++i) spawn(yielder, count / jobs);
  co_return;
}

Task<> leaf(int x) {
  volatile int sink = x;
  (void)sink;
  co_return;
}

// As many at a time as a busy program has; then they all run.
Task<> spawner(long count) {
  for (long i = 0; i < count / 100; ++i) {
    for (int k = 0; k < 100; ++k) spawn(leaf, k);
    co_await yield_now();
  }
}

Task<> all_of_1000(long count) {
  for (long i = 0; i < count / 1000; ++i) {
    std::vector<Task<>> tasks;
    tasks.reserve(1000);
    for (int k = 0; k < 1000; ++k) tasks.push_back(leaf(k));
    (void)co_await all(std::move(tasks));
  }
}

Task<> group_of_100_000(long count) {
  for (long i = 0; i < count / 100'000; ++i) {
    TaskGroup group;
    for (int k = 0; k < 100'000; ++k) group.spawn(leaf, k);
  }
  co_return;
}

Task<> limited(long count) {
  for (long i = 0; i < count; ++i) {
    (void)co_await within(std::chrono::hours(1), leaf(0));
  }
}

Task<> deep(int depth) {
  if (depth == 0) {
    co_await sleep(std::chrono::hours(1));
  } else {
    co_await deep(depth - 1);
  }
  int local = 0;
  (void)local;
}

Task<> killer(long count) {
  for (long i = 0; i < count / 100; ++i) {
    auto job = spawn(deep, 99);
    co_await yield_now();
    job.kill();
  }
}

Task<> acquirer(long count) {
  Semaphore semaphore(1);
  for (long i = 0; i < count; ++i) {
    const Permit permit = co_await semaphore.acquire();
  }
}

Task<> locker(long count) {
  Mutex mutex;
  for (long i = 0; i < count; ++i) {
    const auto lock = co_await mutex.lock();
  }
}

[[gnu::noinline]] Generator<long> numbers(long count) {
  for (long i = 0; i < count; ++i) co_yield i;
}

void consume(long count) {
  long sum = 0;
  for (const long i : numbers(count)) sum += i;
  volatile long sink = sum;
  (void)sink;
}

void timers_at(std::size_t standing, long count) {
  Timers timers;
  Stack nobody;
  std::mt19937_64 random(1);
  const auto moment = [&] {
    return TimePoint(Duration(random() % 10'000'000'000));
  };
  std::vector<std::unique_ptr<Timer>> all(standing);
  for (auto& timer : all) {
    timer = std::make_unique<Timer>();
    timers.start(*timer, moment(), nobody);
  }
  std::vector<Timer> fresh(1000);
  for (long i = 0; i < count / 1000; ++i) {
    for (auto& timer : fresh) timers.start(timer, moment(), nobody);
    for (auto& timer : fresh) timers.stop(timer);
  }
  for (auto& timer : all) timers.stop(*timer);
}

}  // namespace

int main() {
  bench("await a child in a loop", 5'000'000,
        [](long n) { run(call_children(n)); });
  bench("switch between two jobs by the ready queue", 10'000'000,
        [](long n) { run(yielders(2, n)); });
  bench("switch among 10 000 jobs by the ready queue", 10'000'000,
        [](long n) { run(yielders(10'000, n)); });
  bench("spawn + run + destroy a job", 5'000'000,
        [](long n) { run(spawner(n)); });
  bench("call, wait and kill a frame, 100 deep", 5'000'000,
        [](long n) { run(killer(n)); });
  bench("all of 1000 trivial tasks, each", 5'000'000,
        [](long n) { run(all_of_1000(n)); });
  bench("spawn into a group of 100 000 and kill, each", 2'000'000,
        [](long n) { run(group_of_100_000(n)); });
  bench("a trivial task with a limit", 2'000'000,
        [](long n) { run(limited(n)); });
  bench("acquire and release a free permit of a semaphore", 10'000'000,
        [](long n) { run(acquirer(n)); });
  bench("lock and unlock a free mutex", 10'000'000,
        [](long n) { run(locker(n)); });
  bench("the next value of a generator", 10'000'000, consume);
  bench("timer insert + cancel among 100 000 timers", 1'000'000,
        [](long n) { timers_at(100'000, n); });
}
