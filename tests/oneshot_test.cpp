// oneshot_test.cpp - a value, or an exception, that arrives once.
// SPDX-License-Identifier: MIT
#include "../runtime/oneshot.hpp"

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include "../runtime/events.hpp"
#include "../runtime/within.hpp"
#include "catch.hpp"
#include "script.hpp"

namespace {

using namespace script;
using support::in_a_thread;
using support::Thread;
using support::Tracked;

constexpr const char* kLostText =
    "violet: a oneshot was dropped by everyone who could complete it: call one "
    "of its setters, or fail() of one, before the last one goes";
constexpr const char* kTakenText =
    "violet: the value of this oneshot was taken before: it arrives once, so "
    "keep what the first get() yields";
constexpr const char* kNotAloneText =
    "violet: another job waits for this oneshot already: its value arrives "
    "once, so give each job a oneshot of its own";
constexpr const char* kDestroyedText =
    "violet: the oneshot was destroyed while a job waited for it: let it live "
    "in a frame that outlives the wait";

/// What get() yields as text: the value or what is thrown.
Task<std::string> outcome(Oneshot<int>& shot) {
  try {
    const int value = co_await shot.get();
    co_return std::to_string(value);
  } catch (const Closed& e) {
    co_return std::string("Closed ") + e.what();
  } catch (const std::exception& e) {
    co_return e.what();
  }
}

std::exception_ptr failure(const char* text) {
  return std::make_exception_ptr(std::runtime_error(text));
}

/// Runs a body with a budget of 0, where every event is a wait, and as usual.
template <class Body>
void play_both(Body body) {
  play(body, 0);
  play(body, 32);
}

}  // namespace

// ------------------------------------------------------------- on one thread

TEST_CASE("oneshot: a value that comes first is there at once", "[oneshot]") {
  play_both([]() -> Task<> {
    Oneshot<int> shot;
    const auto set = shot.setter();
    CHECK(set(5));
    const int value = co_await shot.get();
    CHECK(value == 5);
  });
}

TEST_CASE("oneshot: a job waits until the value comes", "[oneshot]") {
  play_both([]() -> Task<> {
    Oneshot<int> shot;
    const auto set = shot.setter();
    const auto job = spawn(outcome, std::ref(shot));
    co_await violet::sleep(1s);
    CHECK_FALSE(job.ended());
    CHECK(set(5));
    CHECK_FALSE(job.ended());  // nobody is resumed by a callback
    const std::string got = co_await join(job);
    CHECK(got == "5");
  });
}

TEST_CASE("oneshot: an exception arrives as well", "[oneshot]") {
  play_both([]() -> Task<> {
    Oneshot<int> before;
    CHECK(before.setter().fail(failure("too bad")));
    const std::string first = co_await outcome(before);
    CHECK(first == "too bad");
    Oneshot<int> after;
    const auto set = after.setter();
    const auto job = spawn(outcome, std::ref(after));
    co_await violet::sleep(1s);
    CHECK(set.fail(failure("too late")));
    const std::string second = co_await join(job);
    CHECK(second == "too late");
  });
}

TEST_CASE("oneshot: one without a value works", "[oneshot]") {
  play_both([]() -> Task<> {
    Oneshot<> shot;
    const auto set = shot.setter();
    const auto wait = [&]() -> Task<> { co_await shot.get(); };
    const auto job = spawn(wait);
    co_await violet::sleep(1s);
    CHECK(set());
    CHECK_FALSE(set());
    co_await join(job);
    Oneshot<void> failing;
    CHECK(failing.setter().fail(failure("none")));
    std::string text;
    try {
      co_await failing.get();
    } catch (const std::runtime_error& e) {
      text = e.what();
    }
    CHECK(text == "none");
  });
}

TEST_CASE("oneshot: the first to set is the only one", "[oneshot]") {
  play([]() -> Task<> {
    Oneshot<int> shot;
    const auto one = shot.setter();
    const auto copy = one;
    const auto two = shot.setter();
    CHECK(copy(1));
    CHECK_FALSE(one(2));
    CHECK_FALSE(copy(3));
    CHECK_FALSE(two.fail(failure("four")));
    const int value = co_await shot.get();
    CHECK(value == 1);
    CHECK_FALSE(two(5));
  });
}

TEST_CASE("oneshot: it may be move-only", "[oneshot]") {
  play_both([]() -> Task<> {
    Oneshot<std::unique_ptr<int>> shot;
    CHECK(shot.setter()(std::make_unique<int>(3)));
    const auto value = co_await shot.get();
    CHECK(*value == 3);
  });
}

TEST_CASE("oneshot: if the last setter goes the waiter hears of it",
          "[oneshot]") {
  play_both([]() -> Task<> {
    Oneshot<int> shot;
    std::optional<Oneshot<int>::Setter> one(shot.setter());
    std::optional<Oneshot<int>::Setter> two(*one);
    const auto job = spawn(outcome, std::ref(shot));
    co_await violet::sleep(1s);
    one.reset();
    co_await violet::sleep(1s);
    CHECK_FALSE(job.ended());
    two.reset();
    const std::string got = co_await join(job);
    CHECK(got == std::string("Closed ") + kLostText);
    const std::string again = co_await outcome(shot);
    CHECK(again == got);
    CHECK_FALSE(shot.setter()(1));
  });
}

TEST_CASE("oneshot: setters that went before the wait began", "[oneshot]") {
  play_both([]() -> Task<> {
    Oneshot<int> shot;
    {
      const auto set = shot.setter();
    }
    const std::string got = co_await outcome(shot);
    CHECK(got == std::string("Closed ") + kLostText);
  });
}

TEST_CASE("oneshot: setters that go after one has set are not missed",
          "[oneshot]") {
  play_both([]() -> Task<> {
    Oneshot<int> shot;
    {
      const auto set = shot.setter();
      CHECK(set(1));
    }
    const std::string got = co_await outcome(shot);
    CHECK(got == "1");
  });
}

TEST_CASE("oneshot: a setter may be assigned, also to itself", "[oneshot]") {
  play([]() -> Task<> {
    Oneshot<int> one, two;
    auto set = one.setter();
    const auto& same = set;
    set = same;
    const auto first = spawn(outcome, std::ref(one));
    co_await yield_now();
    CHECK_FALSE(first.ended());
    set = two.setter();
    const std::string got = co_await join(first);
    CHECK(got == std::string("Closed ") + kLostText);
    CHECK(set(2));
    const std::string other = co_await outcome(two);
    CHECK(other == "2");
  });
}

TEST_CASE("oneshot: it is a callback like any other", "[oneshot]") {
  const auto call_back_later = [](std::vector<std::function<void(int)>>& later,
                                  std::function<void(int)> callback) {
    later.push_back(std::move(callback));
  };
  play([&]() -> Task<> {
    std::vector<std::function<void(int)>> later;
    Oneshot<int> shot;
    call_back_later(later, shot.setter());
    const auto job = spawn(outcome, std::ref(shot));
    co_await yield_now();
    later[0](9);
    const std::string got = co_await join(job);
    CHECK(got == "9");
  });
}

TEST_CASE("oneshot: what nobody takes dies with it", "[oneshot]") {
  const int before = Tracked::alive();
  play([]() -> Task<> {
    const int start = Tracked::alive();
    std::optional<Oneshot<Tracked>> shot(std::in_place);
    const auto set = shot->setter();
    CHECK(set(Tracked(1)));
    CHECK(Tracked::alive() == start + 1);
    shot.reset();
    CHECK(Tracked::alive() == start);  // though a setter still lives
    co_return;
  });
  CHECK(Tracked::alive() == before);
}

// ------------------------------------------------------------------ mistakes

TEST_CASE("oneshot: its value can be taken once", "[oneshot]") {
  play_both([]() -> Task<> {
    Oneshot<int> shot;
    CHECK(shot.setter()(1));
    const std::string first = co_await outcome(shot);
    const std::string second = co_await outcome(shot);
    CHECK(first == "1");
    CHECK(second == kTakenText);
    Oneshot<int> failed;
    CHECK(failed.setter().fail(failure("seen")));
    const std::string third = co_await outcome(failed);
    const std::string fourth = co_await outcome(failed);
    CHECK(third == "seen");
    CHECK(fourth == kTakenText);
  });
}

TEST_CASE("oneshot: two jobs cannot wait for it", "[oneshot]") {
  play_both([]() -> Task<> {
    Oneshot<int> shot;
    const auto set = shot.setter();
    const auto first = spawn(outcome, std::ref(shot));
    const auto second = spawn(outcome, std::ref(shot));
    const std::string refused = co_await join(second);
    CHECK(refused == kNotAloneText);
    CHECK(set(1));
    const std::string third = co_await outcome(shot);  // the first is awake
    CHECK((third == kNotAloneText || third == kTakenText));
    const std::string got = co_await join(first);
    CHECK(got == "1");
  });
}

TEST_CASE("oneshot: fail() needs an exception", "[oneshot]") {
  Oneshot<int> shot;
  const auto set = shot.setter();
  CHECK(thrown<Misuse>([&] { set.fail(nullptr); }) ==
        "violet: fail() without an exception: give it "
        "std::current_exception() or std::make_exception_ptr(..)");
  CHECK(set(1));  // that did not count
}

TEST_CASE("oneshot: a remote setter needs a loop", "[oneshot]") {
  Oneshot<int> shot;
  CHECK(contains(thrown<Misuse>([&] { shot.remote_setter(); }),
                 "no loop runs on this thread"));
}

// ----------------------------------------------------------- kills and limits

TEST_CASE("oneshot: a kill leaves the value for a later get()", "[oneshot]") {
  play_both([]() -> Task<> {
    Oneshot<int> shot;
    const auto set = shot.setter();
    const auto waiting = spawn(outcome, std::ref(shot));
    co_await violet::sleep(1s);
    CHECK(waiting.kill());
    const auto awake = spawn(outcome, std::ref(shot));
    co_await violet::sleep(1s);
    CHECK(set(4));
    CHECK(awake.kill());  // it was to get the value, and has not run
    const std::string got = co_await outcome(shot);
    CHECK(got == "4");
  });
}

TEST_CASE("oneshot: a limit ends the wait and nothing else", "[oneshot]") {
  play_both([]() -> Task<> {
    Oneshot<int> shot;
    const auto set = shot.setter();
    const auto none = co_await within(1s, shot.get());
    CHECK_FALSE(none);
    CHECK(set(6));
    const auto value = co_await within(1s, shot.get());
    CHECK(value == 6);
  });
}

TEST_CASE("oneshot: a value that comes in the turn of the limit counts",
          "[oneshot]") {
  play([]() -> Task<> {
    Oneshot<int> shot;
    const auto late = [](Oneshot<int>::Setter set) -> Task<> {
      co_await violet::sleep(1s);
      set(7);
    };
    spawn(late, shot.setter());
    co_await yield_now();
    const auto value = co_await within(1s, shot.get());
    CHECK(value == 7);
  });
}

TEST_CASE("oneshot: its destruction gives an error to who waits", "[oneshot]") {
  play_both([]() -> Task<> {
    for (const bool arrived : {false, true}) {
      std::optional<Oneshot<int>> shot(std::in_place);
      const auto set = shot->setter();
      const auto job = spawn(outcome, std::ref(*shot));
      co_await violet::sleep(1s);
      if (arrived) CHECK(set(1));
      shot.reset();
      CHECK_FALSE(set(2));  // nobody can receive it
      const std::string got = co_await join(job);
      CHECK(got == kDestroyedText);
    }
  });
}

TEST_CASE("oneshot: who waits may be killed after it is gone", "[oneshot]") {
  play_both([]() -> Task<> {
    std::optional<Oneshot<int>> shot(std::in_place);
    const auto job = spawn(outcome, std::ref(*shot));
    co_await violet::sleep(1s);
    shot.reset();
    CHECK(job.kill());
  });
}

TEST_CASE("oneshot: a setter may outlive job and loop", "[oneshot]") {
  std::optional<Oneshot<int>::Setter> set;
  std::optional<Oneshot<int>::RemoteSetter> remote;
  Oneshot<int> kept;
  std::optional<Oneshot<int>::Setter> useful(kept.setter());
  {
    World world;
    const auto root = [&]() -> Task<> {
      Oneshot<int> shot;
      set.emplace(shot.setter());
      remote.emplace(shot.remote_setter());
      co_return;
    };
    world.run(root());
  }
  CHECK_FALSE((*set)(1));
  CHECK_FALSE((*remote)(2));
  remote.reset();
  set.reset();
  CHECK((*useful)(3));  // without any loop
  int value = 0;
  World world;
  const auto root = [&]() -> Task<> { value = co_await kept.get(); };
  world.run(root());
  CHECK(value == 3);
}

// -------------------------------------------------------------- what it shows

TEST_CASE("oneshot: a job that waits for nobody is a deadlock", "[oneshot]") {
  World world;
  std::string text;
  const auto root = []() -> Task<> {
    Oneshot<int> shot;
    const auto set = shot.setter();
    co_await shot.get();
  };
  try {
    world.run(root());
  } catch (const Deadlock& e) {
    text = e.what();
  }
  CHECK(contains(text, "waiting for oneshot,"));
}

TEST_CASE("oneshot: it takes one block of memory", "[oneshot]") {
  // A shared block of its own, and no other: setting and waiting take none.
  play([]() -> Task<> {
    Oneshot<int> shot;
    const std::size_t frames = frame_pool.live();
    const auto set = shot.setter();
    CHECK(set(1));
    const int value = co_await shot.get();
    CHECK(value == 1);
    CHECK(frame_pool.live() == frames);
    STATIC_REQUIRE(noexcept(set(1)));
    STATIC_REQUIRE(sizeof(set) <= 3 * sizeof(void*));
  });
}

// -------------------------------------------------------- from other threads

TEST_CASE("oneshot: another thread sets the value", "[oneshot][threads]") {
  for (const bool early : {false, true}) {
    Loop loop;
    const auto root = [early]() -> Task<> {
      Oneshot<std::string> shot;
      bool first = false;
      bool second = true;
      Thread setting([&, set = shot.remote_setter()] {
        if (!early) std::this_thread::sleep_for(5ms);
        first = set("from another thread, and long enough to be on the heap");
        second = set("again");
      });
      if (early) setting.join();
      const std::string value = co_await shot.get();
      setting.join();
      CHECK(contains(value, "from another thread"));
      CHECK(first);
      CHECK_FALSE(second);
    };
    loop.run(root());
  }
}

TEST_CASE("oneshot: another thread sets an exception, or nothing to get",
          "[oneshot][threads]") {
  Loop loop;
  const auto root = []() -> Task<> {
    Oneshot<int> failing;
    Thread one([set = failing.remote_setter()] { set.fail(failure("far")); });
    const std::string text = co_await outcome(failing);
    CHECK(text == "far");
    Oneshot<> empty;
    Thread two([set = empty.remote_setter()] { set(); });
    co_await empty.get();
  };
  loop.run(root());
}

TEST_CASE("oneshot: other threads give up, and the waiter hears of it",
          "[oneshot][threads]") {
  for (int round = 0; round < 50; ++round) {
    Loop loop;
    const auto root = []() -> Task<> {
      Oneshot<int> shot;
      std::vector<Thread> threads;
      {
        const auto set = shot.remote_setter();
        for (int i = 0; i < 3; ++i) {
          threads.emplace_back([copy = set] { const auto another = copy; });
        }
      }
      const auto local = [](Oneshot<int>::Setter) -> Task<> { co_return; };
      spawn(local, shot.setter());
      const std::string got = co_await outcome(shot);
      CHECK(got == std::string("Closed ") + kLostText);
    };
    loop.run(root());
  }
}

TEST_CASE("oneshot: of many threads exactly one sets", "[oneshot][threads]") {
  for (int round = 0; round < 100; ++round) {
    Loop loop;
    const auto root = []() -> Task<> {
      Oneshot<int> shot;
      std::atomic<int> winner = 0;
      std::atomic<int> winners = 0;
      std::vector<Thread> threads;
      for (int i = 1; i <= 4; ++i) {
        threads.emplace_back([&, i, set = shot.remote_setter()] {
          if (!set(i)) return;
          winner = i;
          ++winners;
        });
      }
      const auto local = shot.setter();
      if (local(5)) {
        winner = 5;
        ++winners;
      }
      const int value = co_await shot.get();
      for (Thread& one : threads) one.join();
      CHECK(winners == 1);
      CHECK(value == winner);
    };
    loop.run(root());
  }
}

TEST_CASE("oneshot: it may die while threads still set", "[oneshot][threads]") {
  for (int round = 0; round < 100; ++round) {
    Loop loop;
    std::vector<Thread> threads;
    const auto root = [&]() -> Task<> {
      Oneshot<std::string> shot;
      for (int i = 0; i < 3; ++i) {
        threads.emplace_back([set = shot.remote_setter()] {
          set("a text that is long enough to be on the heap");
        });
      }
      co_await yield_now();
    };
    loop.run(root());
    if (round % 2 == 0) threads.clear();
  }
}

TEST_CASE("oneshot: its loop may die while threads still set",
          "[oneshot][threads]") {
  for (int round = 0; round < 100; ++round) {
    Oneshot<std::string> shot;
    std::vector<Thread> threads;
    {
      Loop loop;
      const auto root = [&]() -> Task<> {
        for (int i = 0; i < 3; ++i) {
          threads.emplace_back([set = shot.remote_setter()] {
            set("a text that is long enough to be on the heap");
          });
        }
        co_return;
      };
      loop.run(root());
    }
    threads.clear();
  }
}

TEST_CASE("oneshot: a loop with a remote setter is not deadlocked",
          "[oneshot][threads]") {
  Loop loop;
  const auto root = []() -> Task<> {
    Oneshot<int> shot;
    Thread late([set = shot.remote_setter()] {
      std::this_thread::sleep_for(20ms);
      set(1);
    });
    const int value = co_await shot.get();
    CHECK(value == 1);
  };
  CHECK_NOTHROW(loop.run(root()));
}
