// shield_test.cpp - what a kill must not cut.
// SPDX-License-Identifier: MIT
#include "catch.hpp"

#include <memory>
#include <stdexcept>
#include <string>

#include "../runtime/faults.hpp"
#include "../runtime/group.hpp"
#include "../runtime/shield.hpp"
#include "../runtime/within.hpp"
#include "script.hpp"

namespace {

using namespace script;

Task<> nap(std::string& log, std::string name, Duration duration) {
  const Witness here(log, name);
  co_await violet::sleep(duration);
  log += name + "! ";
}

Task<int> value_after(Duration duration, int value) {
  co_await violet::sleep(duration);
  co_return value;
}

Task<> clean(std::string& log, Duration duration) {
  log += "cleaning ";
  co_await violet::sleep(duration);
  log += "clean ";
}

Task<> long_nap_of_none() {
  co_return;
}

Task<> clean_nothing() {
  co_return;
}

}  // namespace

// -------------------------------------------------------------------- shield

TEST_CASE("shield: a kill waits for it, and acts at the next wait",
          "[shield]") {
  std::string log;
  const Duration elapsed = play([&]() -> Task<> {
    const auto body = [&]() -> Task<> {
      co_await shield(nap(log, "s", 3s));
      log += "after ";
      co_await violet::sleep(1s);
      log += "never ";
    };
    const Job<> job = spawn(body);
    co_await violet::sleep(1s);
    CHECK_FALSE(job.kill("enough"));
    CHECK_FALSE(job.ended());
    CHECK_FALSE(job.kill("again"));
    co_await kill(job);
    CHECK(contains(job.ending()->text(), ": enough"));
  });
  CHECK(log == "+s s! -s after ");
  CHECK(elapsed == 3s);
}

TEST_CASE("shield: its value and its exception arrive", "[shield]") {
  play([]() -> Task<> {
    const int value = co_await shield(value_after(1s, 7));
    CHECK(value == 7);
    const auto fails = []() -> Task<> {
      co_await violet::sleep(1s);
      throw std::runtime_error("inside");
    };
    std::string caught;
    try {
      co_await shield(fails());
    } catch (const std::runtime_error& e) {
      caught = e.what();
    }
    CHECK(caught == "inside");
  });
}

TEST_CASE("shield: the result arrives though a kill is held", "[shield]") {
  int got = 0;
  play([&]() -> Task<> {
    const auto body = [&]() -> Task<> {
      got = co_await shield(value_after(2s, 7));
    };
    const Job<> job = spawn(body);
    co_await violet::sleep(1s);
    job.kill();
    co_await wait(job);
    CHECK_FALSE(job.killed());  // it returned before its next wait
  });
  CHECK(got == 7);
}

TEST_CASE("shield: after it, an event that is possible at once is a wait",
          "[shield]") {
  std::string log;
  play([&]() -> Task<> {
    const Job<int> done = spawn(value_after, 0s, 1);
    const auto body = [&]() -> Task<> {
      co_await shield(nap(log, "s", 2s));
      co_await wait(done);
      log += "never ";
    };
    const Job<> job = spawn(body);
    co_await violet::sleep(1s);
    job.kill();
    co_await wait(job);
    CHECK(job.killed());
  });
  CHECK(log == "+s s! -s ");
}

TEST_CASE("shield: one in a child holds the kill of those above", "[shield]") {
  std::string log;
  const Duration elapsed = play([&]() -> Task<> {
    const auto child = [&]() -> Task<> {
      co_await shield(nap(log, "s", 3s));
      co_await violet::sleep(9s);
    };
    const auto owner = [&]() -> Task<> {
      TaskGroup group;
      group.spawn(child);
      co_await group.join();
    };
    const Job<> job = spawn(owner);
    co_await violet::sleep(1s);
    CHECK_FALSE(job.kill());
    co_await wait(job);
    CHECK(job.killed());
  });
  CHECK(log == "+s s! -s ");
  CHECK(elapsed == 3s);
}

TEST_CASE("shield: what is killed inside it is killed", "[shield]") {
  play([]() -> Task<> {
    const auto body = []() -> Task<> {
      const Job<> child = spawn(long_sleep);
      co_await yield_now();
      CHECK(child.kill());
    };
    co_await shield(body());
  });
}

TEST_CASE("shield: nested shields hold until the outermost is over",
          "[shield]") {
  std::string log;
  const Duration elapsed = play([&]() -> Task<> {
    const auto inner = [&]() -> Task<> {
      co_await shield(nap(log, "i", 2s));
      co_await nap(log, "o", 2s);
    };
    const auto body = [&]() -> Task<> {
      co_await shield(inner());
      co_await violet::sleep(1s);
    };
    const Job<> job = spawn(body);
    co_await violet::sleep(1s);
    job.kill();
    co_await wait(job);
    CHECK(job.killed());
  });
  CHECK(log == "+i i! -i +o o! -o ");
  CHECK(elapsed == 4s);
}

TEST_CASE("shield: the end of a group's scope does not wait for it",
          "[shield]") {
  std::string log;
  const Duration elapsed = play([&]() -> Task<> {
    const auto child = [&]() -> Task<> { co_await shield(nap(log, "s", 9s)); };
    {
      TaskGroup group;
      group.spawn(child);
      co_await violet::sleep(1s);
    }
    log += "| ";
  });
  CHECK(log == "+s -s | ");
  CHECK(elapsed == 1s);
}

TEST_CASE("shield: a held kill that a scope's end overtakes is forgotten",
          "[shield]") {
  std::string log;
  play([&]() -> Task<> {
    const auto child = [&]() -> Task<> { co_await shield(nap(log, "s", 9s)); };
    {
      TaskGroup group;
      const Job<> job = group.spawn(child);
      co_await violet::sleep(1s);
      CHECK_FALSE(job.kill("first"));
    }
    log += "| ";
    co_await violet::sleep(1s);
  });
  CHECK(log == "+s -s | ");
}

TEST_CASE("shield: the end of the loop does not wait for it", "[shield]") {
  std::string log;
  const Footprint before;
  {
    World world;
    const auto body = [&]() -> Task<> { co_await shield(nap(log, "s", 9s)); };
    world.loop.spawn(body);
    world.loop.run_once();
    CHECK(log == "+s ");
  }
  CHECK(log == "+s -s ");
  CHECK(Footprint() == before);
}

TEST_CASE("shield: a failure that ends the run waits for it, but not for ever",
          "[shield]") {
  for (const Duration length : {Duration(2s), Duration(60s)}) {
    std::string log;
    World world;
    const auto shielded = [&]() -> Task<> {
      co_await shield(nap(log, "s", length));
    };
    const auto root = [&]() -> Task<> {
      spawn(shielded);
      co_await violet::sleep(1s);
      throw std::runtime_error("the root");
    };
    const std::string text =
        thrown<std::runtime_error>([&] { world.run(root()); });
    CHECK(text == "the root");
    CHECK(log == (length == Duration(2s) ? "+s s! -s " : "+s -s "));
    CHECK(world.elapsed() == (length == Duration(2s) ? 2s : 6s));
  }
}

TEST_CASE("shield: cancel by force does not wait for it", "[shield]") {
  std::string log;
  World world;
  const auto body = [&]() -> Task<> { co_await shield(nap(log, "s", 9s)); };
  const auto root = [&]() -> Task<> {
    spawn(body);
    co_await violet::sleep(1s);
    world.loop.cancel("the second signal", true);
  };
  const std::string text = thrown<Killed>([&] { world.run(root()); });
  CHECK(contains(text, "the second signal"));
  CHECK(log == "+s -s ");
  CHECK(world.elapsed() == 1s);
}

TEST_CASE("shield: killing an ancestor from a destructor inside it",
          "[shield]") {
  std::string log;
  play([&]() -> Task<> {
    Job<> owner;
    const auto inside = [&]() -> Task<> {
      const AtEnd end([&] { log += owner.kill() ? "gone " : "held "; });
      co_await violet::sleep(1s);
    };
    const auto child = [&]() -> Task<> {
      co_await shield(inside());
      log += "after ";
      co_await violet::sleep(1s);
      log += "never ";
    };
    const auto body = [&]() -> Task<> {
      TaskGroup group;
      group.spawn(child);
      co_await group.join();
    };
    owner = spawn(body);
    co_await wait(owner);
    CHECK(owner.killed());
  });
  CHECK(log == "held after ");
}

TEST_CASE("shield: outside a job there is none", "[shield]") {
  CHECK(contains(thrown<Misuse>([] { const Shielded shielded; }),
                 "no loop runs on this thread"));
}

// ------------------------------------------------------------------- finally

TEST_CASE("finally: it runs after a return, in place", "[finally]") {
  std::string log;
  const Duration elapsed = play([&]() -> Task<> {
    const int value =
        co_await finally(value_after(1s, 7), clean, std::ref(log), 2s);
    CHECK(value == 7);
    log += "| ";
  });
  CHECK(log == "cleaning clean | ");
  CHECK(elapsed == 3s);
}

TEST_CASE("finally: it runs after an exception, which then goes on",
          "[finally]") {
  std::string log;
  play([&]() -> Task<> {
    const auto fails = []() -> Task<> {
      co_await violet::sleep(1s);
      throw std::runtime_error("the body");
    };
    std::string caught;
    try {
      co_await finally(fails(), clean, std::ref(log), 2s);
    } catch (const std::runtime_error& e) {
      caught = e.what();
    }
    CHECK(caught == "the body");
  });
  CHECK(log == "cleaning clean ");
}

TEST_CASE("finally: after a kill it runs as a job, and join waits for it",
          "[finally]") {
  std::string log;
  const Duration elapsed = play([&]() -> Task<> {
    const auto body = [&]() -> Task<> {
      co_await finally(nap(log, "b", 9s), clean, std::ref(log), 2s);
    };
    const Job<> job = spawn(body);
    const Job<> other = spawn(body);
    co_await violet::sleep(1s);
    CHECK_FALSE(job.kill("enough"));
    CHECK(job.ended());
    CHECK(job.killed());
    log += "killed ";
    co_await wait(job);
    log += "over ";
    CHECK(job.kill());
    co_await kill(other);
    log += "over ";
  });
  CHECK(log == "+b +b -b killed cleaning clean over -b cleaning clean over ");
  CHECK(elapsed == 5s);
}

TEST_CASE("finally: before its first step nothing runs", "[finally]") {
  std::string log;
  play([&]() -> Task<> {
    const auto body = [&]() -> Task<> {
      co_await finally(nap(log, "b", 9s), clean, std::ref(log), 2s);
    };
    const Job<> job = spawn(body);
    CHECK(job.kill());
    co_await wait(job);
    {
      const Task<> dropped = finally(long_sleep(), clean, std::ref(log), 2s);
    }
  });
  CHECK(log.empty());
}

TEST_CASE("finally: a kill while it runs in place is held", "[finally]") {
  std::string log;
  const Duration elapsed = play([&]() -> Task<> {
    const auto body = [&]() -> Task<> {
      co_await finally(nap(log, "b", 1s), clean, std::ref(log), 3s);
      co_await violet::sleep(1s);
      log += "never ";
    };
    const Job<> job = spawn(body);
    co_await violet::sleep(2s);
    CHECK_FALSE(job.kill());
    co_await wait(job);
    CHECK(job.killed());
  });
  CHECK(log == "+b b! -b cleaning clean ");
  CHECK(elapsed == 4s);
}

TEST_CASE("finally: after a kill it has five seconds, or as many as given",
          "[finally]") {
  for (const bool own : {false, true}) {
    std::string log;
    const std::string errors = errors_of([&] {
      const Duration elapsed = play([&]() -> Task<> {
        const auto body = [&]() -> Task<> {
          if (own) {
            co_await finally(1s, long_sleep(), clean, std::ref(log), 9s);
          } else {
            co_await finally(long_sleep(), clean, std::ref(log), 9s);
          }
        };
        const Job<> job = spawn(body);
        co_await violet::sleep(1s);
        co_await kill(job);
        log += "| ";
      });
      CHECK(elapsed == (own ? 2s : 6s));
    });
    CHECK(log == "cleaning | ");
    CHECK(contains(errors, "a cleanup took too long and was killed"));
  }
}

TEST_CASE("finally: a kill of the cleanup itself is held", "[finally]") {
  std::string log;
  play([&]() -> Task<> {
    const auto cleanup = [&]() -> Task<> {
      co_await violet::sleep(1s);
      log += "clean ";
    };
    const auto body = [&]() -> Task<> {
      co_await finally(long_sleep(), cleanup);
    };
    const Job<> job = spawn(body);
    co_await yield_now();
    job.kill();
    CHECK_FALSE(Loop::current().own_group().children().empty());
    co_await wait(job);
  });
  CHECK(log == "clean ");
}

TEST_CASE("finally: the failure of a cleanup is not lost", "[finally]") {
  const auto bad_cleanup = []() -> Task<> {
    co_await violet::sleep(1s);
    throw std::runtime_error("the cleanup");
  };
  const auto fails = []() -> Task<> {
    co_await violet::sleep(1s);
    throw std::runtime_error("the body");
  };
  std::string caught;
  const std::string errors = errors_of([&] {
    play([&]() -> Task<> {
      try {
        co_await finally(long_nap_of_none(), bad_cleanup);
      } catch (const std::runtime_error& e) {
        caught = e.what();
      }
      try {
        co_await finally(fails(), bad_cleanup);
      } catch (const std::runtime_error& e) {
        caught += std::string(", ") + e.what();
      }
    });
  });
  CHECK(caught == "the cleanup, the body");
  CHECK(contains(errors, "a cleanup failed after its task had: the cleanup"));
}

TEST_CASE("finally: a cleanup that fails after a kill ends nobody else",
          "[finally]") {
  bool went_on = false;
  const std::string errors = errors_of([&] {
    play([&]() -> Task<> {
      const auto bad_cleanup = []() -> Task<> {
        co_await violet::sleep(1s);
        throw std::runtime_error("the cleanup");
      };
      const auto body = [&]() -> Task<> {
        co_await finally(long_sleep(), bad_cleanup);
      };
      const Job<> job = spawn(body);
      co_await yield_now();
      co_await kill(job);
      co_await violet::sleep(1s);
      went_on = true;
    });
  });
  CHECK(went_on);
  CHECK(contains(errors, "a cleanup failed: the cleanup"));
}

TEST_CASE("finally: nested ones each run once, and join waits for all",
          "[finally]") {
  std::string log;
  const Duration elapsed = play([&]() -> Task<> {
    const auto note = [&](std::string name, Duration duration) -> Task<> {
      co_await violet::sleep(duration);
      log += name + " ";
    };
    const auto inner = [&]() -> Task<> {
      co_await finally(long_sleep(), note, std::string("inner"), 1s);
    };
    const auto body = [&]() -> Task<> {
      co_await finally(inner(), note, std::string("outer"), 3s);
    };
    const Job<> job = spawn(body);
    co_await violet::sleep(1s);
    co_await kill(job);
    log += "| ";
  });
  CHECK(log == "inner outer | ");
  CHECK(elapsed == 4s);
}

TEST_CASE("finally: in a limited part, the whole waits for it when killed",
          "[finally]") {
  std::string log;
  const Duration elapsed = play([&]() -> Task<> {
    const auto body = [&]() -> Task<> {
      const auto inner = [&]() -> Task<> {
        co_await finally(long_sleep(), clean, std::ref(log), 2s);
      };
      (void)co_await within(60s, inner());
    };
    const Job<> job = spawn(body);
    co_await violet::sleep(1s);
    co_await kill(job);
    log += "| ";
  });
  CHECK(log == "cleaning clean | ");
  CHECK(elapsed == 3s);
}

TEST_CASE("finally: joining a group waits for its killed children's cleanup",
          "[finally]") {
  std::string log;
  const Duration elapsed = play([&]() -> Task<> {
    const auto child = [&]() -> Task<> {
      co_await finally(long_sleep(), clean, std::ref(log), 2s);
    };
    TaskGroup group;
    group.spawn(child);
    co_await violet::sleep(1s);
    co_await group.close();
    log += "| ";
  });
  CHECK(log == "cleaning clean | ");
  CHECK(elapsed == 3s);
}

TEST_CASE("finally: a group may die while its child's cleanup runs",
          "[finally]") {
  std::string log;
  play([&]() -> Task<> {
    const auto child = [&]() -> Task<> {
      co_await finally(long_sleep(), clean, std::ref(log), 2s);
    };
    {
      TaskGroup group;
      group.spawn(child);
      co_await violet::sleep(1s);
    }
    log += "| ";
  });
  CHECK(log == "| cleaning clean ");
}

TEST_CASE("finally: the end of the loop kills before the cleanup began",
          "[finally]") {
  std::string log;
  const Footprint before;
  {
    World world;
    const auto body = [&]() -> Task<> {
      co_await finally(nap(log, "b", 9s), clean, std::ref(log), 2s);
    };
    world.loop.spawn(body);
    world.loop.run_once();
  }
  CHECK(log == "+b -b ");
  CHECK(Footprint() == before);
}

TEST_CASE("finally: arguments are owned by it", "[finally]") {
  int got = 0;
  play([&]() -> Task<> {
    const auto cleanup = [&](std::unique_ptr<int> value) -> Task<> {
      co_await violet::sleep(1s);
      got += *value;
    };
    const auto body = [&]() -> Task<> {
      auto seven = std::make_unique<int>(7);
      co_await finally(
          violet::internal::finally_in(1s, long_sleep(), clean_nothing),
          cleanup, std::move(seven));
    };
    const Job<> job = spawn(body);
    co_await yield_now();
    co_await kill(job);
    CHECK(got == 7);
    auto eight = std::make_unique<int>(8);
    co_await finally(long_nap_of_none(), cleanup, std::move(eight));
    CHECK(got == 15);
  });
}

// ----------------------------------------------------------------- regressions

TEST_CASE("finally: kill says that the job is not gone while it is cleaned up",
          "[finally]") {
  std::string log;
  play([&]() -> Task<> {
    const auto body = [&]() -> Task<> {
      co_await finally(long_sleep(), clean, std::ref(log), 2s);
    };
    const Job<> job = spawn(body);
    co_await violet::sleep(1s);
    CHECK_FALSE(job.kill());
    CHECK_FALSE(job.kill());
    co_await wait(job);
    CHECK(job.kill());
  });
}

TEST_CASE("finally: joining a group waits for cleanups at any depth",
          "[finally]") {
  std::string log;
  play([&]() -> Task<> {
    const auto leaf = [&]() -> Task<> {
      co_await finally(long_sleep(), clean, std::ref(log), 2s);
    };
    const auto middle = [&]() -> Task<> {
      TaskGroup inner;
      inner.spawn(leaf);
      co_await inner.join();
    };
    TaskGroup outer;
    outer.spawn(middle);
    co_await violet::sleep(1s);
    co_await outer.close();
    log += "| ";
  });
  CHECK(log == "cleaning clean | ");
}

TEST_CASE("finally: without memory it cleans up, or has never begun",
          "[finally]") {
  int never_begun = 0;
  int cleaned = 0;
  for (const bool killed : {false, true}) {
    for (std::uint64_t nth = 1; nth <= 30; ++nth) {
      CAPTURE(killed, nth);
      bool begun = false;
      int cleanups = 0;
      std::string thrown_text;
      const auto errors = errors_of([&] {
        FaultPlan plan;
        World world;
        const auto cleanup = [&]() -> Task<> {
          ++cleanups;
          co_return;
        };
        const auto inside = [&]() -> Task<> {
          begun = true;
          co_await yield_now();
          if (killed) co_await violet::sleep(1h);
          throw std::runtime_error("the body");
        };
        const auto body = [&]() -> Task<> {
          plan.fail_allocation(nth);
          co_await finally(inside(), cleanup);
        };
        const auto root = [&]() -> Task<> {
          const Job<> job = spawn(body);
          co_await yield_now();
          co_await yield_now();
          co_await yield_now();
          job.kill();
          co_await wait(job);
          if (job.error()) thrown_text = text_of(job.error());
        };
        // Frames must come one by one before any is there.
        plan.fail_allocation(1'000'000);
        try {
          world.run(root());
        } catch (const std::bad_alloc&) {
        }
      });
      if (!begun) {
        ++never_begun;
        CHECK(cleanups == 0);
      } else if (cleanups == 0) {
        // After a kill the limit around it needs a job; that is told.
        CHECK(killed);
        CHECK(contains(errors, "a cleanup failed: "));
      } else {
        ++cleaned;
        CHECK(cleanups == 1);
        if (!killed) CHECK(thrown_text == "the body");
      }
    }
  }
  CHECK(never_begun > 5);
  CHECK(cleaned > 20);
}
