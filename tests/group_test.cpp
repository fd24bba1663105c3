// group_test.cpp - jobs that do not outlive a scope.
// SPDX-License-Identifier: MIT
#include "catch.hpp"

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "../runtime/group.hpp"
#include "../runtime/shield.hpp"
#include "../runtime/sync.hpp"
#include "../runtime/within.hpp"
#include "script.hpp"

namespace {

using namespace script;
using support::Tracked;

Task<int> value_after(Duration duration, int value) {
  co_await violet::sleep(duration);
  co_return value;
}

Task<> fail_after(Duration duration, std::string what) {
  co_await violet::sleep(duration);
  throw std::runtime_error(what);
}

/// Writes down that it was there, and when it goes.
Task<> witness(std::string& log, std::string name, Duration duration) {
  const Witness here(log, name);
  co_await violet::sleep(duration);
}

/// A job in a group in a job in a group and so on.
Task<> nest(int depth) {
  TaskGroup group;
  if (depth > 0) {
    group.spawn(nest, depth - 1);
  } else {
    group.spawn(long_sleep);
  }
  co_await group.join();
}

/// Counts how many of its kind are alive at a time.
struct Crowd {
  int now = 0;
  int most = 0;
  int ever = 0;
};

Task<> one_of(Crowd& crowd, Duration duration) {
  ++crowd.ever;
  crowd.most = std::max(crowd.most, ++crowd.now);
  const AtEnd leave([&] { --crowd.now; });
  co_await violet::sleep(duration);
}

}  // namespace

// ------------------------------------------------------------------ lifetime

TEST_CASE("group: join waits for all children", "[group]") {
  const Duration elapsed = play([]() -> Task<> {
    TaskGroup group;
    const Job<int> slow = group.spawn(value_after, 3s, 3);
    const Job<int> fast = group.spawn(value_after, 1s, 1);
    CHECK(group.size() == 2);
    co_await group.join();
    CHECK(group.empty());
    const auto got1 = co_await join(slow);
    CHECK(got1 == 3);
    const auto got2 = co_await join(fast);
    CHECK(got2 == 1);
  });
  CHECK(elapsed == 3s);
}

TEST_CASE("group: join waits for what children spawn late", "[group]") {
  int ended = 0;
  const auto leaf = [&]() -> Task<> {
    co_await violet::sleep(1s);
    ++ended;
  };
  const auto child = [&](TaskGroup& group) -> Task<> {
    co_await violet::sleep(1s);
    group.spawn(leaf);
    spawn(leaf);  // belongs to the group of the job that spawns it
    ++ended;
  };
  const Duration elapsed = play([&]() -> Task<> {
    TaskGroup group;
    group.spawn(child, std::ref(group));
    co_await group.join();
    CHECK(ended == 3);
  });
  CHECK(elapsed == 2s);
}

TEST_CASE("group: an empty one joins at once, and again", "[group]") {
  play([]() -> Task<> {
    TaskGroup group;
    co_await group.join();
    group.spawn(long_sleep).kill();
    co_await group.join();
    const Job<int> job = group.spawn(value_after, 1s, 1);
    co_await group.join();
    CHECK(job.ended());
  });
}

TEST_CASE("group: the end of its scope kills children, newest first",
          "[group]") {
  std::string log;
  play([&]() -> Task<> {
    {
      TaskGroup group;
      group.spawn(witness, std::ref(log), "a", 9s);
      group.spawn(witness, std::ref(log), "b", 9s);
      co_await yield_now();
      group.spawn(witness, std::ref(log), "never", 9s);
    }
    log += "| ";
  });
  CHECK(log == "+a +b -b -a | ");
}

TEST_CASE("group: an exception that leaves its scope kills children",
          "[group]") {
  std::string log;
  play([&]() -> Task<> {
    try {
      TaskGroup group;
      group.spawn(witness, std::ref(log), "a", 9s);
      co_await yield_now();
      throw std::runtime_error("the body");
    } catch (const std::runtime_error& e) {
      log += e.what();
    }
  });
  CHECK(log == "+a -a the body");
}

TEST_CASE("group: killing its owner kills the children", "[group]") {
  std::string log;
  play([&]() -> Task<> {
    const auto owner = [&]() -> Task<> {
      const Witness here(log, "owner");
      TaskGroup group;
      group.spawn(witness, std::ref(log), "a", 9s);
      co_await group.join();
    };
    const Job<> job = spawn(owner);
    co_await violet::sleep(1s);
    CHECK(job.kill("enough"));
    log += "| ";
  });
  CHECK(log == "+owner +a -a -owner | ");
}

TEST_CASE("group: a killed joiner is not resumed", "[group]") {
  play([]() -> Task<> {
    bool resumed = false;
    TaskGroup group;
    group.spawn(value_after, 2s, 1);
    const auto joiner = [&]() -> Task<> {
      co_await group.join();
      resumed = true;
    };
    const Job<> job = spawn(joiner);
    co_await violet::sleep(1s);
    job.kill();
    co_await group.join();
    CHECK_FALSE(resumed);
  });
}

TEST_CASE("group: one inside a heap object works as a local one", "[group]") {
  std::string log;
  play([&]() -> Task<> {
    auto group = std::make_unique<TaskGroup>();
    group->spawn(witness, std::ref(log), "a", 1s);
    co_await group->join();
    group->spawn(witness, std::ref(log), "b", 9s);
    co_await yield_now();
    group.reset();
    log += "| ";
  });
  CHECK(log == "+a -a +b -b | ");
}

TEST_CASE("group: one that outlives its owner on the heap loses its jobs",
          "[group]") {
  std::string log;
  play([&]() -> Task<> {
    std::unique_ptr<TaskGroup> group;
    const auto owner = [&]() -> Task<> {
      group = std::make_unique<TaskGroup>();
      group->spawn(witness, std::ref(log), "a", 9s);
      co_await violet::sleep(1s);
    };
    co_await join(spawn(owner));
    log += "| ";
    CHECK(group->empty());
    const std::string text = thrown<Misuse>([&] { group->spawn(long_sleep); });
    CHECK(contains(text, "spawn into a group that is closed"));
    co_await group->join();
  });
  CHECK(log == "+a -a | ");
}

TEST_CASE("group: 100 000 jobs are killed by the end of their scope",
          "[group]") {
  play([]() -> Task<> {
    TaskGroup group;
    for (int i = 0; i < 100'000; ++i) group.spawn(long_sleep);
    co_await yield_now();
  });
}

TEST_CASE("group: one that is destroyed from within ends the program",
          "[group]") {
  const auto end = in_child([] {
    const auto root = []() -> Task<> {
      auto group = std::make_unique<TaskGroup>();
      const auto child = [&]() -> Task<> {
        group.reset();
        co_return;
      };
      group->spawn(child);
      co_await group->join();
    };
    run(root());
  });
  CHECK(end.signal == SIGABRT);
  CHECK(contains(end.errors, "destroyed from within one of its own jobs"));
}

// ------------------------------------------------------------------- failure

TEST_CASE("group: the first failure kills the siblings and leaves by join",
          "[group]") {
  std::string log;
  const Duration elapsed = play([&]() -> Task<> {
    TaskGroup group;
    group.spawn(witness, std::ref(log), "a", 9s);
    group.spawn(fail_after, 1s, "one");
    group.spawn(witness, std::ref(log), "b", 9s);
    std::string caught;
    try {
      co_await group.join();
    } catch (const std::runtime_error& e) {
      caught = e.what();
    }
    CHECK(caught == "one");
    CHECK(group.empty());
    CHECK(group.failures().empty());
  });
  CHECK(elapsed == 1s);
  CHECK(log == "+a +b -b -a ");
}

TEST_CASE("group: a failure counts at once, though there is a handle",
          "[group]") {
  const Duration elapsed = play([]() -> Task<> {
    TaskGroup group;
    const Job<> bad = group.spawn(fail_after, 1s, "one");
    const Job<> good = group.spawn(long_sleep);
    std::string caught;
    try {
      co_await group.join();
    } catch (const std::runtime_error& e) {
      caught = e.what();
    }
    CHECK(caught == "one");
    CHECK(good.killed());
    CHECK(contains(good.ending()->text(), "a sibling failed"));
    CHECK(contains(good.ending()->text(), "group_test.cpp:"));
    CHECK(bad.error() != nullptr);
  });
  CHECK(elapsed == 1s);
}

TEST_CASE("group: a kill names who made it, not whose group it was",
          "[group]") {
  play([]() -> Task<> {
    TaskGroup group;
    const Job<> first = group.spawn(long_sleep);
    const Job<> fails = group.spawn(fail_after, 1s, "one");
    CHECK_THROWS_AS(co_await group.join(), std::runtime_error);
    const std::string by_failing = concat({"killed by #", fails.id(), " at "});
    CHECK(contains(first.ending()->text(), by_failing));

    const Job<> second = group.spawn(long_sleep);
    TaskGroup others;
    const auto closes = [&]() -> Task<> { co_await group.close(); };
    const Job<> closer = others.spawn(closes);
    co_await others.join();
    const std::string by_closing = concat({"killed by #", closer.id(), " at "});
    CHECK(contains(second.ending()->text(), by_closing));
  });
}

TEST_CASE("group: who joins a child gets its failure, not the group",
          "[group]") {
  play([]() -> Task<> {
    TaskGroup group;
    const Job<> bad = group.spawn(fail_after, 1s, "one");
    const Job<int> good = group.spawn(value_after, 2s, 2);
    std::string caught;
    try {
      co_await join(bad);
    } catch (const std::runtime_error& e) {
      caught = e.what();
    }
    CHECK(caught == "one");
    co_await group.join();
    const auto got3 = co_await join(good);
    CHECK(got3 == 2);
  });
}

TEST_CASE("group: a failure whose joiner is killed comes to the group",
          "[group]") {
  play([]() -> Task<> {
    TaskGroup group;
    Job<> bad = group.spawn(fail_after, 2s, "one");
    const Job<> good = group.spawn(long_sleep);
    const auto joiner = [](Job<> job) -> Task<> { co_await join(job); };
    const Job<> joins = spawn(joiner, std::move(bad));
    co_await violet::sleep(2s);  // it has failed now, its joiner is ready
    joins.kill();
    std::string caught;
    try {
      co_await group.join();
    } catch (const std::runtime_error& e) {
      caught = e.what();
    }
    CHECK(caught == "one");
    CHECK(good.killed());
  });
}

TEST_CASE("group: two failures are both visible", "[group]") {
  play([]() -> Task<> {
    TaskGroup group;
    const auto stubborn = []() -> Task<> {
      co_await shield(fail_after(2s, "two"));
    };
    group.spawn(stubborn);
    group.spawn(fail_after, 1s, "one");
    std::string caught;
    try {
      co_await group.join();
    } catch (const std::runtime_error& e) {
      caught = e.what();
    }
    CHECK(caught == "one");
    const auto others = group.failures();
    REQUIRE(others.size() == 1);
    CHECK(text_of(others[0]) == "two");
  });
}

TEST_CASE("group: failures that nobody sees go to stderr", "[group]") {
  const std::string errors = errors_of([] {
    play([]() -> Task<> {
      TaskGroup group;
      group.spawn(fail_after, 1s, "one");
      co_await violet::sleep(2s);
    });
  });
  CHECK(contains(errors, "job #2 failed, nobody asked, at group_test.cpp:"));
  CHECK(contains(errors, ": one\n"));
}

TEST_CASE("group: nothing is thrown into the owner's other waits", "[group]") {
  play([]() -> Task<> {
    TaskGroup group;
    group.spawn(fail_after, 1s, "one");
    co_await violet::sleep(5s);
    bool caught = false;
    try {
      co_await group.join();
    } catch (const std::runtime_error&) {
      caught = true;
    }
    CHECK(caught);
  });
}

TEST_CASE("group: after a failure newcomers never run, until it is joined",
          "[group]") {
  play([]() -> Task<> {
    TaskGroup group;
    group.spawn(fail_after, 1s, "one");
    co_await violet::sleep(2s);
    bool ran = false;
    const auto body = [&]() -> Task<> {
      ran = true;
      co_return;
    };
    const Job<> late = group.spawn(body);
    CHECK(late.killed());
    bool caught = false;
    try {
      co_await group.join();
    } catch (const std::runtime_error&) {
      caught = true;
    }
    CHECK(caught);
    CHECK_FALSE(ran);
    group.spawn(body);
    co_await group.join();
    CHECK(ran);
  });
}

TEST_CASE("group: a killed child is not a failure", "[group]") {
  play([]() -> Task<> {
    TaskGroup group;
    const Job<> job = group.spawn(long_sleep);
    const Job<int> other = group.spawn(value_after, 1s, 1);
    job.kill();
    co_await group.join();
    CHECK_FALSE(other.killed());
  });
}

TEST_CASE("group: with a handler a failure concerns nobody else", "[group]") {
  play([]() -> Task<> {
    std::string heard;
    TaskGroup group;
    group.on_failure([&](const FailedJob& failure) {
      heard += concat({"#", failure.job, " ", text_of(failure.error), " at ",
                       text_of(failure.where), ";"});
    });
    group.spawn(fail_after, 1s, "one");
    group.spawn(fail_after, 2s, "two");
    const Job<int> good = group.spawn(value_after, 3s, 3);
    co_await group.join();
    CHECK_FALSE(good.killed());
    CHECK(contains(heard, "#2 one at group_test.cpp:"));
    CHECK(contains(heard, "#3 two at group_test.cpp:"));
  });
}

TEST_CASE("group: with a handler, one who joins still gets the failure",
          "[group]") {
  play([]() -> Task<> {
    int heard = 0;
    TaskGroup group;
    group.on_failure([&](const FailedJob&) { ++heard; });
    const Job<> bad = group.spawn(fail_after, 1s, "one");
    co_await group.join();
    CHECK(heard == 0);
    CHECK(text_of(bad.error()) == "one");
  });
}

TEST_CASE("group: a failing child's destructor kills the owner", "[group]") {
  bool went_on = false;
  const std::string errors = errors_of([&] {
    play([&]() -> Task<> {
      Job<> owner;
      const auto body = [&]() -> Task<> {
        TaskGroup group;
        const auto child = [&]() -> Task<> {
          const AtEnd end([&] { owner.kill("from below"); });
          co_await violet::sleep(1s);
          throw std::runtime_error("one");
        };
        group.spawn(child);
        group.spawn(long_sleep);
        co_await group.join();
        went_on = true;
      };
      owner = spawn(body);
      co_await wait(owner);
      CHECK(owner.killed());
    });
  });
  CHECK_FALSE(went_on);
  CHECK(contains(errors, "nobody asked"));
}

// --------------------------------------------------------------------- close

TEST_CASE("group: close kills, waits for shields, and refuses newcomers",
          "[group]") {
  std::string log;
  const Duration elapsed = play([&]() -> Task<> {
    TaskGroup group;
    const auto shielded = [&]() -> Task<> {
      co_await shield(witness(log, "s", 2s));
      co_await violet::sleep(9s);
    };
    group.spawn(shielded);
    group.spawn(witness, std::ref(log), "a", 9s);
    co_await violet::sleep(1s);
    co_await group.close();
    log += "| ";
    CHECK(group.empty());
    const std::string text = thrown<Misuse>([&] { group.spawn(long_sleep); });
    CHECK(contains(text, "spawn into a group that is closed; spawn before"));
  });
  CHECK(elapsed == 2s);
  CHECK(log == "+s +a -a -s | ");
}

TEST_CASE("group: a job may not join the group that it is in", "[group]") {
  play([]() -> Task<> {
    TaskGroup group;
    const auto child = [&]() -> Task<> { co_await group.join(); };
    const auto grandchild = [&]() -> Task<> {
      TaskGroup inner;
      inner.spawn(child);
      co_await inner.join();
    };
    for (int depth = 0; depth < 2; ++depth) {
      if (depth == 0) {
        group.spawn(child);
      } else {
        group.spawn(grandchild);
      }
      std::string text;
      try {
        co_await group.join();
      } catch (const Misuse& e) {
        text = e.what();
      }
      CHECK(contains(text, "joins the group that it belongs to"));
      CHECK(contains(text, "join in the job that made the group"));
    }
  });
}

TEST_CASE("group: who joins his own just when his turn is over is told, too",
          "[group]") {
  bool told = false;
  const auto joins = [&](TaskGroup& group) -> Task<> {
    Flag set;
    set.set();
    for (int i = 0; i < 200; ++i) co_await set.wait();
    try {
      co_await group.join();
    } catch (const Misuse&) {
      told = true;
    }
  };
  for (int budget : {0, 1, 10, 100}) {
    World world(static_cast<std::uint8_t>(budget));
    const auto body = [&]() -> Task<> {
      TaskGroup group;
      group.spawn(joins, std::ref(group));
      co_await violet::sleep(1ms);
      co_await group.join();  // found the other one's event here
    };
    told = false;
    world.run(body());
    CHECK(told);
  }
}

TEST_CASE("group: outside a job there is no owner", "[group]") {
  CHECK(contains(thrown<Misuse>([] { const TaskGroup group; }),
                 "no loop runs on this thread"));
}

// --------------------------------------------------------------------- limit

TEST_CASE("group: a limit is never exceeded, and the queue drains in order",
          "[group]") {
  Crowd crowd;
  const Duration elapsed = play([&]() -> Task<> {
    TaskGroup group(3);
    for (int i = 0; i < 10; ++i) group.spawn(one_of, std::ref(crowd), 1s);
    CHECK(group.running() == 3);
    CHECK(group.size() == 10);
    co_await group.join();
  });
  CHECK(crowd.most == 3);
  CHECK(crowd.ever == 10);
  CHECK(elapsed == 4s);
}

TEST_CASE("group: room is the back-pressure", "[group]") {
  Crowd crowd;
  play([&]() -> Task<> {
    TaskGroup group(2);
    for (int i = 0; i < 6; ++i) {
      co_await group.room();
      CHECK(group.running() < 2);
      group.spawn(one_of, std::ref(crowd), 1s);
      CHECK(group.size() <= 2);
    }
    co_await group.join();
  });
  CHECK(crowd.most == 2);
  CHECK(crowd.ever == 6);
}

TEST_CASE("group: of many who wait for room one is told at a time", "[group]") {
  Crowd crowd;
  play([&]() -> Task<> {
    TaskGroup group(1);
    group.spawn(one_of, std::ref(crowd), 1s);
    TaskGroup clients;
    std::vector<int> served;
    const auto client = [&](int i) -> Task<> {
      if (i % 3 == 0) {  // gives up, just when there is room or before
        (void)co_await within(i * 500ms, group.room());
        co_return;
      }
      co_await group.room();
      served.push_back(i);
      // One that has asked and needs no room after all must not keep it.
      if (i % 3 == 1) group.spawn(one_of, std::ref(crowd), 1s);
    };
    std::vector<Job<>> jobs;
    for (int i = 0; i < 12; ++i) jobs.push_back(clients.spawn(client, i));
    co_await violet::sleep(3500ms);
    jobs[8].kill();
    co_await clients.join();
    co_await group.join();
    CHECK(served == std::vector<int>{1, 2, 4, 5, 7, 10, 11});
  });
  CHECK(crowd.most == 1);
  CHECK(crowd.ever == 5);
}

TEST_CASE("group: a failure stops the queue of a limited group", "[group]") {
  Crowd crowd;
  play([&]() -> Task<> {
    TaskGroup group(1);
    group.spawn(fail_after, 1s, "one");
    for (int i = 0; i < 5; ++i) group.spawn(one_of, std::ref(crowd), 1s);
    bool caught = false;
    try {
      co_await group.join();
    } catch (const std::runtime_error&) {
      caught = true;
    }
    CHECK(caught);
    CHECK(crowd.ever == 0);
    group.spawn(one_of, std::ref(crowd), 1s);
    co_await group.join();
    CHECK(crowd.ever == 1);
  });
}

TEST_CASE("group: jobs that wait for their start can be killed", "[group]") {
  Crowd crowd;
  play([&]() -> Task<> {
    TaskGroup group(1);
    group.spawn(one_of, std::ref(crowd), 1s);
    const Job<> second = group.spawn(one_of, std::ref(crowd), 1s);
    const Job<> third = group.spawn(one_of, std::ref(crowd), 1s);
    CHECK(second.kill());
    co_await group.join();
    CHECK(crowd.ever == 2);
    CHECK_FALSE(third.killed());
    {
      TaskGroup other(1);
      other.spawn(long_sleep);
      other.spawn(long_sleep);
      co_await yield_now();
    }
  });
}

TEST_CASE("group: a limit of 0 is refused", "[group]") {
  play([]() -> Task<> {
    CHECK(contains(thrown<Misuse>([] { const TaskGroup group(0); }),
                   "would run nothing"));
    co_return;
  });
}

// --------------------------------------------------------------------- start

TEST_CASE("group: start returns when the child says that it is ready",
          "[group]") {
  std::string log;
  const auto service = [&](Started started, int port) -> Task<> {
    co_await violet::sleep(1s);
    log += concat({"up at ", port, " "});
    started.ready();
    co_await violet::sleep(9s);
  };
  const Duration elapsed = play([&]() -> Task<> {
    TaskGroup group;
    const Job<> job = co_await group.start(service, 80);
    log += "started ";
    CHECK_FALSE(job.ended());
    co_await violet::sleep(1s);
  });
  CHECK(elapsed == 2s);
  CHECK(log == "up at 80 started ");
}

TEST_CASE("group: a child that fails before it is ready fails at start",
          "[group]") {
  play([]() -> Task<> {
    TaskGroup group;
    const Job<> other = group.spawn(long_sleep);
    const auto fails = [](Started) -> Task<> {
      co_await violet::sleep(1s);
      throw std::runtime_error("no port");
    };
    std::string caught;
    try {
      co_await group.start(fails);
    } catch (const std::runtime_error& e) {
      caught = e.what();
    }
    CHECK(caught == "no port");
    CHECK_FALSE(other.killed());
    other.kill();
    co_await group.join();
  });
}

TEST_CASE("group: a child that returns without being ready is a mistake",
          "[group]") {
  play([]() -> Task<> {
    TaskGroup group;
    const auto returns = [](Started) -> Task<> { co_return; };
    std::string caught;
    try {
      co_await group.start(returns);
    } catch (const Misuse& e) {
      caught = e.what();
    }
    CHECK(contains(caught, "returned without saying that it is ready"));
  });
}

TEST_CASE("group: a killed start takes the child with it", "[group]") {
  std::string log;
  play([&]() -> Task<> {
    TaskGroup group;
    const auto slow = [&](Started) -> Task<> {
      co_await witness(log, "slow", 9s);
    };
    const auto starter = [&]() -> Task<> { co_await group.start(slow); };
    const Job<> job = spawn(starter);
    co_await violet::sleep(1s);
    job.kill();
    CHECK(group.empty());
  });
  CHECK(log == "+slow -slow ");
}

TEST_CASE("group: whoever destroys it from within is told what to do instead",
          "[group]") {
  const auto end = in_child([] {
    const auto root = []() -> Task<> {
      auto group = std::make_unique<TaskGroup>();
      const auto child = [&]() -> Task<> {
        group.reset();
        co_return;
      };
      group->spawn(child);
      co_await group->join();
    };
    run(root());
  });
  CHECK(end.signal == SIGABRT);
  CHECK(contains(end.errors,
                 "a group is destroyed from within one of its own jobs: leave "
                 "the scope of the group from the job that owns it"));
}

TEST_CASE("group: one on the heap may outlive its loop", "[group]") {
  const auto end = in_child([] {
    std::unique_ptr<TaskGroup> group;
    const auto owner = [&]() -> Task<> {
      group = std::make_unique<TaskGroup>();
      group->spawn(long_sleep);
      co_return;
    };
    auto loop = std::make_unique<Loop>();
    loop->run(owner());
    loop.reset();
    CHECK(contains(thrown<Misuse>([&] { group->spawn(long_sleep); }),
                   "spawn into a group that is closed"));
    group.reset();
  });
  CHECK(end.signal == 0);
  CHECK(end.status == 0);
}

// ----------------------------------------------------------------- regressions

TEST_CASE("group: a failure that somebody only waits for kills the siblings",
          "[group]") {
  play([]() -> Task<> {
    TaskGroup group;
    const Job<> bad = group.spawn(fail_after, 1s, "one");
    const Job<> good = group.spawn(long_sleep);
    co_await wait(bad);
    CHECK(good.killed());
    std::string caught;
    try {
      co_await group.join();
    } catch (const std::runtime_error& e) {
      caught = e.what();
    }
    CHECK(caught == "one");
  });
}

TEST_CASE("group: a failure in the step of ready() is the group's", "[group]") {
  play([]() -> Task<> {
    TaskGroup group;
    const Job<> good = group.spawn(long_sleep);
    const auto service = [](Started started) -> Task<> {
      co_await violet::sleep(1s);
      started.ready();
      throw std::runtime_error("right after");
    };
    const Job<> bad = co_await group.start(service);
    CHECK(good.killed());
    std::string caught;
    try {
      co_await group.join();
    } catch (const std::runtime_error& e) {
      caught = e.what();
    }
    CHECK(caught == "right after");
  });
}

TEST_CASE("group: a failure whose joiner is killed comes, handle or not",
          "[group]") {
  play([]() -> Task<> {
    TaskGroup group;
    const Job<> bad = group.spawn(fail_after, 1s, "one");
    const Job<> good = group.spawn(long_sleep);
    const auto joins = [](const Job<>& job) -> Task<> { co_await join(job); };
    TaskGroup joiners;
    Job<> joiner;
    const auto killer = [&]() -> Task<> {
      co_await wait(bad);
      joiner.kill();  // which was woken, and stands behind this one
    };
    const Job<> kills = joiners.spawn(killer);
    co_await yield_now();
    joiner = joiners.spawn(joins, std::cref(bad));
    co_await wait(joiner);
    CHECK(joiner.killed());
    CHECK(good.killed());
    std::string caught;
    try {
      co_await group.join();
    } catch (const std::runtime_error& e) {
      caught = e.what();
    }
    CHECK(caught == "one");
  });
}

TEST_CASE("group: whoever joins is found though its budget is used up",
          "[group]") {
  for (const std::uint8_t budget : {std::uint8_t{0}, std::uint8_t{32}}) {
    CAPTURE(static_cast<int>(budget));
    play(
        []() -> Task<> {
          TaskGroup group;
          const Job<> good = group.spawn(long_sleep);
          const auto fails = [](Started) -> Task<> {
            throw std::runtime_error("at once");
            co_return;
          };
          std::string caught;
          try {
            co_await group.start(fails);
          } catch (const std::runtime_error& e) {
            caught = e.what();
          }
          CHECK(caught == "at once");
          const auto fails_too = []() -> Task<> {
            throw std::runtime_error("too");
            co_return;
          };
          const Job<> bad = group.spawn(fails_too);
          try {
            co_await join(bad);
          } catch (const std::runtime_error& e) {
            caught = e.what();
          }
          CHECK(caught == "too");
          CHECK_FALSE(good.killed());
          good.kill();
          co_await group.join();
        },
        budget);
  }
}

TEST_CASE("group: a deep nest of groups is killed in no time", "[group]") {
  // Cubic once: 2000 levels took 11 seconds.
  play([]() -> Task<> {
    const Job<> job = spawn(nest, support::kSanitized ? 300 : 2000);
    co_await violet::sleep(1s);
    CHECK(job.kill());
  });
}

TEST_CASE(
    "group: a handler is called in its loop, wherever the last handle goes",
    "[group]") {
  const Footprint before;
  {
    World world;
    Job<> bad;
    std::string heard;
    const auto owner = [&]() -> Task<> {
      TaskGroup group;
      group.on_failure([&](const FailedJob& failure) {
        heard = text_of(failure.error);
        CHECK(&Loop::current() == &world.loop);
      });
      bad = group.spawn(fail_after, 0s, "one");
      group.spawn(long_sleep);
      co_await group.join();
    };
    const Job<> job = world.loop.spawn(owner);
    for (int i = 0; i < 5; ++i) world.loop.run_once();
    CHECK(bad.ended());
    CHECK(heard.empty());
    bad = Job<>();
    CHECK(heard == "one");
    job.kill();
  }
  CHECK(Footprint() == before);
}

TEST_CASE("group: a stranger that joins it is told when it goes", "[group]") {
  play([]() -> Task<> {
    std::string told;
    TaskGroup strangers;
    const auto waits = [&](TaskGroup& group, bool joins) -> Task<> {
      try {
        if (joins) {
          co_await group.join();
        } else {
          co_await group.room();
        }
      } catch (const Misuse& e) {
        told += e.what();
        told += ";";
      }
    };
    {
      TaskGroup group(1);
      group.spawn(long_sleep);
      strangers.spawn(waits, std::ref(group), true);
      strangers.spawn(waits, std::ref(group), false);
      co_await violet::sleep(1s);
    }
    co_await strangers.join();
    const std::size_t first = told.find("the group was destroyed while a job");
    REQUIRE(first != std::string::npos);
    CHECK(told.find("the group was destroyed", first + 1) != std::string::npos);
    CHECK(contains(told, "let the job that owns a group join it"));
  });
}

TEST_CASE("group: one that goes before a stranger's wait has begun tells, too",
          "[group]") {
  for (const bool joins : {false, true}) {
    const auto body = [joins]() -> Task<> {
      auto group = std::make_unique<TaskGroup>(1);
      group->spawn(long_sleep);
      std::string told;
      const auto waits = [&]() -> Task<> {
        try {
          if (joins) {
            co_await group->join();
          } else {
            co_await group->room();
          }
        } catch (const Misuse& e) {
          told = e.what();
        }
      };
      const auto destroys = [&]() -> Task<> {
        group.reset();
        co_return;
      };
      TaskGroup strangers;
      strangers.spawn(waits);
      strangers.spawn(destroys);
      co_await strangers.join();
      CHECK(contains(told, "the group was destroyed while a job"));
    };
    play(body, 0);
    play(body);
  }
}
