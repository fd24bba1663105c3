// poller_sim_test.cpp - virtual time.
// SPDX-License-Identifier: MIT
#include "../runtime/poller_sim.hpp"

#include <thread>

#include "catch.hpp"
#include "support.hpp"

using namespace violet;
using namespace support;
using namespace std::chrono_literals;

namespace {

Task<> every(Duration period, int times, std::string name, Order& order) {
  for (int i = 0; i < times; ++i) {
    co_await sleep(period);
    order.push_back(name + std::to_string(i));
  }
}

}  // namespace

TEST_CASE("sim: time stands still while nobody waits", "[sim]") {
  SimPoller time;
  const TimePoint start = time.now();
  CHECK(time.now() == start);
  CHECK(time.wait(TimePoint::min(), false).empty());
  CHECK(time.wait(start, false).empty());
  CHECK(time.now() == start);
}

TEST_CASE("sim: a wait jumps to its deadline exactly", "[sim]") {
  SimPoller time;
  const TimePoint start = time.now();
  for (const Duration far : {Duration(1ns), Duration(1h), Duration(8760h)}) {
    const TimePoint deadline = time.now() + far;
    CHECK(time.wait(deadline, false).empty());
    CHECK(time.now() == deadline);
  }
  CHECK(time.now() == start + 1ns + 1h + 8760h);
}

TEST_CASE("sim: advance lets time pass, and never back", "[sim]") {
  SimPoller time;
  const TimePoint start = time.now();
  time.advance(5s);
  CHECK(time.now() == start + 5s);
  time.advance(-3s);
  CHECK(time.now() == start + 5s);
  time.advance(Duration::max());
  CHECK(time.now() == kNever);
}

TEST_CASE("sim: a ready descriptor comes before any jump", "[sim]") {
  SimPoller time;
  Pair pipe = make_pipe();
  REQUIRE(time.add(pipe[0].get(), {1, 1}, kReadable) == 0);
  put(pipe[1].get(), "x");
  const TimePoint start = time.now();
  CHECK(time.wait(start + 1h, false).size() == 1);
  CHECK(time.now() == start);
  CHECK(time.wait(start + 1h, false).empty());
  CHECK(time.now() == start + 1h);
}

TEST_CASE("sim: a wake-up comes before any jump", "[sim]") {
  SimPoller time;
  const TimePoint start = time.now();
  time.wake();
  CHECK(time.wait(start + 1h, false).empty());
  CHECK(time.now() == start);
  CHECK(time.woken());
  CHECK(time.wait(start + 1h, false).empty());
  CHECK(time.now() == start + 1h);
}

TEST_CASE("sim: while a wake-up is expected, time flows at its own pace",
          "[sim]") {
  SimPoller time;
  const TimePoint start = time.now();
  const TimePoint real_start = Clock::now();
  CHECK(time.wait(start + 3ms, true).empty());
  CHECK(Clock::now() - real_start >= 3ms);
  CHECK(time.now() == start + 3ms);
}

TEST_CASE("sim: a wait that is woken never passes its deadline",
          "[sim][threads]") {
  SimPoller time;
  const TimePoint start = time.now();
  Thread waker([&] { time.wake(); });
  CHECK(time.wait(start + 1h, true).empty());
  waker.join();
  CHECK(time.woken());
  CHECK(time.now() >= start);
  CHECK(time.now() < start + 1h);
}

TEST_CASE("sim: it is hopeless until something real is watched", "[sim]") {
  SimPoller time;
  CHECK(time.hopeless());
  Pair pipe = make_pipe();
  REQUIRE(time.add(pipe[0].get(), {1, 1}, kReadable) == 0);
  CHECK_FALSE(time.hopeless());
  CHECK_FALSE(make_poller()->hopeless());
}

TEST_CASE("sim: sleeps take exactly as long as they say", "[sim]") {
  const auto body = []() -> Task<> {
    const TimePoint start = now();
    co_await sleep(1h);
    CHECK(now() - start == 1h);
    co_await sleep(1ns);
    CHECK(now() - start == 1h + 1ns);
    co_await sleep(0s);
    co_await sleep(-1s);
    CHECK(now() - start == 1h + 1ns);
  };
  in_virtual_time(body);
}

TEST_CASE("sim: jobs interleave in the order of their deadlines, every time",
          "[sim]") {
  Order first;
  for (int round = 0; round < 3; ++round) {
    Order order;
    const auto body = [&]() -> Task<> {
      spawn(every, 3s, 2, "three.", std::ref(order));
      spawn(every, 2s, 3, "two.", std::ref(order));
      co_return;
    };
    in_virtual_time(body);
    CHECK(order == Order{"two.0", "three.0", "two.1", "three.1", "two.2"});
    if (round == 0) first = order;
    CHECK(order == first);
  }
}

TEST_CASE("sim: years pass while a retry waits for its turn", "[sim]") {
  const auto body = []() -> Task<int> {
    int attempts = 0;
    const TimePoint start = now();
    while (now() - start < 24h * 365) {
      ++attempts;
      co_await sleep(1h);
    }
    co_return attempts;
  };
  CHECK(in_virtual_time(body) == 24 * 365);
}

TEST_CASE("sim: time does not jump over bytes that are on their way", "[sim]") {
  MaybeShortIo io;
  Pair pipe = make_pipe();
  const auto body = [&]() -> Task<> {
    const Descriptor reader = adopt(std::move(pipe[0]));
    const Job<std::size_t> job = spawn([&]() -> Task<std::size_t> {
      char buffer[8];
      const auto count = co_await within(1h, read(reader, buffer));
      REQUIRE(count);
      co_return *count;
    });
    co_await yield_now();
    const TimePoint start = now();
    put(pipe[1].get(), "x");
    const std::size_t count = co_await join(job);
    CHECK(count == 1);
    CHECK(now() == start);
  };
  in_virtual_time(body);
}

TEST_CASE("sim: a limit that expires leaves the byte for the next reader",
          "[sim]") {
  MaybeShortIo io;
  Pair pipe = make_pipe();
  const auto body = [&]() -> Task<> {
    const Descriptor reader = adopt(std::move(pipe[0]));
    char buffer[8];
    const TimePoint start = now();
    const auto none = co_await within(1h, read(reader, buffer));
    CHECK_FALSE(none);
    CHECK(now() - start == 1h);
    put(pipe[1].get(), "x");
    const std::size_t count = co_await read(reader, buffer);
    CHECK(count == 1);
    CHECK(buffer[0] == 'x');
  };
  in_virtual_time(body);
}

TEST_CASE("sim: while a Remote lives, no timer runs ahead", "[sim][threads]") {
  SimPoller time;
  LoopOptions options;
  options.poller = &time;
  Loop loop(options);
  Gate gate;
  bool in_time = false;
  const auto body = [&]() -> Task<> {
    Thread poster([&gate, remote = loop.remote()] {
      remote.post([&gate] { gate.open(); });
    });
    in_time = co_await within(1h, gate.pass());
    poster.join();
  };
  loop.run(body());
  CHECK(in_time);
}
