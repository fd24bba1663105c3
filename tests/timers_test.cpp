// timers_test.cpp - deadlines in a heap.
// SPDX-License-Identifier: MIT
#include "../runtime/timers.hpp"

#include <deque>
#include <random>
#include <set>

#include "catch.hpp"
#include "support.hpp"

using namespace violet;
using namespace support;
using namespace std::chrono_literals;

namespace {

/// A job that is never parked, so that a timer that fires wakes nobody.
class NoJob final : public JobBlock {
 public:
  NoJob() { step = Step::kRunning; }

 private:
  Frame* enter() override { return nullptr; }
  void settle(Frame&) override {}
  void forget_arguments() noexcept override {}
};

constexpr TimePoint at(Duration since) {
  return TimePoint(since);
}

/// Sleeps, and notes when it woke.
Task<> sleeper(Duration duration, std::string name, Order& order) {
  const TimePoint start = now();
  co_await sleep(duration);
  CHECK(now() - start >= duration);
  order.push_back(std::move(name));
}

}  // namespace

TEST_CASE("timers: after() adds, never goes back and never overflows",
          "[timers]") {
  CHECK(after(at(5s), 3s) == at(8s));
  CHECK(after(at(5s), 0s) == at(5s));
  CHECK(after(at(5s), -3s) == at(5s));
  CHECK(after(at(5s), Duration::min()) == at(5s));
  CHECK(after(at(5s), Duration::max()) == kNever);
  CHECK(after(kNever, 1ns) == kNever);
  CHECK(after(kNever - 1ns, 1ns) == kNever);
  CHECK(after(kNever - 2ns, 1ns) == kNever - 1ns);
}

TEST_CASE("timers: without timers nothing is ever due", "[timers]") {
  Timers timers;
  CHECK(timers.empty());
  CHECK(timers.size() == 0);
  CHECK(timers.next() == kNever);
  timers.fire(kNever);
}

TEST_CASE("timers: one fires at its deadline and not a nanosecond before",
          "[timers]") {
  NoJob job;
  Timers timers;
  Timer timer;
  CHECK_FALSE(timer.active());
  REQUIRE(timers.start(timer, at(10s), job));
  CHECK(timer.active());
  CHECK(timer.deadline() == at(10s));
  CHECK(timers.next() == at(10s));
  timers.fire(at(10s) - 1ns);
  CHECK(timer.active());
  timers.fire(at(10s));
  CHECK_FALSE(timer.active());
  CHECK(timers.empty());
}

TEST_CASE("timers: one that has fired or stopped can start again", "[timers]") {
  NoJob job;
  Timers timers;
  Timer timer;
  REQUIRE(timers.start(timer, at(1s), job));
  timers.fire(at(1s));
  REQUIRE(timers.start(timer, at(2s), job));
  timers.stop(timer);
  timers.stop(timer);
  CHECK_FALSE(timer.active());
  timers.fire(kNever);
  REQUIRE(timers.start(timer, at(3s), job));
  CHECK(timers.next() == at(3s));
  timers.stop(timer);
}

TEST_CASE("timers: a deadline that never comes is no deadline", "[timers]") {
  NoJob job;
  Timers timers;
  Timer timer;
  REQUIRE(timers.start(timer, kNever, job));
  CHECK(timers.next() == kNever);
  timers.fire(kNever - 1ns);
  CHECK(timer.active());
  timers.stop(timer);
}

TEST_CASE("timers: without memory one does not start, and the others fire",
          "[timers]") {
  struct NoMemory final : sys::Calls {
    void* allocate(std::size_t) noexcept override { return nullptr; }
  };
  Timers timers;
  NoJob job;
  std::deque<Timer> all(64);
  std::size_t started = 0;
  {
    REQUIRE(timers.start(all[started++], at(1s), job));
    NoMemory none;
    const ScopedCalls guard(none);
    while (timers.start(all[started], at(1s), job)) ++started;
    CHECK(started < all.size());
    CHECK_FALSE(all[started].active());
  }
  CHECK(timers.start(all[started], at(2s), job));
  CHECK(timers.size() == started + 1);
  timers.fire(at(1s));
  CHECK(timers.size() == 1);
  timers.fire(at(2s));
  CHECK(timers.empty());
}

TEST_CASE("timers: any mixture of starts, stops and turns agrees with a set",
          "[timers]") {
  std::mt19937 random(7);
  NoJob job;
  Timers timers;
  std::deque<Timer> all(300);
  std::set<std::pair<TimePoint, Timer*>> model;
  TimePoint time = at(1s);
  for (int round = 0; round < 20'000; ++round) {
    Timer& timer = all[random() % all.size()];
    if (timer.active()) {
      model.erase({timer.deadline(), &timer});
      timers.stop(timer);
      REQUIRE_FALSE(timer.active());
    } else {
      const TimePoint deadline = time + Duration(random() % 1000);
      REQUIRE(timers.start(timer, deadline, job));
      model.insert({deadline, &timer});
    }
    if (random() % 8 == 0) {
      time += Duration(random() % 100);
      timers.fire(time);
      while (!model.empty() && model.begin()->first <= time) {
        REQUIRE_FALSE(model.begin()->second->active());
        model.erase(model.begin());
      }
    }
    REQUIRE(timers.size() == model.size());
    REQUIRE(timers.next() == (model.empty() ? kNever : model.begin()->first));
  }
  for (const auto& [deadline, timer] : model) CHECK(timer->active());
  timers.fire(kNever);
  CHECK(timers.empty());
}

TEST_CASE("timers: equal deadlines fire in the order they were started",
          "[timers]") {
  Order order;
  Order expected;
  const auto body = [&]() -> Task<> {
    for (int i = 0; i < 200; ++i) {
      spawn(sleeper, 1s, std::to_string(i), std::ref(order));
      expected.push_back(std::to_string(i));
    }
    co_await sleep(2s);
  };
  in_virtual_time(body);
  CHECK(order == expected);
}

TEST_CASE("timers: stopping some does not disturb the order of the others",
          "[timers]") {
  Order order;
  Order expected;
  const auto body = [&]() -> Task<> {
    std::vector<Job<>> jobs;
    for (int i = 0; i < 200; ++i) {
      jobs.push_back(spawn(sleeper, 1s, std::to_string(i), std::ref(order)));
    }
    co_await yield_now();
    for (std::size_t i = 0; i < jobs.size(); ++i) {
      if (i * 7 % 3 == 0) {
        CHECK(jobs[i].kill());
      } else {
        expected.push_back(std::to_string(i));
      }
    }
    co_await sleep(2s);
  };
  in_virtual_time(body);
  CHECK(order == expected);
}

TEST_CASE("timers: earlier deadlines fire first, whatever the order of start",
          "[timers]") {
  Order order;
  const auto body = [&]() -> Task<> {
    spawn(sleeper, 3s, "three", std::ref(order));
    spawn(sleeper, 1s, "one", std::ref(order));
    spawn(sleeper, 2s, "two", std::ref(order));
    spawn(sleeper, 0s, "zero", std::ref(order));
    co_return;
  };
  in_virtual_time(body);
  CHECK(order == Order{"zero", "one", "two", "three"});
}

TEST_CASE("timers: a duration counts from when its sleep begins", "[timers]") {
  SimPoller time;
  LoopOptions options;
  options.poller = &time;
  Loop loop(options);
  const auto body = [&]() -> Task<> {
    time.advance(10s);  // a long computation in this very step
    const TimePoint start = time.now();
    co_await sleep(1s);
    CHECK(time.now() - start == 1s);
  };
  loop.run(body());
}

TEST_CASE("timers: a killed sleeper leaves no timer behind", "[timers]") {
  const auto body = []() -> Task<> {
    const Job<> job = spawn([]() -> Task<> { co_await sleep(1h); });
    co_await yield_now();
    CHECK(Loop::current().timers().size() == 1);
    CHECK(job.kill());
    CHECK(Loop::current().timers().empty());
  };
  in_virtual_time(body);
}

TEST_CASE("timers: a completed wait leaves no timer behind", "[timers]") {
  Gate gate;
  const auto body = [&]() -> Task<> {
    const Job<> job = spawn([&]() -> Task<> {
      const bool passed = co_await within(1h, gate.pass());
      CHECK(passed);
    });
    co_await yield_now();
    CHECK(Loop::current().timers().size() == 1);
    gate.open();
    co_await join(job);
    CHECK(Loop::current().timers().empty());
  };
  in_virtual_time(body);
}

TEST_CASE("timers: none is ever early on the real clock", "[timers]") {
  const auto body = []() -> Task<> {
    for (const Duration length :
         std::initializer_list<Duration>{1ns, 999ns, 1us, 1ms, 1'000'001ns}) {
      const TimePoint start = Clock::now();
      co_await sleep(length);
      CHECK(Clock::now() - start >= length);
    }
  };
  run(body());
}

TEST_CASE("timers: sleeping for as long as numbers go is possible",
          "[timers]") {
  const auto body = []() -> Task<> {
    const Job<> job =
        spawn([]() -> Task<> { co_await sleep(Duration::max()); });
    co_await sleep(100h);
    CHECK_FALSE(job.ended());
    CHECK(job.kill());
  };
  in_virtual_time(body);
}
