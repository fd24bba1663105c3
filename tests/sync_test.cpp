// sync_test.cpp - what jobs grant each other: permits, locks, notifications.
// SPDX-License-Identifier: MIT
#include "catch.hpp"

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "../runtime/events.hpp"
#include "../runtime/group.hpp"
#include "../runtime/sync.hpp"
#include "../runtime/within.hpp"
#include "script.hpp"

namespace sync_tested {

using namespace script;

// Every event is a wait with the first; with the last none is that need not be.
constexpr std::uint8_t kBudgets[] = {0, 1, 32};

template <class Body>
void play_with_all_budgets(Body body) {
  for (const std::uint8_t budget : kBudgets) {
    CAPTURE(static_cast<int>(budget));
    play(body, budget);
  }
}

/// Lets the other jobs go on until they all wait; with a budget of 0 that
/// takes them a few turns.
Task<> settle() {
  for (int i = 0; i < 32; ++i) co_await yield_now();
}

/// Notes its name once it is in, and stays for a while.
Task<> use_permit(Semaphore& semaphore, std::string& log, std::string name,
                  Duration stay) {
  const Permit permit = co_await semaphore.acquire();
  log += name + " ";
  co_await violet::sleep(stay);
}

Task<> use_lock(Mutex& mutex, std::string& log, std::string name,
                Duration stay) {
  const Mutex::Lock lock = co_await mutex.lock();
  log += name + " ";
  co_await violet::sleep(stay);
}

/// Awaits an event and notes what comes of it: its name or an error.
Task<> note_permit(Semaphore& semaphore, std::string& log, std::string name) {
  try {
    const Permit permit = co_await semaphore.acquire();
    log += name + " ";
  } catch (const Misuse& e) {
    log += name + ": " + e.what() + "\n";
  }
}

Task<> note_lock(Mutex& mutex, std::string& log, std::string name) {
  try {
    const Mutex::Lock lock = co_await mutex.lock();
    log += name + " ";
  } catch (const Misuse& e) {
    log += name + ": " + e.what() + "\n";
  }
}

Task<> note_flag(Flag& flag, std::string& log, std::string name) {
  try {
    co_await flag.wait();
    log += name + " ";
  } catch (const Misuse& e) {
    log += name + ": " + e.what() + "\n";
  }
}

/// Locks, waits for a notification, and notes it with the mutex held.
Task<> note_condition(Mutex& mutex, Condition& condition, std::string& log,
                      std::string name) {
  Mutex::Lock lock = co_await mutex.lock();
  try {
    co_await condition.wait(lock);
    CHECK(lock.owns());
    log += name + " ";
  } catch (const Misuse& e) {
    CHECK_FALSE(lock.owns());
    log += name + ": " + e.what() + "\n";
  }
}

template <class Action>
std::string misuse(Action action) {
  return thrown<Misuse>(std::move(action));
}

std::string gone(const std::string& what) {
  return ": violet: the " + what +
         " is gone: it was destroyed while this job waited; let it outlive "
         "the jobs that use it\n";
}

/// Needs two events at once, as a combination of events does.
template <class A, class B>
class BothEvent final : public Event {
 public:
  BothEvent(A&& a, B&& b) noexcept : a_(std::move(a)), b_(std::move(b)) {}
  BothEvent(BothEvent&& other) noexcept
      : Event(std::move(other)),
        a_(std::move(other.a_)),
        b_(std::move(other.b_)) {}
  bool attempt() noexcept override {
    a_done_ = a_done_ || attempt_part(a_);
    b_done_ = b_done_ || attempt_part(b_);
    return a_done_ && b_done_;
  }
  void undo() noexcept override {
    undo_part(a_);
    undo_part(b_);
  }
  void describe(Description& out) const override { out.text = "both"; }
  void result() {
    static_cast<void>(a_.result());
    b_.result();
  }

 private:
  A a_;
  B b_;
  bool a_done_ = false;
  bool b_done_ = false;
};

}  // namespace sync_tested

using namespace sync_tested;

// ----------------------------------------------------------------- semaphore

TEST_CASE("sync: a semaphore lets so many in at a time, in order", "[sync]") {
  play_with_all_budgets([]() -> Task<> {
    std::string log;
    Semaphore semaphore(2);
    Nursery nursery;
    for (const char* name : {"a", "b", "c", "d", "e"}) {
      nursery.spawn(use_permit, std::ref(semaphore), std::ref(log), name, 1s);
    }
    co_await settle();
    CHECK(log == "a b ");
    CHECK(semaphore.available() == 0);
    CHECK(semaphore.waiting() == 3);
    co_await violet::sleep(1500ms);
    CHECK(log == "a b c d ");
    co_await violet::sleep(1s);
    CHECK(log == "a b c d e ");
    co_await violet::sleep(1s);
    CHECK(semaphore.available() == 2);
    CHECK(semaphore.limit() == 2);
    CHECK(semaphore.waiting() == 0);
    CHECK(nursery.empty());
  });
}

TEST_CASE("sync: a permit that is free costs no switch", "[sync]") {
  play([]() -> Task<> {
    std::string log;
    const auto other = [&]() -> Task<> {
      log += "other ";
      co_return;
    };
    Semaphore semaphore(1);
    const Job<> job = spawn(other);
    for (int i = 0; i < 8; ++i) {
      const Permit permit = co_await semaphore.acquire();
      CHECK(semaphore.available() == 0);
    }
    CHECK(log == "");
    co_await join(job);
  });
}

TEST_CASE("sync: a permit is given back once, wherever it went", "[sync]") {
  play([]() -> Task<> {
    Semaphore semaphore(3);
    {
      Permit first = co_await semaphore.acquire();
      CHECK(first.held());
      Permit second = std::move(first);
      CHECK_FALSE(first.held());
      first.release();
      CHECK(semaphore.available() == 2);
      second.release();
      second.release();
      CHECK_FALSE(second.held());
      CHECK(semaphore.available() == 3);
      second = co_await semaphore.acquire();
      second = co_await semaphore.acquire();
      CHECK(semaphore.available() == 2);
      Permit& same = second;
      second = std::move(same);
      CHECK(second.held());
      Permit none;
      CHECK_FALSE(none.held());
      none = std::move(second);
      CHECK(semaphore.available() == 2);
    }
    CHECK(semaphore.available() == 3);
  });
}

TEST_CASE("sync: try_acquire() takes what is free and overtakes nobody",
          "[sync]") {
  play_with_all_budgets([]() -> Task<> {
    std::string log;
    Semaphore semaphore(1);
    std::optional<Permit> mine = semaphore.try_acquire();
    REQUIRE(mine);
    CHECK_FALSE(semaphore.try_acquire());
    Nursery nursery;
    nursery.spawn(note_permit, std::ref(semaphore), std::ref(log), "waiter");
    co_await settle();
    mine.reset();
    CHECK(semaphore.available() == 0);
    CHECK_FALSE(semaphore.try_acquire());
    CHECK(log == "");
    co_await settle();
    CHECK(log == "waiter ");
    CHECK(semaphore.try_acquire());
    CHECK(semaphore.available() == 1);
  });
}

TEST_CASE("sync: a newcomer queues behind those who wait", "[sync]") {
  play_with_all_budgets([]() -> Task<> {
    std::string log;
    Semaphore semaphore(1);
    Nursery nursery;
    Permit mine = co_await semaphore.acquire();
    nursery.spawn(note_permit, std::ref(semaphore), std::ref(log), "first");
    nursery.spawn(note_permit, std::ref(semaphore), std::ref(log), "second");
    co_await settle();
    mine.release();
    mine = co_await semaphore.acquire();
    log += "newcomer ";
    CHECK(log == "first second newcomer ");
  });
}

TEST_CASE("sync: who releases in a loop does not starve the others", "[sync]") {
  play_with_all_budgets([]() -> Task<> {
    std::string log;
    Semaphore semaphore(1);
    Nursery nursery;
    const auto greedy = [&](std::string name) -> Task<> {
      for (int i = 0; i < 3; ++i) {
        const Permit permit = co_await semaphore.acquire();
        log += name;
        co_await yield_now();
      }
    };
    nursery.spawn(greedy, "a");
    nursery.spawn(greedy, "b");
    co_await violet::sleep(1s);
    CHECK(log == "ababab");
  });
}

TEST_CASE("sync: a job that is killed while it waits leaves the queue",
          "[sync]") {
  play_with_all_budgets([]() -> Task<> {
    std::string log;
    Semaphore semaphore(1);
    Nursery nursery;
    Permit mine = co_await semaphore.acquire();
    const Job<> first =
        nursery.spawn(note_permit, std::ref(semaphore), std::ref(log), "first");
    nursery.spawn(note_permit, std::ref(semaphore), std::ref(log), "second");
    co_await settle();
    CHECK(first.kill());
    CHECK(semaphore.waiting() == 1);
    CHECK(semaphore.available() == 0);
    mine.release();
    co_await settle();
    CHECK(log == "second ");
    CHECK(semaphore.available() == 1);
  });
}

TEST_CASE("sync: a granted permit whose job is killed goes to the next",
          "[sync]") {
  play_with_all_budgets([]() -> Task<> {
    std::string log;
    Semaphore semaphore(1);
    Nursery nursery;
    Permit mine = co_await semaphore.acquire();
    const Job<> first =
        nursery.spawn(note_permit, std::ref(semaphore), std::ref(log), "first");
    const Job<> second = nursery.spawn(note_permit, std::ref(semaphore),
                                       std::ref(log), "second");
    nursery.spawn(note_permit, std::ref(semaphore), std::ref(log), "third");
    co_await settle();
    mine.release();
    CHECK(semaphore.waiting() == 2);
    CHECK(first.kill());
    CHECK(second.kill());
    CHECK(semaphore.waiting() == 0);
    CHECK(semaphore.available() == 0);
    co_await settle();
    CHECK(log == "third ");
    CHECK(semaphore.available() == 1);
  });
}

TEST_CASE("sync: a granted permit that nobody else wants is free again",
          "[sync]") {
  play_with_all_budgets([]() -> Task<> {
    std::string log;
    Semaphore semaphore(1);
    Nursery nursery;
    Permit mine = co_await semaphore.acquire();
    const Job<> only =
        nursery.spawn(note_permit, std::ref(semaphore), std::ref(log), "only");
    co_await settle();
    mine.release();
    CHECK(only.kill());
    CHECK(semaphore.available() == 1);
    CHECK(log == "");
  });
}

TEST_CASE("sync: a job that is killed before its attempt takes nothing",
          "[sync]") {
  play(
      []() -> Task<> {
        std::string log;
        Semaphore semaphore(1);
        Mutex mutex;
        Flag flag;
        Condition condition(mutex);
        Nursery nursery;
        const Job<> jobs[] = {
            nursery.spawn(note_permit, std::ref(semaphore), std::ref(log), "p"),
            nursery.spawn(note_lock, std::ref(mutex), std::ref(log), "l"),
            nursery.spawn(note_flag, std::ref(flag), std::ref(log), "f"),
            nursery.spawn(note_condition, std::ref(mutex), std::ref(condition),
                          std::ref(log), "c")};
        co_await yield_now();
        for (const Job<>& job : jobs) CHECK(job.kill());
        CHECK(semaphore.available() == 1);
        CHECK_FALSE(mutex.locked());
        CHECK(log == "");
      },
      0);
}

// https://github.com/python/cpython/issues/90155: there, a job that is killed
// between its wake and its step leaves a semaphore that counts it as served,
// and all who come later hang.
TEST_CASE("sync: a kill between the wake and the step breaks no semaphore",
          "[sync]") {
  play_with_all_budgets([]() -> Task<> {
    std::string log;
    Semaphore semaphore(1);
    Nursery nursery;
    std::vector<Job<>> jobs;
    for (const char* name : {"0", "1", "2", "3", "4"}) {
      jobs.push_back(nursery.spawn(use_permit, std::ref(semaphore),
                                   std::ref(log), name, 1s));
    }
    const auto killer = [&]() -> Task<> {
      co_await wait(jobs[0]);  // whose end has granted the permit to "1"
      CHECK_FALSE(jobs[1].ended());
      CHECK(jobs[1].kill());
      CHECK(jobs[3].kill());
    };
    nursery.spawn(killer);
    co_await violet::sleep(1h);
    CHECK(contains(log, "0 "));
    CHECK(contains(log, "2 4 "));
    CHECK(nursery.empty());
    CHECK(semaphore.available() == 1);
  });
}

TEST_CASE("sync: a killed holder's permit goes to the next", "[sync]") {
  play_with_all_budgets([]() -> Task<> {
    std::string log;
    Semaphore semaphore(1);
    Nursery nursery;
    const Job<> holder = nursery.spawn(use_permit, std::ref(semaphore),
                                       std::ref(log), "holder", 1h);
    nursery.spawn(use_permit, std::ref(semaphore), std::ref(log), "next", 1s);
    co_await settle();
    CHECK(holder.kill());
    co_await settle();
    CHECK(log == "holder next ");
  });
}

TEST_CASE("sync: holder, granted and waiting die together", "[sync]") {
  play_with_all_budgets([]() -> Task<> {
    std::string log;
    Semaphore semaphore(2);
    Mutex mutex;
    Permit mine = co_await semaphore.acquire();
    {
      Nursery nursery;
      for (int i = 0; i < 5; ++i) {
        nursery.spawn(use_permit, std::ref(semaphore), std::ref(log), "p", 1h);
        nursery.spawn(use_lock, std::ref(mutex), std::ref(log), "l", 1h);
      }
      co_await settle();
      mine.release();
    }
    CHECK(semaphore.available() == 2);
    CHECK_FALSE(mutex.locked());
  });
}

TEST_CASE("sync: a permit that comes in the turn of the limit is taken",
          "[sync]") {
  play_with_all_budgets([]() -> Task<> {
    Semaphore semaphore(1);
    Nursery nursery;
    const auto holder = [&]() -> Task<> {
      const Permit permit = co_await semaphore.acquire();
      co_await violet::sleep(1s);
    };
    const auto waiter = [&]() -> Task<> {
      const auto permit = co_await within(1s, semaphore.acquire());
      CHECK(permit.has_value());
    };
    nursery.spawn(holder);  // is woken, and releases, before the waiter
    co_await settle();
    nursery.spawn(waiter);
    co_await violet::sleep(2s);
    CHECK(nursery.empty());
    CHECK(semaphore.available() == 1);
  });
}

TEST_CASE("sync: a permit that comes after the limit goes to the next",
          "[sync]") {
  play_with_all_budgets([]() -> Task<> {
    std::string log;
    Semaphore semaphore(1);
    Nursery nursery;
    const auto waiter = [&]() -> Task<> {
      const auto permit = co_await within(1s, semaphore.acquire());
      CHECK_FALSE(permit.has_value());
      log += "late ";
    };
    Permit mine = co_await semaphore.acquire();
    nursery.spawn(waiter);  // its limit passes in the turn of our sleep
    nursery.spawn(note_permit, std::ref(semaphore), std::ref(log), "next");
    co_await settle();
    co_await violet::sleep(1s);
    mine.release();
    co_await settle();
    CHECK(log == "late next ");
    CHECK(semaphore.available() == 1);
  });
}

TEST_CASE("sync: a limit that passes between grant and step changes nothing",
          "[sync]") {
  World world;
  const auto root = [&]() -> Task<> {
    Semaphore semaphore(1);
    Permit mine = co_await semaphore.acquire();
    const auto waiter = [&]() -> Task<> {
      const auto permit = co_await within(1s, semaphore.acquire());
      CHECK(permit.has_value());
    };
    const Job<> job = spawn(waiter);
    co_await yield_now();
    mine.release();
    world.time.advance(2s);
    co_await join(job);
    CHECK(semaphore.available() == 1);
  };
  world.run(root());
}

TEST_CASE("sync: a limit of zero takes a free permit and no other", "[sync]") {
  play_with_all_budgets([]() -> Task<> {
    Semaphore semaphore(1);
    const auto first = co_await within(0s, semaphore.acquire());
    CHECK(first.has_value());
    const auto second = co_await within(0s, semaphore.acquire());
    CHECK_FALSE(second.has_value());
    CHECK(semaphore.waiting() == 0);
  });
}

TEST_CASE("sync: one part of a wait for two things is given back", "[sync]") {
  play_with_all_budgets([]() -> Task<> {
    Semaphore semaphore(1);
    Mutex mutex;
    Flag flag;
    Nursery nursery;
    const auto both = [&]() -> Task<> {
      co_await BothEvent(semaphore.acquire(), flag.wait());
    };
    const auto locked = [&]() -> Task<> {
      co_await BothEvent(mutex.lock(), flag.wait());
    };
    const Job<> first = nursery.spawn(both);
    const Job<> second = nursery.spawn(locked);
    co_await settle();
    CHECK(semaphore.available() == 0);
    CHECK(mutex.locked());
    CHECK(first.kill());
    CHECK(second.kill());
    CHECK(semaphore.available() == 1);
    CHECK_FALSE(mutex.locked());
    nursery.spawn(both);
    nursery.spawn(locked);
    flag.set();
    co_await settle();
    CHECK(nursery.empty());
    CHECK(semaphore.available() == 1);
    CHECK_FALSE(mutex.locked());
  });
}

TEST_CASE("sync: a permit may be given back outside of any step", "[sync]") {
  std::string log;
  Semaphore semaphore(1);
  Permit kept;
  World world;
  const auto keeper = [&]() -> Task<> { kept = co_await semaphore.acquire(); };
  world.loop.spawn(keeper);
  world.loop.spawn(note_permit, std::ref(semaphore), std::ref(log), "waiter");
  world.loop.run_once();
  CHECK(log == "");
  kept.release();
  CHECK(semaphore.available() == 0);
  world.loop.run_once();
  CHECK(log == "waiter ");
  CHECK(semaphore.available() == 1);
}

TEST_CASE("sync: a permit outlives its loop, but not its semaphore", "[sync]") {
  Semaphore semaphore(1);
  Permit kept;
  {
    World world;
    const auto root = [&]() -> Task<> { kept = co_await semaphore.acquire(); };
    world.run(root());
  }
  CHECK(semaphore.available() == 0);
  kept.release();
  CHECK(semaphore.available() == 1);
}

TEST_CASE("sync: when a semaphore goes, those who wait for it throw",
          "[sync]") {
  play_with_all_budgets([]() -> Task<> {
    std::string log;
    std::optional<Semaphore> semaphore(1);
    Permit mine = co_await semaphore->acquire();
    Nursery nursery;
    nursery.spawn(note_permit, std::ref(*semaphore), std::ref(log), "granted");
    nursery.spawn(note_permit, std::ref(*semaphore), std::ref(log), "waiting");
    const Job<> killed = nursery.spawn(note_permit, std::ref(*semaphore),
                                       std::ref(log), "killed");
    co_await settle();
    mine.release();
    semaphore.reset();
    CHECK(killed.kill());
    CHECK(log == "");
    co_await settle();
    CHECK(log == "granted" + gone("semaphore") + "waiting" + gone("semaphore"));
  });
}

TEST_CASE("sync: a semaphore that goes while permits are out is the end",
          "[sync]") {
  const auto end = in_child([] {
    std::optional<Semaphore> semaphore(2);
    const std::optional<Permit> permit = semaphore->try_acquire();
    semaphore.reset();
  });
  CHECK(end.signal == SIGABRT);
  CHECK(contains(end.errors,
                 "a semaphore is destroyed while permits are out: let it "
                 "outlive the jobs that use it"));
}

TEST_CASE("sync: a semaphore that lets nobody in is refused", "[sync]") {
  const std::string said =
      "violet: a semaphore needs at least one permit, or nobody would ever get "
      "in";
  CHECK(misuse([] { Semaphore none(0); }) == said);
  const int negative = -1;
  CHECK(misuse([&] { Semaphore none(static_cast<std::size_t>(negative)); }) ==
        said);
}

TEST_CASE("sync: a wait for a semaphore says how many are free", "[sync]") {
  std::string log;
  Semaphore semaphore(3);
  World world;
  for (int i = 0; i < 4; ++i) {
    world.loop.spawn(use_permit, std::ref(semaphore), std::ref(log), "x", 1h);
  }
  world.loop.run_once();
  CHECK(contains(world.loop.dump(), ": waiting for semaphore 0/3, 0.0 s"));
}

// --------------------------------------------------------------------- mutex

TEST_CASE("sync: a mutex lets one in at a time, in order", "[sync]") {
  play_with_all_budgets([]() -> Task<> {
    std::string log;
    Mutex mutex;
    Nursery nursery;
    for (const char* name : {"a", "b", "c"}) {
      nursery.spawn(use_lock, std::ref(mutex), std::ref(log), name, 1s);
    }
    co_await settle();
    CHECK(log == "a ");
    CHECK(mutex.locked());
    CHECK(mutex.waiting() == 2);
    co_await violet::sleep(1500ms);
    CHECK(log == "a b ");
    co_await violet::sleep(1s);
    CHECK(log == "a b c ");
    co_await violet::sleep(1s);
    CHECK_FALSE(mutex.locked());
  });
}

TEST_CASE("sync: a lock can be unlocked, taken again, moved and given up",
          "[sync]") {
  play_with_all_budgets([]() -> Task<> {
    Mutex mutex;
    auto lock = co_await mutex.lock();
    CHECK(lock.owns());
    lock.unlock();
    CHECK_FALSE(lock.owns());
    CHECK_FALSE(mutex.locked());
    co_await lock.lock();
    CHECK(lock.owns());
    Mutex::Lock moved = std::move(lock);
    CHECK_FALSE(lock.owns());
    CHECK(moved.owns());
    lock = std::move(moved);
    CHECK(lock.owns());
    lock.release();
    CHECK_FALSE(lock.owns());
    CHECK(mutex.locked());
    mutex.unlock();
    CHECK_FALSE(mutex.locked());
    {
      const auto again = co_await mutex.lock();
    }
    CHECK_FALSE(mutex.locked());
  });
}

TEST_CASE("sync: assigning to a lock unlocks what it held", "[sync]") {
  play([]() -> Task<> {
    Mutex first;
    Mutex second;
    auto lock = co_await first.lock();
    lock = co_await second.lock();
    CHECK_FALSE(first.locked());
    CHECK(second.locked());
  });
}

TEST_CASE("sync: try_lock() takes a free mutex and overtakes nobody",
          "[sync]") {
  play_with_all_budgets([]() -> Task<> {
    std::string log;
    Mutex mutex;
    auto mine = mutex.try_lock();
    REQUIRE(mine);
    CHECK_FALSE(mutex.try_lock());
    Nursery nursery;
    nursery.spawn(note_lock, std::ref(mutex), std::ref(log), "waiter");
    co_await settle();
    mine->unlock();
    CHECK(mutex.locked());
    CHECK_FALSE(mutex.try_lock());
    co_await mine->lock();
    log += "again ";
    CHECK(log == "waiter again ");
  });
}

TEST_CASE("sync: a killed waiter, granted or not, leaves the mutex to others",
          "[sync]") {
  play_with_all_budgets([]() -> Task<> {
    std::string log;
    Mutex mutex;
    Nursery nursery;
    auto mine = co_await mutex.lock();
    std::vector<Job<>> jobs;
    for (const char* name : {"a", "b", "c", "d"}) {
      jobs.push_back(
          nursery.spawn(note_lock, std::ref(mutex), std::ref(log), name));
    }
    co_await settle();
    CHECK(jobs[1].kill());
    mine.unlock();
    CHECK(jobs[0].kill());
    CHECK(mutex.locked());
    CHECK(jobs[2].kill());
    co_await settle();
    CHECK(log == "d ");
    CHECK_FALSE(mutex.locked());
  });
}

TEST_CASE("sync: a killed holder unlocks", "[sync]") {
  play_with_all_budgets([]() -> Task<> {
    std::string log;
    Mutex mutex;
    Nursery nursery;
    const Job<> holder =
        nursery.spawn(use_lock, std::ref(mutex), std::ref(log), "holder", 1h);
    nursery.spawn(note_lock, std::ref(mutex), std::ref(log), "next");
    co_await settle();
    CHECK(holder.kill());
    co_await settle();
    CHECK(log == "holder next ");
    CHECK_FALSE(mutex.locked());
  });
}

TEST_CASE("sync: a limit around a lock leaves the queue or takes it",
          "[sync]") {
  play_with_all_budgets([]() -> Task<> {
    std::string log;
    Mutex mutex;
    Nursery nursery;
    nursery.spawn(use_lock, std::ref(mutex), std::ref(log), "holder", 2s);
    co_await settle();
    const auto early = co_await within(1s, mutex.lock());
    CHECK_FALSE(early.has_value());
    CHECK(mutex.waiting() == 0);
    auto late = co_await within(1s, mutex.lock());
    REQUIRE(late.has_value());
    CHECK(late->owns());
    late->unlock();
    const bool again = co_await within(1s, late->lock());
    CHECK(again);
    CHECK(late->owns());
  });
}

TEST_CASE("sync: a lock that moves to another job is unlocked by that",
          "[sync]") {
  play_with_all_budgets([]() -> Task<> {
    Mutex mutex;
    const auto taker = [&](Mutex::Lock lock) -> Task<> {
      CHECK(lock.owns());
      co_await violet::sleep(1s);
    };
    auto mine = co_await mutex.lock();
    const Job<> job = spawn(taker, std::move(mine));
    co_await yield_now();
    CHECK(mutex.locked());
    co_await join(job);
    CHECK_FALSE(mutex.locked());
  });
}

TEST_CASE("sync: locking twice is refused before it waits for itself",
          "[sync]") {
  const char* const said =
      "violet: lock() of a mutex that this job holds already: it would wait "
      "for itself; unlock it first";
  play_with_all_budgets([&]() -> Task<> {
    Mutex mutex;
    auto mine = co_await mutex.lock();
    std::string text;
    try {
      const auto again = co_await mutex.lock();
    } catch (const Misuse& e) {
      text = e.what();
    }
    CHECK(text == said);
    text = "";
    try {
      co_await mine.lock();
    } catch (const Misuse& e) {
      text = e.what();
    }
    CHECK(text == said);
    CHECK(mine.owns());
    CHECK(mutex.waiting() == 0);
  });
}

TEST_CASE("sync: what a job locks, its limited tasks hold", "[sync]") {
  play([]() -> Task<> {
    Mutex mutex;
    std::string refused;
    const auto inside = [&]() -> Task<> {
      try {
        const Mutex::Lock again = co_await mutex.lock();
      } catch (const Misuse& e) {
        refused = e.what();
      }
      mutex.unlock();
      const Mutex::Lock own = co_await mutex.lock();
      co_await violet::sleep(1s);
    };
    {
      Mutex::Lock lock = co_await mutex.lock();
      lock.release();
    }
    const bool done = co_await within(5s, inside());
    CHECK(done);
    CHECK(contains(refused, "holds"));
    CHECK_FALSE(mutex.locked());
  });
}

TEST_CASE("sync: a Lock without a mutex cannot lock", "[sync]") {
  play_with_all_budgets([]() -> Task<> {
    Mutex::Lock none;
    std::string text;
    try {
      co_await none.lock();
    } catch (const Misuse& e) {
      text = e.what();
    }
    CHECK(text ==
          "violet: lock() of a Lock that never had a mutex; begin with "
          "co_await mutex.lock()");
  });
}

TEST_CASE("sync: a Lock that holds nothing is not unlocked or given up",
          "[sync]") {
  play([]() -> Task<> {
    Mutex mutex;
    auto lock = co_await mutex.lock();
    lock.unlock();
    CHECK(misuse([&] { lock.unlock(); }) ==
          "violet: unlock() of a Lock that holds nothing; ask owns() first");
    CHECK(misuse([&] { lock.release(); }) ==
          "violet: release() of a Lock that holds nothing; ask owns() first");
  });
}

TEST_CASE("sync: a mutex is unlocked only by who has locked it, and once",
          "[sync]") {
  play([]() -> Task<> {
    Mutex mutex;
    CHECK(misuse([&] { mutex.unlock(); }) ==
          "violet: unlock() of a mutex that nobody holds; it is unlocked once "
          "for each lock, and a Lock does that itself");
    auto lock = co_await mutex.lock();
    CHECK(misuse([&] { mutex.unlock(); }) ==
          "violet: unlock() of a mutex that a Lock holds; call unlock() of "
          "that Lock, or its release() first");
    lock.release();
    std::string text;
    const auto thief = [&]() -> Task<> {
      text = misuse([&] { mutex.unlock(); });
      co_return;
    };
    const Job<> job = spawn(thief);
    co_await join(job);
    CHECK(text ==
          "violet: unlock() of a mutex that is held by #1; who has locked it "
          "unlocks it");
    CHECK(mutex.locked());
    mutex.unlock();
    CHECK_FALSE(mutex.locked());
  });
}

TEST_CASE("sync: a mutex that is locked outside of jobs says so", "[sync]") {
  Mutex mutex;
  CHECK(contains(misuse([&] { mutex.try_lock(); }), "no loop runs"));
  play([&]() -> Task<> {
    std::string text;
    {
      const Remote remote = Loop::current().remote();
      remote.post([&] { mutex.try_lock()->release(); });
      co_await violet::sleep(1s);
      CHECK(mutex.locked());
      text = misuse([&] { mutex.unlock(); });
      remote.post([&] { mutex.unlock(); });
      co_await violet::sleep(1s);
    }
    CHECK(text ==
          "violet: unlock() of a mutex that is held outside of any job; who "
          "has locked it unlocks it");
    CHECK_FALSE(mutex.locked());
  });
}

// Their memory is the same, and with it their address.
TEST_CASE("sync: a job is not taken for one that was where it is", "[sync]") {
  play([]() -> Task<> {
    std::string log;
    Mutex mutex;
    Mutex::Lock kept;
    Nursery nursery;
    const auto leaver = [&](std::string, Mutex&) -> Task<> {
      kept = co_await mutex.lock();
    };
    const auto comer = [&](std::string name, Mutex& to) -> Task<> {
      co_await note_lock(to, log, name);
    };
    nursery.spawn(leaver, "leaver", std::ref(mutex));
    co_await yield_now();
    CHECK(nursery.empty());
    const Job<> job = nursery.spawn(comer, "comer", std::ref(mutex));
    co_await yield_now();
    CHECK(log == "");
    const std::string dump = Loop::current().dump();
    CHECK(contains(dump, "waiting for mutex, held by #2, 0.0 s"));
    kept.unlock();
    co_await join(job);
    CHECK(log == "comer ");
  });
}

namespace sync_tested {

int far_line = 0;
int near_line = 0;

Task<> near_first(Mutex& near, Mutex& far) {
  const auto first = co_await near.lock();
  co_await yield_now();
  far_line = __LINE__ + 1;
  const auto second = co_await far.lock();
}

Task<> far_first(Mutex& near, Mutex& far) {
  const auto first = co_await far.lock();
  co_await yield_now();
  near_line = __LINE__ + 1;
  const auto second = co_await near.lock();
}

}  // namespace sync_tested

TEST_CASE("sync: two mutexes locked crosswise are a deadlock with a cycle",
          "[sync]") {
  Mutex near;
  Mutex far;
  World world;
  const auto root = [&]() -> Task<> {
    spawn(near_first, std::ref(near), std::ref(far));
    spawn(far_first, std::ref(near), std::ref(far));
    co_return;
  };
  const std::string text = thrown<Deadlock>([&] { world.run(root()); });
  CAPTURE(text);
  CHECK(contains(text,
                 "#2 sync_tested::near_first: waiting for mutex, held by #3"));
  CHECK(contains(text,
                 "#3 sync_tested::far_first: waiting for mutex, held by #2"));
  CHECK(contains(
      text, "near_first at sync_test.cpp:" + std::to_string(far_line) + "\n"));
  CHECK(contains(
      text, "far_first at sync_test.cpp:" + std::to_string(near_line) + "\n"));
  CHECK(contains(text, "cycle: #2 waits for #3 waits for #2"));
  CHECK_FALSE(near.locked());
  CHECK_FALSE(far.locked());
}

TEST_CASE("sync: a lock that outlives its job is a deadlock without a cycle",
          "[sync]") {
  Mutex mutex;
  Mutex::Lock kept;
  std::string log;
  World world;
  const auto root = [&]() -> Task<> {
    kept = co_await mutex.lock();
    spawn(note_lock, std::ref(mutex), std::ref(log), "waiter");
  };
  const std::string text = thrown<Deadlock>([&] { world.run(root()); });
  CHECK(contains(text, "waiting for mutex, held by #1, "));
  CHECK_FALSE(contains(text, "cycle"));
  CHECK(mutex.locked());
  kept.unlock();
  CHECK_FALSE(mutex.locked());
}

TEST_CASE("sync: when a mutex goes, those who wait for it throw", "[sync]") {
  play_with_all_budgets([]() -> Task<> {
    std::string log;
    std::optional<Mutex> mutex;
    mutex.emplace();
    Mutex::Lock mine = co_await mutex->lock();
    Nursery nursery;
    nursery.spawn(note_lock, std::ref(*mutex), std::ref(log), "granted");
    nursery.spawn(note_lock, std::ref(*mutex), std::ref(log), "waiting");
    const Job<> killed =
        nursery.spawn(note_lock, std::ref(*mutex), std::ref(log), "killed");
    co_await settle();
    mine.unlock();
    mutex.reset();
    CHECK(killed.kill());
    co_await settle();
    CHECK(log == "granted" + gone("mutex") + "waiting" + gone("mutex"));
  });
}

TEST_CASE("sync: a mutex that goes while it is locked is the end", "[sync]") {
  const auto end = in_child([] {
    const auto root = []() -> Task<> {
      std::optional<Mutex> mutex;
      mutex.emplace();
      const auto lock = co_await mutex->lock();
      mutex.reset();
    };
    run(root());
  });
  CHECK(end.signal == SIGABRT);
  CHECK(contains(end.errors,
                 "a mutex is destroyed while it is locked: let it outlive the "
                 "jobs that use it"));
}

TEST_CASE("sync: a mutex that goes before its condition is the end", "[sync]") {
  const auto end = in_child([] {
    std::optional<Mutex> mutex;
    mutex.emplace();
    const Condition condition(*mutex);
    mutex.reset();
  });
  CHECK(end.signal == SIGABRT);
  CHECK(contains(end.errors,
                 "a mutex is destroyed before a condition that uses it: "
                 "declare the mutex first"));
}

// ---------------------------------------------------------------------- flag

TEST_CASE("sync: a flag wakes everyone who waits, in order", "[sync]") {
  play_with_all_budgets([]() -> Task<> {
    std::string log;
    Flag flag;
    CHECK_FALSE(flag.is_set());
    Nursery nursery;
    for (const char* name : {"a", "b", "c"}) {
      nursery.spawn(note_flag, std::ref(flag), std::ref(log), name);
    }
    co_await settle();
    CHECK(flag.waiting() == 3);
    CHECK(log == "");
    flag.set();
    flag.set();
    CHECK(flag.is_set());
    co_await settle();
    CHECK(log == "a b c ");
    co_await flag.wait();
    CHECK(flag.waiting() == 0);
  });
}

TEST_CASE("sync: who was woken by a flag goes on though it is cleared",
          "[sync]") {
  play_with_all_budgets([]() -> Task<> {
    std::string log;
    Flag flag;
    Nursery nursery;
    const auto twice = [&](std::string name) -> Task<> {
      co_await note_flag(flag, log, name);
      co_await note_flag(flag, log, name + " again");
    };
    nursery.spawn(twice, "a");
    nursery.spawn(twice, "b");
    co_await settle();
    flag.set();
    flag.clear();
    CHECK_FALSE(flag.is_set());
    co_await settle();
    CHECK(log == "a b ");
    CHECK(flag.waiting() == 2);
  });
}

TEST_CASE("sync: kills and limits leave a flag", "[sync]") {
  play_with_all_budgets([]() -> Task<> {
    std::string log;
    Flag flag;
    Nursery nursery;
    const Job<> waiting =
        nursery.spawn(note_flag, std::ref(flag), std::ref(log), "waiting");
    const Job<> woken =
        nursery.spawn(note_flag, std::ref(flag), std::ref(log), "woken");
    co_await settle();
    CHECK(waiting.kill());
    flag.set();
    CHECK(woken.kill());
    flag.clear();
    const bool set = co_await within(1s, flag.wait());
    CHECK_FALSE(set);
    CHECK(flag.waiting() == 0);
    CHECK(log == "");
  });
}

TEST_CASE("sync: when a flag goes, those who wait for it throw", "[sync]") {
  play_with_all_budgets([]() -> Task<> {
    std::string log;
    std::optional<Flag> flag;
    flag.emplace();
    Nursery nursery;
    nursery.spawn(note_flag, std::ref(*flag), std::ref(log), "waiting");
    const Job<> killed =
        nursery.spawn(note_flag, std::ref(*flag), std::ref(log), "killed");
    co_await settle();
    flag.reset();
    CHECK(killed.kill());
    co_await settle();
    CHECK(log == "waiting" + gone("flag"));

    log = "";
    flag.emplace();
    nursery.spawn(note_flag, std::ref(*flag), std::ref(log), "woken");
    co_await settle();
    flag->set();
    flag.reset();
    co_await settle();
    CHECK(log == "woken" + gone("flag"));
  });
}

// ----------------------------------------------------------------- condition

TEST_CASE("sync: a condition unlocks, waits, and locks again", "[sync]") {
  play_with_all_budgets([]() -> Task<> {
    std::string log;
    Mutex mutex;
    Condition condition(mutex);
    Nursery nursery;
    nursery.spawn(note_condition, std::ref(mutex), std::ref(condition),
                  std::ref(log), "waiter");
    co_await settle();
    CHECK(condition.waiting() == 1);
    CHECK_FALSE(mutex.locked());
    {
      const auto lock = co_await mutex.lock();
      condition.notify();
      CHECK(condition.waiting() == 0);
      CHECK(mutex.waiting() == 1);
      co_await settle();
      CHECK(log == "");
    }
    co_await settle();
    CHECK(log == "waiter ");
    CHECK_FALSE(mutex.locked());
  });
}

TEST_CASE("sync: notify(n) lets n go on, those who waited longest", "[sync]") {
  play_with_all_budgets([]() -> Task<> {
    std::string log;
    Mutex mutex;
    Condition condition(mutex);
    Nursery nursery;
    condition.notify(3);  // nobody waits: it is not kept for later
    condition.notify_all();
    for (const char* name : {"a", "b", "c", "d", "e", "f"}) {
      nursery.spawn(note_condition, std::ref(mutex), std::ref(condition),
                    std::ref(log), name);
    }
    co_await settle();
    condition.notify(0);
    co_await settle();
    CHECK(log == "");
    condition.notify();
    co_await settle();
    CHECK(log == "a ");
    condition.notify(2);
    co_await settle();
    CHECK(log == "a b c ");
    CHECK(condition.waiting() == 3);
    condition.notify_all();
    co_await settle();
    CHECK(log == "a b c d e f ");
    CHECK_FALSE(mutex.locked());
  });
}

TEST_CASE("sync: the notified queue for the mutex as all others do", "[sync]") {
  play_with_all_budgets([]() -> Task<> {
    std::string log;
    Mutex mutex;
    Condition condition(mutex);
    Nursery nursery;
    nursery.spawn(note_condition, std::ref(mutex), std::ref(condition),
                  std::ref(log), "notified");
    co_await settle();
    auto lock = co_await mutex.lock();
    nursery.spawn(note_lock, std::ref(mutex), std::ref(log), "before");
    co_await settle();
    condition.notify();
    nursery.spawn(note_lock, std::ref(mutex), std::ref(log), "after");
    co_await settle();
    lock.unlock();
    co_await settle();
    CHECK(log == "before notified after ");
  });
}

TEST_CASE("sync: a waiter that is killed takes no notification", "[sync]") {
  play_with_all_budgets([]() -> Task<> {
    std::string log;
    Mutex mutex;
    Condition condition(mutex);
    Nursery nursery;
    const Job<> first =
        nursery.spawn(note_condition, std::ref(mutex), std::ref(condition),
                      std::ref(log), "first");
    nursery.spawn(note_condition, std::ref(mutex), std::ref(condition),
                  std::ref(log), "second");
    co_await settle();
    CHECK(first.kill());
    CHECK(condition.waiting() == 1);
    condition.notify();
    co_await settle();
    CHECK(log == "second ");
  });
}

TEST_CASE("sync: a notified waiter that is killed passes it on", "[sync]") {
  play_with_all_budgets([]() -> Task<> {
    std::string log;
    Mutex mutex;
    Condition condition(mutex);
    Nursery nursery;
    std::vector<Job<>> jobs;
    for (const char* name : {"a", "b", "c"}) {
      jobs.push_back(nursery.spawn(note_condition, std::ref(mutex),
                                   std::ref(condition), std::ref(log), name));
    }
    co_await settle();
    {
      const auto lock = co_await mutex.lock();
      condition.notify();
      CHECK(jobs[0].kill());  // queues for the mutex
      CHECK(condition.waiting() == 1);
    }
    CHECK(mutex.locked());
    CHECK(jobs[1].kill());  // has been granted the mutex
    CHECK(condition.waiting() == 0);
    CHECK(mutex.locked());
    co_await settle();
    CHECK(log == "c ");
    CHECK_FALSE(mutex.locked());
  });
}

TEST_CASE("sync: what was for all is not passed on to newcomers", "[sync]") {
  play_with_all_budgets([]() -> Task<> {
    std::string log;
    Mutex mutex;
    Condition condition(mutex);
    Nursery nursery;
    const Job<> old = nursery.spawn(note_condition, std::ref(mutex),
                                    std::ref(condition), std::ref(log), "old");
    const auto killer = [&]() -> Task<> {
      CHECK(old.kill());
      co_return;
    };
    co_await settle();
    auto lock = co_await mutex.lock();
    condition.notify_all();
    nursery.spawn(killer);  // runs before the one that was notified
    const bool notified = co_await within(1s, condition.wait(lock));
    CHECK_FALSE(notified);
    CHECK(old.killed());
    CHECK(log == "");
    CHECK_FALSE(mutex.locked());
  });
}

TEST_CASE("sync: a wait that a limit ends leaves the lock empty", "[sync]") {
  play_with_all_budgets([]() -> Task<> {
    Mutex mutex;
    Condition condition(mutex);
    auto lock = co_await mutex.lock();
    const bool notified = co_await within(1s, condition.wait(lock));
    CHECK_FALSE(notified);
    CHECK_FALSE(lock.owns());
    CHECK_FALSE(mutex.locked());
    CHECK(condition.waiting() == 0);
    co_await lock.lock();
    CHECK(lock.owns());
  });
}

TEST_CASE("sync: a limit that ends the wait for the mutex passes it on",
          "[sync]") {
  play_with_all_budgets([]() -> Task<> {
    std::string log;
    Mutex mutex;
    Condition condition(mutex);
    Nursery nursery;
    const auto limited = [&]() -> Task<> {
      auto lock = co_await mutex.lock();
      const bool done = co_await within(1s, condition.wait(lock));
      CHECK_FALSE(done);
      CHECK_FALSE(lock.owns());
      log += "late ";
    };
    nursery.spawn(limited);
    co_await settle();
    nursery.spawn(note_condition, std::ref(mutex), std::ref(condition),
                  std::ref(log), "next");
    co_await settle();
    {
      const auto lock = co_await mutex.lock();
      condition.notify();
      co_await violet::sleep(2s);
      CHECK(log == "late ");
    }
    co_await settle();
    CHECK(log == "late next ");
    CHECK_FALSE(mutex.locked());
  });
}

TEST_CASE("sync: a notification in the turn of the limit completes", "[sync]") {
  World world;
  const auto root = [&]() -> Task<> {
    Mutex mutex;
    Condition condition(mutex);
    const auto waiter = [&]() -> Task<> {
      auto lock = co_await mutex.lock();
      const bool done = co_await within(1s, condition.wait(lock));
      CHECK(done);
      CHECK(lock.owns());
    };
    const Job<> job = spawn(waiter);
    co_await yield_now();
    condition.notify();
    world.time.advance(2s);
    co_await join(job);
  };
  world.run(root());
}

TEST_CASE("sync: a wait without the condition's mutex is refused", "[sync]") {
  play_with_all_budgets([]() -> Task<> {
    Mutex mutex;
    Mutex other;
    Condition condition(mutex);
    Mutex::Lock empty;
    auto wrong = co_await other.lock();
    auto unlocked = co_await mutex.lock();
    unlocked.unlock();
    for (Mutex::Lock* lock : {&empty, &wrong, &unlocked}) {
      std::string text;
      try {
        co_await condition.wait(*lock);
      } catch (const Misuse& e) {
        text = e.what();
      }
      CHECK(text ==
            "violet: wait for a condition without its mutex: pass a Lock that "
            "holds the mutex which the condition was made with");
    }
    CHECK(wrong.owns());
    CHECK_FALSE(mutex.locked());
    CHECK(condition.waiting() == 0);
  });
}

TEST_CASE("sync: when a condition goes, those who wait throw", "[sync]") {
  play_with_all_budgets([]() -> Task<> {
    std::string log;
    Mutex mutex;
    std::optional<Condition> condition;
    condition.emplace(mutex);
    Nursery nursery;
    std::vector<Job<>> jobs;
    for (const char* name : {"granted", "queued", "killed", "waiting"}) {
      jobs.push_back(nursery.spawn(note_condition, std::ref(mutex),
                                   std::ref(*condition), std::ref(log), name));
    }
    co_await settle();
    condition->notify(3);
    std::string other;
    nursery.spawn(note_lock, std::ref(mutex), std::ref(other), "locker");
    condition.reset();
    CHECK(jobs[2].kill());
    co_await settle();
    CHECK(log == "granted" + gone("condition") + "queued" + gone("condition") +
                     "waiting" + gone("condition"));
    CHECK(other == "locker ");
    CHECK_FALSE(mutex.locked());
  });
}

TEST_CASE("sync: a wait for a condition says how far it is", "[sync]") {
  std::string log;
  Mutex mutex;
  std::optional<Condition> condition;
  condition.emplace(mutex);
  Mutex::Lock kept;
  World world;
  const auto holder = [&]() -> Task<> {
    kept = co_await mutex.lock();
    condition->notify();
    co_await violet::sleep(1h);
  };
  world.loop.spawn(note_condition, std::ref(mutex), std::ref(*condition),
                   std::ref(log), "x");
  world.loop.run_once();
  CHECK(contains(world.loop.dump(), ": waiting for condition, 0.0 s"));
  world.loop.spawn(holder);
  world.loop.run_once();
  CHECK(contains(world.loop.dump(),
                 ": waiting for condition, notified; mutex, held by #2, 0.0 "
                 "s"));
  kept.unlock();
  CHECK(contains(world.loop.dump(), ": ready for condition, granted, 0.0 s"));
  condition.reset();
  CHECK(contains(world.loop.dump(), ": ready for condition, gone, 0.0 s"));
  world.loop.run_once();
}

TEST_CASE("sync: a small buffer passes everything between two sides",
          "[sync]") {
  play_with_all_budgets([]() -> Task<> {
    Mutex mutex;
    Condition room(mutex);
    Condition news(mutex);
    std::deque<int> buffer;
    std::vector<int> got;
    Nursery nursery;
    const auto producer = [&]() -> Task<> {
      for (int i = 0; i < 100; ++i) {
        auto lock = co_await mutex.lock();
        while (buffer.size() == 3) co_await room.wait(lock);
        buffer.push_back(i);
        news.notify();
      }
    };
    const auto consumer = [&]() -> Task<> {
      while (got.size() < 100) {
        auto lock = co_await mutex.lock();
        while (buffer.empty()) co_await news.wait(lock);
        got.push_back(buffer.front());
        buffer.pop_front();
        room.notify();
      }
    };
    nursery.spawn(producer);
    const Job<> job = nursery.spawn(consumer);
    co_await join(job);
    CHECK(got.size() == 100);
    for (int i = 0; i < 100; ++i) CHECK(got[static_cast<std::size_t>(i)] == i);
  });
}

// -------------------------------------------------------- kills everywhere

namespace sync_tested {

/// Counts who is in, and checks that they are not too many.
class Inside {
 public:
  Inside(int& count, int limit) : count_(count) { CHECK(++count_ <= limit); }
  Inside(const Inside&) = delete;
  ~Inside() { --count_; }

 private:
  int& count_;
};

/// Jobs that use all there is, in an order that chance decides.
class Crowd {
 public:
  explicit Crowd(unsigned seed) : random_(seed) {}

  Task<> run() {
    {
      Nursery nursery;
      std::vector<Job<>> jobs;
      for (int i = 0; i < 6; ++i) jobs.push_back(nursery.spawn(worker, this));
      for (int i = 0; i < 40; ++i) {
        if (chance(4)) co_await violet::sleep(ms(random_() % 4));
        if (chance(4)) co_await yield_now();
        poke();
        if (chance(8)) jobs[random_() % jobs.size()].kill();
        if (chance(8)) jobs.push_back(nursery.spawn(worker, this));
      }
      ended_ = true;
      while (!nursery.empty()) {
        flag_.set();
        condition_.notify_all();
        co_await violet::sleep(1ms);
      }
    }
    co_await check_all_is_there();
  }

 private:
  static Duration ms(unsigned long count) {
    return std::chrono::milliseconds(static_cast<long>(count));
  }
  bool chance(unsigned of) { return random_() % of == 0; }

  void poke() {
    if (chance(3)) flag_.set();
    if (chance(3)) flag_.clear();
    if (chance(2)) condition_.notify(random_() % 3);
    if (chance(6)) condition_.notify_all();
  }

  static Task<> worker(Crowd* crowd) { return crowd->work(); }

  Task<> work() {
    while (!ended_) {
      switch (random_() % 4) {
        case 0: co_await use_semaphore(); break;
        case 1: co_await use_mutex(); break;
        case 2: co_await use_flag(); break;
        default: co_await violet::sleep(ms(random_() % 3)); break;
      }
    }
  }

  Task<> use_semaphore() {
    std::optional<Permit> permit;
    if (chance(2)) {
      permit = co_await within(ms(random_() % 3), semaphore_.acquire());
    } else {
      permit = co_await semaphore_.acquire();
    }
    if (!permit) co_return;
    const Inside inside(permits_, 2);
    if (chance(2)) co_await violet::sleep(ms(random_() % 3));
    if (chance(4)) co_await use_mutex();
  }

  Task<> use_mutex() {
    auto lock = co_await mutex_.lock();
    const Inside inside(locks_, 1);
    if (chance(2)) co_await violet::sleep(ms(random_() % 3));
  }

  Task<> use_flag() {
    if (chance(2)) {
      const bool set = co_await within(ms(random_() % 3), flag_.wait());
      static_cast<void>(set);
    } else {
      co_await flag_.wait();
    }
    co_await use_condition();
  }

  Task<> use_condition() {
    auto lock = co_await mutex_.lock();
    bool done = true;
    if (chance(2)) {
      done = co_await within(ms(random_() % 3), condition_.wait(lock));
    } else {
      co_await condition_.wait(lock);
    }
    CHECK(lock.owns() == done);
    if (!done) co_await lock.lock();
    const Inside inside(locks_, 1);
    if (chance(2)) co_await yield_now();
  }

  Task<> check_all_is_there() {
    CHECK(semaphore_.available() == 2);
    CHECK(semaphore_.waiting() == 0);
    CHECK_FALSE(mutex_.locked());
    CHECK(mutex_.waiting() == 0);
    CHECK(flag_.waiting() == 0);
    CHECK(condition_.waiting() == 0);
    const Permit permit = co_await semaphore_.acquire();
    const auto lock = co_await mutex_.lock();
    CHECK(permits_ == 0);
    CHECK(locks_ == 0);
  }

  std::mt19937 random_;
  Semaphore semaphore_{2};
  Mutex mutex_;
  Flag flag_;
  Condition condition_{mutex_};
  int permits_ = 0;
  int locks_ = 0;
  bool ended_ = false;
};

}  // namespace sync_tested

TEST_CASE("sync: kills at random leave everything where it belongs", "[sync]") {
  for (unsigned seed = 0; seed < 1000; ++seed) {
    CAPTURE(seed);
    play(
        [seed]() -> Task<> {
          Crowd crowd(seed);
          co_await crowd.run();
        },
        kBudgets[seed % 3]);
  }
}

// One notification for each item: if one were lost, an item would lie there
// while a consumer waits, and the run would end as a deadlock.
TEST_CASE("sync: kills at random lose no notification and no permit",
          "[sync]") {
  for (unsigned seed = 0; seed < 1000; ++seed) {
    CAPTURE(seed);
    play(
        [seed]() -> Task<> {
          std::mt19937 random(seed);
          Mutex mutex;
          Condition condition(mutex);
          Semaphore semaphore(1);
          int items = 0;
          int taken = 0;
          const auto consumer = [&]() -> Task<> {
            for (;;) {
              const Permit permit = co_await semaphore.acquire();
              auto lock = co_await mutex.lock();
              while (items == 0) co_await condition.wait(lock);
              --items;
              ++taken;
            }
          };
          const auto open_consumer = [&]() -> Task<> {
            for (;;) {
              auto lock = co_await mutex.lock();
              while (items == 0) co_await condition.wait(lock);
              --items;
              ++taken;
            }
          };
          Nursery nursery;
          std::vector<Job<>> jobs;
          for (int i = 0; i < 3; ++i) jobs.push_back(nursery.spawn(consumer));
          for (int i = 0; i < 6; ++i) {
            jobs.push_back(nursery.spawn(open_consumer));
          }
          std::size_t left = jobs.size();
          int made = 0;
          for (int i = 0; i < 60; ++i) {
            if (random() % 2 == 0) {
              const auto lock = co_await mutex.lock();
              ++items;
              ++made;
              condition.notify();
            }
            if (random() % 2 == 0) co_await yield_now();
            const Job<>& victim = jobs[random() % jobs.size()];
            if (random() % 6 == 0 && left > 1 && !victim.ended()) {
              CHECK(victim.kill());
              --left;
            }
          }
          co_await violet::sleep(1s);
          CHECK(taken == made);
          CHECK(items == 0);
        },
        kBudgets[seed % 3]);
  }
}

TEST_CASE("sync: who waits for a lock is gone when a kill of it returns",
          "[sync]") {
  play_with_all_budgets([]() -> Task<> {
    std::string log;
    Mutex mutex;
    const auto mine = co_await mutex.lock();
    const auto waits = [&]() -> Task<> {
      const Witness witness(log, "waits");
      const auto lock = co_await mutex.lock();
      log += "never ";
    };
    const Job<> job = spawn(waits);
    co_await settle();
    CHECK(mutex.waiting() == 1);
    co_await kill(job);
    log += "| ";
    CHECK(mutex.waiting() == 0);
    CHECK(log == "+waits -waits | ");
  });
}

// ------------------------------------------------------- others go first

// With a budget of 0 a job lets others go first wherever it waits. It waits
// all the same.

TEST_CASE("sync: a pulse of a flag wakes who has just let others go first",
          "[sync]") {
  const auto body = []() -> Task<> {
    Flag flag;
    const auto waits = [&]() -> Task<> { co_await flag.wait(); };
    const auto pulses = [&]() -> Task<> {
      flag.set();
      flag.clear();
      co_return;
    };
    TaskGroup group;
    group.spawn(waits);
    group.spawn(pulses);
    bool woken = co_await within(1h, group.join());
    CHECK(woken);
    // It was so when it began to wait.
    const auto clears = [&]() -> Task<> {
      flag.clear();
      co_return;
    };
    flag.set();
    group.spawn(waits);
    group.spawn(clears);
    woken = co_await within(1h, group.join());
    CHECK(woken);
  };
  play(body, 0);
  play(body);
}

TEST_CASE("sync: who asks first gets it first, letting others go or not",
          "[sync]") {
  for (const bool is_free : {false, true}) {
    const auto body = [is_free]() -> Task<> {
      Semaphore semaphore(1);
      Mutex mutex;
      Semaphore spends(1);
      std::string order;
      const auto asks = [&](char name, int spent) -> Task<> {
        for (int i = 0; i < spent; ++i) (void)co_await spends.acquire();
        order += name;
        const Permit permit = co_await semaphore.acquire();
        order += name;
        const Mutex::Lock lock = co_await mutex.lock();
        order += name;
        co_await violet::sleep(1ms);
      };
      TaskGroup group;
      {
        std::optional<Permit> held;
        if (!is_free) held = semaphore.try_acquire();
        group.spawn(asks, 'a', 32);  // its budget is used up
        group.spawn(asks, 'b', 0);
        co_await violet::sleep(1ms);
      }
      co_await group.join();
      CHECK(order == "abaabb");
      CHECK(semaphore.available() == 1);
      CHECK_FALSE(mutex.locked());
    };
    play(body);
  }
}

TEST_CASE("sync: what was granted to who lets others go first is handed on",
          "[sync]") {
  const auto body = []() -> Task<> {
    Semaphore semaphore(1);
    Mutex mutex;
    const auto locks = [&]() -> Task<> { (void)co_await mutex.lock(); };
    const auto takes = [&]() -> Task<> { (void)co_await semaphore.acquire(); };
    const Job<> one = spawn(locks);
    const Job<> other = spawn(takes);
    co_await yield_now();  // they have asked
    one.kill();
    other.kill();
    CHECK(mutex.try_lock());
    CHECK(semaphore.try_acquire());
  };
  play(body, 0);
  play(body);
}

TEST_CASE("sync: a condition that goes tells who has let others go first",
          "[sync]") {
  const auto body = []() -> Task<> {
    Mutex mutex;
    auto condition = std::make_unique<Condition>(mutex);
    bool asked = false;
    std::string told;
    const auto waits = [&]() -> Task<> {
      auto lock = co_await mutex.lock();
      asked = true;
      try {
        co_await condition->wait(lock);
      } catch (const Misuse& e) {
        told = e.what();
      }
      CHECK_FALSE(lock.owns());
    };
    const Job<> job = spawn(waits);
    while (!asked) co_await yield_now();
    condition.reset();
    co_await join(job);
    CHECK(contains(told, "the condition is gone"));
    CHECK_FALSE(mutex.locked());
  };
  play(body, 0);
  play(body);
}
