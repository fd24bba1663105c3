// remote_test.cpp - the one door for other threads.
// SPDX-License-Identifier: MIT
#include "../runtime/remote.hpp"

#include <algorithm>
#include <atomic>
#include <thread>

#include "catch.hpp"
#include "support.hpp"

using namespace violet;
using namespace support;
using namespace std::chrono_literals;

namespace {

/// Waits at a gate.
Task<> pass(Gate& gate) {
  co_await gate.pass();
}

}  // namespace

TEST_CASE("remote: a post runs on the loop's thread, between two steps",
          "[remote][threads]") {
  Loop loop;
  Gate gate;
  std::thread::id where;
  JobBlock* during = nullptr;
  bool accepted = false;
  Thread poster([&, remote = loop.remote()] {
    accepted = remote.post([&] {
      where = std::this_thread::get_id();
      during = loop.current_job();
      gate.open();
    });
  });
  loop.run(pass(gate));
  poster.join();
  CHECK(accepted);
  CHECK(where == std::this_thread::get_id());
  CHECK(during == nullptr);
}

TEST_CASE("remote: posts of one thread keep their order", "[remote][threads]") {
  constexpr int kThreads = 4;
  constexpr int kPosts = 500;
  Loop loop;
  Gate gate;
  std::vector<std::vector<int>> got(kThreads);
  int left = kThreads * kPosts;
  std::vector<Thread> posters;
  for (std::size_t t = 0; t < kThreads; ++t) {
    posters.emplace_back([&, t, remote = loop.remote()] {
      for (int i = 0; i < kPosts; ++i) {
        remote.post([&, t, i] {
          got[t].push_back(i);
          if (--left == 0) gate.open();
        });
      }
    });
  }
  loop.run(pass(gate));
  for (Thread& poster : posters) poster.join();
  for (const std::vector<int>& numbers : got) {
    REQUIRE(numbers.size() == kPosts);
    CHECK(std::is_sorted(numbers.begin(), numbers.end()));
  }
}

TEST_CASE("remote: a post may spawn, kill and post again", "[remote]") {
  Loop loop;
  Gate gate;
  Order order;
  const Remote remote = loop.remote();
  const auto child = [&]() -> Task<> {
    order.push_back("child");
    co_await yield_now();
    gate.open();
  };
  const auto body = [&]() -> Task<> {
    remote.post([&] {
      order.push_back("first");
      remote.post([&] {
        order.push_back("second");
        spawn(child);
      });
    });
    order.push_back("posted");
    co_await gate.pass();
  };
  loop.run(body());
  CHECK(order == Order{"posted", "first", "second", "child"});
}

TEST_CASE("remote: a move-only function may be posted, and dies once run",
          "[remote]") {
  Loop loop;
  Gate gate;
  const Remote remote = loop.remote();
  const int before = Tracked::alive();
  int seen = 0;
  auto owned = std::make_unique<Tracked>(7);
  CHECK(remote.post([&seen, &gate, owned = std::move(owned)] {
    seen = owned->value();
    gate.open();
  }));
  CHECK(Tracked::alive() == before + 1);
  loop.run(pass(gate));
  CHECK(seen == 7);
  CHECK(Tracked::alive() == before);
}

TEST_CASE("remote: what a post throws is a failure of the loop", "[remote]") {
  Loop loop;
  Gate gate;
  const Remote remote = loop.remote();
  remote.post([] { throw std::runtime_error("from a post"); });
  CHECK_THROWS_WITH(loop.run(pass(gate)), "from a post");
  CHECK(gate.deserted());
}

TEST_CASE("remote: once the loop is gone a post is refused and never runs",
          "[remote]") {
  std::optional<Loop> loop(std::in_place);
  const Remote remote = loop->remote();
  const Remote copy = remote;
  loop.reset();
  bool ran = false;
  const int before = Tracked::alive();
  {
    const Tracked tracked;
    CHECK_FALSE(remote.post([&ran, tracked] { ran = true; }));
    CHECK_FALSE(copy.post([&ran] { ran = true; }));
  }
  CHECK(Tracked::alive() == before);
  CHECK_FALSE(ran);
}

TEST_CASE("remote: posts that never ran die with their loop", "[remote]") {
  // In the loop's thread, that is: they may hold what belongs to it.
  std::optional<Loop> loop(std::in_place);
  const Remote remote = loop->remote();
  const int before = Tracked::alive();
  bool ran = false;
  {
    const Tracked tracked;
    CHECK(remote.post([&ran, tracked] { ran = true; }));
  }
  CHECK(Tracked::alive() == before + 1);
  loop.reset();
  CHECK(Tracked::alive() == before);
  CHECK_FALSE(ran);
}

TEST_CASE("remote: while one lives, waiting for nothing is no deadlock",
          "[remote][threads]") {
  Loop loop;
  Gate gate;
  std::atomic<bool> started = false;
  Thread poster([&, remote = loop.remote()] {
    while (!started) std::this_thread::yield();
    for (int i = 0; i < 100; ++i) std::this_thread::yield();
    remote.post([&] { gate.open(); });
  });
  const auto body = [&]() -> Task<> {
    started = true;
    co_await gate.pass();
  };
  CHECK_NOTHROW(loop.run(body()));
  poster.join();
}

TEST_CASE("remote: when the last one goes, a deadlock is told",
          "[remote][threads]") {
  Loop loop;
  Gate gate;
  std::atomic<bool> started = false;
  auto remote = std::make_unique<Remote>(loop.remote());
  Thread holder([&, remote = std::move(remote)]() mutable {
    while (!started) std::this_thread::yield();
    const Remote copy = *remote;
    remote.reset();
  });
  const auto body = [&]() -> Task<> {
    started = true;
    co_await gate.pass();
  };
  CHECK_THROWS_AS(loop.run(body()), Deadlock);
  holder.join();
}

TEST_CASE("remote: a post is delivered though its Remote is gone by then",
          "[remote]") {
  Loop loop;
  Gate gate;
  const auto body = [&]() -> Task<> {
    {
      const Remote remote = loop.remote();
      CHECK(remote.post([&] { gate.open(); }));
    }
    co_await gate.pass();
  };
  CHECK_NOTHROW(loop.run(body()));
}

TEST_CASE("remote: a post is delivered though jobs keep the loop busy",
          "[remote]") {
  Loop loop;
  bool delivered = false;
  const Remote remote = loop.remote();
  const auto body = [&]() -> Task<int> {
    remote.post([&] { delivered = true; });
    int turns = 0;
    while (!delivered && turns < 100'000) {
      ++turns;
      co_await yield_now();
    }
    co_return turns;
  };
  CHECK(loop.run(body()) < 100'000);
  CHECK(delivered);
}

TEST_CASE("remote: a crowd of posts wakes the loop once", "[remote]") {
  CountedLoop counted;
  Gate gate;
  const Remote remote = counted.loop.remote();
  const auto body = [&]() -> Task<> {
    const int before = counted.poller.wakes;
    for (int i = 0; i < 100; ++i) remote.post([] {});
    remote.post([&] { gate.open(); });
    CHECK(counted.poller.wakes == before + 1);
    co_await gate.pass();
  };
  counted.loop.run(body());
}

TEST_CASE("remote: an assignment moves the hold from one loop to another",
          "[remote]") {
  Loop first;
  Loop second;
  Gate gate;
  Remote remote = first.remote();
  remote = second.remote();
  Remote& alias = remote;
  remote = alias;
  CHECK_THROWS_AS(first.run(pass(gate)), Deadlock);
  Gate other;
  CHECK(remote.post([&] { other.open(); }));
  CHECK_NOTHROW(second.run(pass(other)));
}

TEST_CASE("remote: a loop and its remotes may go in any order",
          "[remote][threads]") {
  for (int round = 0; round < 50; ++round) {
    std::thread poster;
    std::atomic<int> accepted = 0;
    std::atomic<int> ran = 0;
    {
      Loop loop;
      poster = std::thread([&, remote = loop.remote()] {
        for (int i = 0; i < 20; ++i) {
          if (remote.post([&] { ++ran; })) ++accepted;
        }
      });
      loop.run_once();
    }
    poster.join();
    CHECK(ran <= accepted);
  }
}

TEST_CASE(
    "remote: a million posts of eight threads arrive, each thread's in "
    "order",
    "[remote][threads]") {
  constexpr std::size_t kThreads = 8;
  constexpr int kPosts = kSanitized ? 12'500 : 125'000;
  Loop loop;
  Gate gate;
  std::vector<int> next(kThreads, 0);  // what each is to post next
  int left = static_cast<int>(kThreads) * kPosts;
  int out_of_order = 0;
  std::vector<Thread> posters;
  for (std::size_t t = 0; t < kThreads; ++t) {
    posters.emplace_back([&, t, remote = loop.remote()] {
      for (int i = 0; i < kPosts; ++i) {
        remote.post([&, t, i] {
          if (next[t]++ != i) ++out_of_order;
          if (--left == 0) gate.open();
        });
      }
    });
  }
  loop.run(pass(gate));
  for (Thread& poster : posters) poster.join();
  CHECK(out_of_order == 0);
  CHECK(left == 0);
  for (const int posted : next) CHECK(posted == kPosts);
}
