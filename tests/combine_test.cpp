// combine_test.cpp - several tasks at once.
// SPDX-License-Identifier: MIT
#include "catch.hpp"

#include <unistd.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <ranges>
#include <regex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <tuple>
#include <variant>
#include <vector>

#include "../net/listener.hpp"
#include "../runtime/channel.hpp"
#include "../runtime/combine.hpp"
#include "../runtime/generator.hpp"
#include "../runtime/group.hpp"
#include "../runtime/shield.hpp"
#include "../runtime/sync.hpp"
#include "../runtime/testing.hpp"
#include "../runtime/within.hpp"
#include "script.hpp"

namespace {

using namespace script;

Task<int> value_after(Duration duration, int value) {
  co_await violet::sleep(duration);
  co_return value;
}

Task<> nap(Duration duration) {
  co_await violet::sleep(duration);
}

Task<int> fail_after(Duration duration, std::string what) {
  co_await violet::sleep(duration);
  throw std::runtime_error(what);
}

Task<int> witnessed(std::string& log, std::string name, Duration duration) {
  const Witness here(log, name);
  co_await violet::sleep(duration);
  co_return 1;
}

/// What awaiting a task throws, as text.
template <class E, class T>
Task<std::string> thrown_by(Task<T> task) {
  try {
    (void)co_await std::move(task);
  } catch (const E& e) {
    co_return e.what();
  }
  co_return "nothing";
}

Task<> wait_for(Task<> task) {
  co_await std::move(task);
}

}  // namespace

// ----------------------------------------------------------------------- all

TEST_CASE("all: results stand in the order of the tasks", "[combine]") {
  const Duration elapsed = play([]() -> Task<> {
    const auto [three, nothing, one] =
        co_await all(value_after(3s, 3), nap(2s), value_after(1s, 1));
    CHECK(three == 3);
    CHECK(one == 1);
    (void)nothing;
    std::vector<Task<int>> tasks;
    for (int i = 0; i < 5; ++i) tasks.push_back(value_after((5 - i) * 1s, i));
    const std::vector<int> values = co_await all(std::move(tasks));
    CHECK(values == std::vector<int>{0, 1, 2, 3, 4});
  });
  CHECK(elapsed == 8s);
}

TEST_CASE("all: of nothing ends at once", "[combine]") {
  play([]() -> Task<> {
    const std::tuple<> none = co_await all();
    (void)none;
    const auto empty = co_await all(std::vector<Task<int>>());
    CHECK(empty.empty());
  });
}

TEST_CASE("all: the first failure kills the others and is thrown",
          "[combine]") {
  std::string log;
  const Duration elapsed = play([&]() -> Task<> {
    const std::string text = co_await thrown_by<std::runtime_error>(
        all(witnessed(log, "a", 9s), fail_after(1s, "one"),
            witnessed(log, "b", 9s)));
    CHECK(text == "one");
    std::vector<Task<int>> tasks;
    tasks.push_back(witnessed(log, "c", 9s));
    tasks.push_back(fail_after(1s, "two"));
    const std::string again =
        co_await thrown_by<std::runtime_error>(all(std::move(tasks)));
    CHECK(again == "two");
  });
  CHECK(log == "+a +b -b -a +c -c ");
  CHECK(elapsed == 2s);
}

TEST_CASE("all: a kill takes all of them", "[combine]") {
  std::string log;
  play([&]() -> Task<> {
    const auto body = [&]() -> Task<> {
      (void)co_await all(witnessed(log, "a", 9s), witnessed(log, "b", 9s));
    };
    const Job<> job = spawn(body);
    co_await violet::sleep(1s);
    CHECK(job.kill());
  });
  CHECK(log == "+a +b -b -a ");
}

TEST_CASE("all: values that can only be moved, and references", "[combine]") {
  play([]() -> Task<> {
    const auto boxed = [](int value) -> Task<std::unique_ptr<int>> {
      co_await yield_now();
      co_return std::make_unique<int>(value);
    };
    auto [a, b] = co_await all(boxed(1), boxed(2));
    CHECK(*a + *b == 3);
    int target = 7;
    const auto referring = [&]() -> Task<int&> { co_return target; };
    const auto [copy] = co_await all(referring());
    CHECK(copy == 7);
  });
}

TEST_CASE("all: it waits for what its tasks spawn", "[combine]") {
  const Duration elapsed = play([]() -> Task<> {
    const auto spawns = []() -> Task<> {
      spawn(nap, 2s);
      co_return;
    };
    (void)co_await all(spawns());
  });
  CHECK(elapsed == 2s);
}

// ----------------------------------------------------------------------- any

TEST_CASE("any: the first to end decides, the rest are killed at once",
          "[combine]") {
  std::string log;
  const Duration elapsed = play([&]() -> Task<> {
    const auto result =
        co_await any(witnessed(log, "slow", 9s), value_after(1s, 7), nap(5s));
    REQUIRE(result.index() == 1);
    CHECK(std::get<1>(result) == 7);
    const auto nothing = co_await any(nap(1s), witnessed(log, "b", 9s));
    CHECK(nothing.index() == 0);
  });
  CHECK(log == "+slow -slow +b -b ");
  CHECK(elapsed == 2s);
}

TEST_CASE("any: losers are gone before any other job runs", "[combine]") {
  std::string log;
  play([&]() -> Task<> {
    const auto observer = [&]() -> Task<> {
      co_await violet::sleep(1s);
      log += "observer ";
    };
    const auto wins = [&]() -> Task<> {
      co_await violet::sleep(1s);
      log += "wins ";
    };
    const auto body = [&]() -> Task<> {
      (void)co_await any(wins(), wait_for(long_sleep()), nap(20s));
      log += "told ";
    };
    const Job<> job = spawn(body);
    co_await yield_now();
    co_await yield_now();
    const Job<> other = spawn(observer);
    co_await join(job);
    co_await join(other);
  });
  CHECK(log == "wins observer told ");
}

TEST_CASE("any: the first to end decides also by failing", "[combine]") {
  play([]() -> Task<> {
    const std::string text = co_await thrown_by<std::runtime_error>(
        any(nap(9s), fail_after(1s, "one")));
    CHECK(text == "one");
  });
}

TEST_CASE("any: of a vector it tells the index", "[combine]") {
  play([]() -> Task<> {
    std::vector<Task<int>> tasks;
    for (int i = 0; i < 5; ++i) {
      tasks.push_back(value_after((i == 3 ? 1 : 9) * 1s, 10 + i));
    }
    const Indexed<int> first = co_await any(std::move(tasks));
    CHECK(first.index == 3);
    CHECK(first.value == 13);
    const std::string text =
        co_await thrown_by<Misuse>(any(std::vector<Task<int>>()));
    CHECK(text == "violet: any() of no tasks never ends");
  });
}

TEST_CASE("any: two that end in the same turn give the first", "[combine]") {
  play([]() -> Task<> {
    const auto result = co_await any(value_after(1s, 1), value_after(1s, 2));
    CHECK(result.index() == 0);
  });
}

TEST_CASE("any: a loser's shield is waited for", "[combine]") {
  std::string log;
  const Duration elapsed = play([&]() -> Task<> {
    const auto result = co_await any(nap(1s), shield(witnessed(log, "s", 3s)));
    CHECK(result.index() == 0);
    log += "| ";
  });
  CHECK(log == "+s -s | ");
  CHECK(elapsed == 3s);
}

TEST_CASE("any: the failure of a job that a task spawned is not lost",
          "[combine]") {
  play([]() -> Task<> {
    const auto spawns = []() -> Task<> {
      spawn(fail_after, 1s, "a stray");
      co_await violet::sleep(9s);
    };
    const std::string text =
        co_await thrown_by<std::runtime_error>(any(spawns(), nap(9s)));
    CHECK(text == "a stray");
  });
}

TEST_CASE("any: a job that a task spawned does not win", "[combine]") {
  const Duration elapsed = play([]() -> Task<> {
    const auto spawns = []() -> Task<> {
      spawn(nap, 1s);
      co_await violet::sleep(3s);
    };
    const auto result = co_await any(spawns(), nap(9s));
    CHECK(result.index() == 0);
  });
  CHECK(elapsed == 3s);
}

// ------------------------------------------------------------ any, of events

TEST_CASE("any: of events only the first that can complete is carried out",
          "[combine]") {
  play([]() -> Task<> {
    const Pair a = make_pipe();
    const Pair b = make_pipe();
    support::put(a[1].get(), "x");
    support::put(b[1].get(), "y");
    char from_a = 0;
    char from_b = 0;
    const auto result =
        co_await any(read(a[0].get(), std::span<char>(&from_a, 1)),
                     read(b[0].get(), std::span<char>(&from_b, 1)));
    CHECK(result.index() == 0);
    CHECK(from_a == 'x');
    CHECK(from_b == 0);
    CHECK(support::get(b[0].get()) == "y");
  });
}

TEST_CASE("any: of two accepts the other listener keeps its client",
          "[combine]") {
  const MaybeShortIo io;
  play([]() -> Task<> {
    const Listener first("127.0.0.1", 0);
    const Listener second("127.0.0.1", 0);
    const Connection one = co_await connect(first.address());
    const Connection two = co_await connect(second.address());
    support::arrives(first.descriptor().fd(), POLLIN);
    support::arrives(second.descriptor().fd(), POLLIN);
    const auto result = co_await any(first.accept(), second.accept());
    CHECK(result.index() == 0);
    CHECK(std::get<0>(result).peer() == one.local());
    const Connection other = co_await second.accept();
    CHECK(other.peer() == two.local());
  });
}

TEST_CASE("any: of events, the others are undone", "[combine]") {
  play([]() -> Task<> {
    support::Gate gate;
    const Duration start = support::now().time_since_epoch();
    const auto result = co_await any(gate.pass(), violet::sleep(1s));
    CHECK(result.index() == 1);
    CHECK(gate.deserted());
    CHECK(support::now().time_since_epoch() - start == 1s);
    CHECK(Loop::current().timers().empty());
  });
}

TEST_CASE("any: of events, a kill undoes all of them", "[combine]") {
  play([]() -> Task<> {
    support::Gate gate;
    const auto body = [&]() -> Task<> {
      (void)co_await any(gate.pass(), violet::sleep(9s), gate.pass());
    };
    const Job<> job = spawn(body);
    co_await violet::sleep(1s);
    CHECK_FALSE(gate.deserted());
    CHECK(job.kill());
    CHECK(gate.deserted());
    CHECK(Loop::current().timers().empty());
  });
}

TEST_CASE("any: an event that lets others go first is not overtaken twice",
          "[combine]") {
  play([]() -> Task<> {
    support::Gate gate;
    gate.open();
    const auto result = co_await any(violet::sleep(0s), gate.pass());
    CHECK(result.index() == 0);
    const auto again = co_await any(gate.pass(), violet::sleep(0s));
    CHECK(again.index() == 0);
  });
}

TEST_CASE("any: of events, with a limit, and what is thrown", "[combine]") {
  play([]() -> Task<> {
    support::Gate gate;
    const auto late = co_await within(1s, any(gate.pass(), gate.pass()));
    CHECK_FALSE(late.has_value());
    const Job<int> fails = spawn(fail_after, 1s, "one");
    std::string caught;
    try {
      (void)co_await any(gate.pass(), join(fails));
    } catch (const std::runtime_error& e) {
      caught = e.what();
    }
    CHECK(caught == "one");
  });
}

TEST_CASE("any: of events, it describes them all", "[combine]") {
  play([]() -> Task<> {
    support::Gate gate;
    const auto body = [&]() -> Task<> {
      (void)co_await any(gate.pass(), violet::sleep(9s));
    };
    const Job<> job = spawn(body);
    co_await violet::sleep(1s);
    CHECK(contains(Loop::current().dump(), "any of gate, sleep, 8.0 s left"));
    job.kill();
  });
}

TEST_CASE("any: of events, one that another serves completes", "[combine]") {
  play([]() -> Task<> {
    Channel<int> meeting(0);
    const auto own = co_await any(meeting.recv(), meeting.send(7));
    REQUIRE(own.index() == 0);
    CHECK(std::get<0>(own) == std::optional<int>(7));
    CHECK(meeting.size() == 0);
    CHECK_FALSE(meeting.try_recv().has_value());
  });
}

TEST_CASE("any: an item that was taken from a waiting send is sent",
          "[combine]") {
  play([]() -> Task<> {
    Channel<int> in(1);
    Channel<int> out(0);
    std::size_t index = 9;
    const auto chooser = [&]() -> Task<> {
      const auto done = co_await any(in.recv(), out.send(7));
      index = done.index();
    };
    TaskGroup group;
    group.spawn(chooser);
    co_await violet::sleep(1ms);
    CHECK(out.try_recv() == std::optional<int>(7));
    CHECK(in.try_send(1));  // too late to be chosen
    co_await group.join();
    CHECK(index == 1);
    CHECK(in.try_recv() == std::optional<int>(1));
  });
}

TEST_CASE("any: of two waiting sends, one that is taken withdraws the other",
          "[combine]") {
  play([]() -> Task<> {
    Channel<int> a(0);
    Channel<int> b(0);
    std::size_t index = 9;
    const auto chooser = [&]() -> Task<> {
      const auto done = co_await within(1h, any(a.send(1), b.send(2)));
      index = done->index();
    };
    TaskGroup group;
    group.spawn(chooser);
    co_await violet::sleep(1ms);
    CHECK(b.try_recv() == std::optional<int>(2));
    CHECK_FALSE(a.try_recv().has_value());
    co_await group.join();
    CHECK(index == 1);
  });
}

TEST_CASE("any: offers on both sides meet", "[combine]") {
  play([]() -> Task<> {
    Channel<int> meeting(0);
    int received = 0;
    const auto peer = [&]() -> Task<> {
      const auto done = co_await any(meeting.recv(), meeting.send(1));
      if (done.index() == 0) ++received;
    };
    TaskGroup group;
    group.spawn(peer);
    group.spawn(peer);
    co_await group.join();
    CHECK(received >= 1);
  });
}

TEST_CASE("any: of a send and a receive, only one is carried out",
          "[combine]") {
  play([]() -> Task<> {
    Channel<int> out(1);
    Channel<int> in(1);
    CHECK(in.try_send(1));
    CHECK(out.try_send(9));
    const auto received = co_await any(out.send(2), in.recv());
    CHECK(received.index() == 1);
    CHECK(out.drain() == std::vector<int>{9});
    const auto sent = co_await any(out.send(3), in.recv());
    CHECK(sent.index() == 0);
    CHECK(out.drain() == std::vector<int>{3});
  });
}

TEST_CASE("any: of a send within another any, only one is carried out",
          "[combine]") {
  play([]() -> Task<> {
    Channel<int> hand(0);  // nobody receives
    Channel<int> full(1);
    full.try_send(1);
    const auto done = co_await violet::any(
        violet::any(hand.send(10), full.send(2)), full.recv());
    CHECK(done.index() == 1);
    CHECK(full.size() == 0);
    full.try_send(1);
    const auto limited = co_await violet::any(
        within(1s, violet::any(hand.send(10), full.send(2))), full.recv());
    CHECK(limited.index() == 1);
    CHECK(full.size() == 0);
    // The exception is who can only be served by the other.
    const auto served = co_await violet::any(
        within(1s, violet::any(full.recv(), hand.send(10))), hand.recv());
    CHECK(served.index() == 1);
    CHECK(std::get<1>(served) == 10);
  });
}

TEST_CASE("any: beside a send and a receive nobody waits for what is there",
          "[combine]") {
  const auto body = []() -> Task<> {
    Channel<int> channel(1);
    int sent = 0;
    int got = 0;
    const auto receives = [&]() -> Task<> {
      if (co_await channel.recv()) ++got;
    };
    const auto sends = [&](int item) -> Task<> {
      co_await channel.send(item);
      ++sent;
    };
    const auto does_either = [&]() -> Task<> {
      const auto done = co_await violet::any(channel.send(50), channel.recv());
      done.index() == 0 ? ++sent : ++got;
    };
    TaskGroup group;
    for (int i = 0; i < 2; ++i) group.spawn(receives);
    co_await testing::wait_all_blocked();
    for (int item : {30, 40}) group.spawn(sends, item);
    group.spawn(does_either);
    for (int i = 0; i < 2; ++i) group.spawn(receives);
    group.spawn(sends, 70);
    co_await testing::wait_all_blocked();
    CHECK((group.empty() || channel.size() == 0));
    channel.close();
    co_await group.join();
    CHECK(got == sent);
    CHECK(sent >= 3);
  };
  testing::play(body);
  testing::for_seeds(300, body);
}

TEST_CASE("any: a failure that is found on the way breaks no channel",
          "[combine]") {
  const auto fails = []() -> Task<> {
    co_await violet::sleep(5ms);
    throw std::runtime_error("on purpose");
  };
  const auto told = [](TaskGroup& group) -> Task<std::string> {
    try {
      co_await group.join();
    } catch (const std::runtime_error& e) {
      co_return e.what();
    }
    co_return "nothing";
  };
  // The sibling that sends is to die for it, in the middle of the receive.
  play([&]() -> Task<> {
    Channel<int> channel(0);
    const auto sends = [&]() -> Task<> {
      co_await violet::sleep(5ms);
      co_await channel.send(1);
    };
    TaskGroup group;
    const Job<> watched = group.spawn(fails);
    group.spawn(sends);
    const auto done = co_await violet::any(channel.recv(), join(watched));
    REQUIRE(done.index() == 0);
    CHECK(std::get<0>(done) == 1);
    const std::string failure = co_await told(group);
    CHECK(failure == "on purpose");
  });
  // The very job whose item is taken is.
  play([&]() -> Task<> {
    Channel<int> channel(0);
    std::optional<int> got;
    const auto receives = [&]() -> Task<> {
      co_await violet::sleep(5ms);
      got = co_await channel.recv();
    };
    const auto sends = [&](Job<> watched) -> Task<> {
      const auto done = co_await violet::any(channel.send(1), join(watched));
      CHECK(done.index() == 0);
      co_await violet::sleep(1h);
    };
    TaskGroup others;
    TaskGroup group;
    group.spawn(sends, group.spawn(fails));
    others.spawn(receives);
    const std::string failure = co_await told(group);
    CHECK(failure == "on purpose");
    co_await others.join();
    CHECK(got == 1);
  });
}

TEST_CASE(
    "any: a group hears of a failure that an any() has left, in any order",
    "[combine]") {
  const auto body = []() -> Task<> {
    Flag over;
    Flag never;
    const auto fails = [&]() -> Task<> {
      co_await violet::sleep(1ms);
      over.set();
      throw std::runtime_error("on purpose");
    };
    const auto victim = [&]() -> Task<> { co_await never.wait(); };
    const auto watches = [&](Job<> watched) -> Task<> {
      (void)co_await violet::any(over.wait(), join(watched));
    };
    TaskGroup group;
    const Job<> watched = group.spawn(fails);
    group.spawn(victim);
    TaskGroup others;
    others.spawn(watches, watched);
    co_await others.join();
    std::string told;
    try {
      co_await group.join();
    } catch (const std::runtime_error& e) {
      told = e.what();
    }
    if (told != "on purpose") throw std::logic_error("told " + told);
  };
  testing::play(body);
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    testing::play(body, testing::Seed(seed));
  }
  CHECK(testing::explore(body).runs > 1);
  (void)errors_of([&] { testing::kill_everywhere(body); });
}

TEST_CASE("any: who joins again what it has left is found in time",
          "[combine]") {
  constexpr std::uint8_t kBudgets[] = {0, 1, 2, 32};
  for (const std::uint8_t budget : kBudgets) {
    CAPTURE(int{budget});
    const auto body = []() -> Task<> {
      Flag over;
      bool survived = false;
      const auto fails = [&]() -> Task<> {
        co_await violet::sleep(1ms);
        over.set();
        throw std::runtime_error("on purpose");
      };
      const auto sibling = [&]() -> Task<> {
        co_await violet::sleep(10ms);
        survived = true;
      };
      const auto watches = [&](Job<> watched) -> Task<> {
        (void)co_await violet::any(over.wait(), join(watched));
        try {
          co_await join(watched);
        } catch (const std::runtime_error&) {
        }
      };
      TaskGroup group;
      const Job<> watched = group.spawn(fails);
      group.spawn(sibling);
      TaskGroup others;
      others.spawn(watches, watched);
      co_await others.join();
      co_await group.join();
      CHECK(survived);
    };
    play(body, budget);
  }
}

// --------------------------------------------------------------- map_limited

TEST_CASE("any: of a send and a receive on a full channel, one is carried out",
          "[combine]") {
  play([]() -> Task<> {
    Channel<int> channel(1);
    channel.try_send(1);
    const auto done = co_await violet::any(channel.send(2), channel.recv());
    REQUIRE(done.index() == 1);
    CHECK(std::get<1>(done) == 1);
    CHECK(channel.size() == 0);
    CHECK(channel.try_recv() == std::nullopt);
  });
  // The same where the item was granted to somebody who stands in line.
  play([]() -> Task<> {
    Channel<int> channel(1);
    std::optional<int> got;
    const auto receives = [&]() -> Task<> { got = co_await channel.recv(); };
    const Job<> job = spawn(receives);
    co_await yield_now();
    channel.try_send(1);
    const auto done = co_await violet::any(channel.send(2), channel.recv());
    if (done.index() == 1) co_await channel.send(2);
    co_await join(job);
    const bool each_once =
        done.index() == 0
            ? got == 1 && channel.try_recv() == 2
            : got == 2 && std::get<1>(done) == 1 && channel.size() == 0;
    CHECK(each_once);
  });
}

TEST_CASE("map_limited: never more than so many, results in order",
          "[combine]") {
  int now = 0;
  int most = 0;
  const Duration elapsed = play([&]() -> Task<> {
    const auto square = [&](int n) -> Task<int> {
      most = std::max(most, ++now);
      co_await violet::sleep(n % 2 == 0 ? 1s : 2s);
      --now;
      co_return n* n;
    };
    const std::vector<int> range{1, 2, 3, 4, 5, 6};
    const auto squares = co_await map_limited(2, range, square);
    CHECK(squares == std::vector<int>{1, 4, 9, 16, 25, 36});
    const auto none = co_await map_limited(2, std::vector<int>(), square);
    CHECK(none.empty());
  });
  CHECK(most == 2);
  CHECK(elapsed == 5s);
}

TEST_CASE("map_limited: a failure stops the rest", "[combine]") {
  int begun = 0;
  play([&]() -> Task<> {
    const auto step = [&](int n) -> Task<> {
      ++begun;
      co_await violet::sleep(1s);
      if (n == 2) throw std::runtime_error("two");
    };
    const std::vector<int> range{1, 2, 3, 4, 5, 6};
    const std::string text =
        co_await thrown_by<std::runtime_error>(map_limited(2, range, step));
    CHECK(text == "two");
  });
  CHECK(begun <= 3);
}

// ----------------------------------------------------------------- Completed

TEST_CASE("completed: results come in the order in which they end",
          "[combine]") {
  std::string log;
  play([&]() -> Task<> {
    std::vector<Task<int>> tasks;
    tasks.push_back(value_after(3s, 30));
    tasks.push_back(value_after(1s, 10));
    tasks.push_back(value_after(2s, 20));
    Completed<int> results(std::move(tasks));
    while (auto result = co_await results.next()) {
      log += concat({result->index, ":", result->value, " "});
    }
    const auto past_the_end = co_await results.next();
    CHECK_FALSE(past_the_end.has_value());
  });
  CHECK(log == "1:10 2:20 0:30 ");
}

TEST_CASE("completed: a failure is thrown, the others go on", "[combine]") {
  std::string log;
  play([&]() -> Task<> {
    std::vector<Task<int>> tasks;
    tasks.push_back(value_after(3s, 30));
    tasks.push_back(fail_after(1s, "one"));
    Completed<int> results(std::move(tasks));
    for (;;) {
      try {
        const auto result = co_await results.next();
        if (!result) break;
        log += concat({result->value, " "});
      } catch (const std::runtime_error& e) {
        log += std::string(e.what()) + " ";
      }
    }
  });
  CHECK(log == "one 30 ");
}

TEST_CASE("completed: what is left at the end of its scope is killed",
          "[combine]") {
  std::string log;
  play([&]() -> Task<> {
    std::vector<Task<int>> tasks;
    tasks.push_back(witnessed(log, "a", 9s));
    tasks.push_back(witnessed(log, "b", 1s));
    Completed<int> results(std::move(tasks));
    const auto first = co_await results.next();
    CHECK(first->index == 1);
    log += "| ";
  });
  CHECK(log == "+a +b -b | -a ");
}

// ----------------------------------------------------------------- regressions

TEST_CASE("map_limited: what a range refers to for one step only is kept",
          "[combine]") {
  const auto same = [](int x) -> Task<int> {
    co_await violet::sleep(1ms);
    co_return x;
  };
  play([&]() -> Task<> {
    const auto counts = []() -> Generator<int> {
      for (int i = 1; i <= 5; ++i) co_yield i;
    };
    const std::vector<int> wanted{1, 2, 3, 4, 5};
    const std::vector<int> made = co_await map_limited(2, counts(), same);
    CHECK(made == wanted);
    std::istringstream text("1 2 3 4 5");
    std::ranges::istream_view<int> words(text);
    const std::vector<int> read =
        co_await map_limited(2, std::move(words), same);
    CHECK(read == wanted);
  });
}

TEST_CASE("map_limited: what an iterator keeps in itself is kept",
          "[combine]") {
  play([]() -> Task<> {
    const auto field = [](const std::ssub_match& match) -> Task<std::string> {
      co_await violet::sleep(1ms);
      co_return match.str();
    };
    const std::string text = "alpha,beta,gamma,delta";
    const std::regex comma(",");
    const std::sregex_token_iterator first(text.begin(), text.end(), comma, -1);
    const std::ranges::subrange fields(first, std::sregex_token_iterator());
    const auto values = co_await map_limited(2, fields, field);
    const std::vector<std::string> wanted{"alpha", "beta", "gamma", "delta"};
    CHECK(values == wanted);
  });
}

TEST_CASE("map_limited: items that the range makes as it goes are kept",
          "[combine]") {
  play([]() -> Task<> {
    const auto later = [](const int& item) -> Task<int> {
      co_await violet::sleep(1ms);
      co_return item;
    };
    const auto range = std::views::iota(0, 6);
    const auto values = co_await map_limited(3, range, later);
    CHECK(values == std::vector<int>{0, 1, 2, 3, 4, 5});
  });
}

TEST_CASE("any: what a loser throws under its shield goes to stderr",
          "[combine]") {
  const std::string errors = errors_of([] {
    play([]() -> Task<> {
      const auto result =
          co_await any(nap(1s), shield(fail_after(2s, "the loser")));
      CHECK(result.index() == 0);
    });
  });
  CHECK(contains(errors, "one of several tasks failed too: the loser"));
}

TEST_CASE("any: of two strays one is thrown, the other told", "[combine]") {
  const std::string errors = errors_of([] {
    play([]() -> Task<> {
      const auto spawns = []() -> Task<> {
        spawn(fail_after, 1s, "first");
        spawn(fail_after, 1s, "second");
        co_await violet::sleep(9s);
      };
      const std::string text =
          co_await thrown_by<std::runtime_error>(any(spawns(), nap(9s)));
      CHECK(text == "first");
    });
  });
  CHECK(contains(errors, "failed too: second"));
}

TEST_CASE("any: a part that another one ends completes at once", "[combine]") {
  const Duration elapsed = play([]() -> Task<> {
    TaskGroup group;
    const Job<> job = group.spawn(long_sleep);
    const auto shielded = []() -> Task<> { co_await shield(nap(5s)); };
    group.spawn(shielded);
    co_await violet::sleep(1s);
    const auto first = co_await any(wait(job), group.close());
    CHECK(first.index() == 0);
    CHECK(Loop::current().now().time_since_epoch() % 1s == 0s);
  });
  CHECK(elapsed == 1s);
}
