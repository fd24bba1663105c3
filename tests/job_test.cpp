// job_test.cpp - spawn, join, wait and kill.
// SPDX-License-Identifier: MIT
#include "catch.hpp"

#include <algorithm>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "../runtime/events.hpp"
#include "../runtime/within.hpp"
#include "script.hpp"

namespace {

using namespace script;

Task<int> seven() {
  co_return 7;
}

Task<> nothing() {
  co_return;
}

Task<int> failing(std::string text) {
  co_await yield_now();
  throw std::runtime_error(text);
}

/// A witness in each of three frames, the innermost of which waits.
Task<> three_deep(std::string& log, int level = 1) {
  const Witness witness(log, std::to_string(level));
  if (level < 3) {
    co_await three_deep(log, level + 1);
  } else {
    co_await forever();
  }
}

/// Counts what happens to the arguments of a job.
struct Counts {
  int copies = 0;
  int moves = 0;
  int alive = 0;
};

class Counted {
 public:
  explicit Counted(Counts& counts) : counts_(&counts) { ++counts_->alive; }
  Counted(const Counted& other) : counts_(other.counts_) {
    ++counts_->copies;
    ++counts_->alive;
  }
  Counted(Counted&& other) noexcept : counts_(other.counts_) {
    ++counts_->moves;
    ++counts_->alive;
  }
  Counted& operator=(const Counted&) = delete;
  ~Counted() { --counts_->alive; }

 private:
  Counts* counts_;
};

}  // namespace

// --------------------------------------------------------------------- spawn

TEST_CASE("spawn: it returns before the first statement of the job", "[job]") {
  std::string log;
  play([&]() -> Task<> {
    const auto child = [&]() -> Task<> {
      log += "child ";
      co_return;
    };
    const Job<> job = spawn(child);
    log += "spawned ";
    CHECK_FALSE(job.ended());
    co_await join(job);
    log += "joined ";
  });
  CHECK(log == "spawned child joined ");
}

TEST_CASE("spawn: jobs have numbers in the order of their birth", "[job]") {
  play([]() -> Task<> {
    const Job<> a = spawn(nothing);
    const Job<> b = spawn(nothing);
    CHECK(a.id() == 2);
    CHECK(b.id() == 3);
    CHECK(Job<>().id() == 0);
    co_return;
  });
}

TEST_CASE("spawn: a parameter by value is moved in, not copied", "[job]") {
  Counts counts;
  play([&]() -> Task<> {
    const auto body = [](Counted) -> Task<> { co_return; };
    Counted argument(counts);
    const Job<> job = spawn(body, std::move(argument));
    CHECK(counts.copies == 0);
    co_await join(job);
    CHECK(counts.copies == 0);
    CHECK(counts.alive == 1);
  });
  CHECK(counts.alive == 0);
}

TEST_CASE("spawn: an lvalue is copied once", "[job]") {
  Counts counts;
  play([&]() -> Task<> {
    const auto body = [](Counted) -> Task<> { co_return; };
    const Counted argument(counts);
    const Job<> job = spawn(body, argument);
    co_await join(job);
    CHECK(counts.copies == 1);
    CHECK(counts.alive == 1);
  });
  CHECK(counts.alive == 0);
}

TEST_CASE("spawn: a const reference refers to the job's own copy", "[job]") {
  Counts counts;
  std::string seen;
  play([&]() -> Task<> {
    const auto body = [&](const std::string& text, const Counted&) -> Task<> {
      co_await violet::sleep(1s);
      seen = text;
      CHECK(counts.alive == 1);
    };
    {
      const std::string gone(100, 'x');
      spawn(body, gone, Counted(counts));
    }
    CHECK(counts.alive == 1);
    co_await violet::sleep(2s);
    CHECK(counts.alive == 0);
    CHECK(counts.copies == 0);
  });
  CHECK(seen == std::string(100, 'x'));
}

TEST_CASE("spawn: a string_view parameter refers to the job's own string",
          "[job]") {
  std::string seen;
  play([&]() -> Task<> {
    const auto body = [&](std::string_view text) -> Task<> {
      co_await violet::sleep(1s);
      seen = text;
    };
    spawn(body, std::string(100, 'y'));
    co_return;
  });
  CHECK(seen == std::string(100, 'y'));
}

TEST_CASE("spawn: a borrowed view is passed as it is", "[job]") {
  const std::string text = "outlives the job";
  std::string_view seen;
  play([&]() -> Task<> {
    const auto body = [&](std::string_view view) -> Task<> {
      seen = view;
      co_return;
    };
    spawn(body, borrow(std::string_view(text)));
    co_return;
  });
  CHECK(seen.data() == text.data());
}

TEST_CASE("spawn: a capturing lambda lives as long as its job", "[job]") {
  int sum = 0;
  play([&]() -> Task<> {
    for (int i = 1; i <= 3; ++i) {
      const auto number = std::make_shared<int>(i);
      spawn([number, &sum]() -> Task<> {
        co_await violet::sleep(1s * *number);
        sum += *number;
      });
    }
    co_return;
  });
  CHECK(sum == 6);
}

TEST_CASE("spawn: a lambda may be changed by its own body", "[job]") {
  int seen = 0;
  play([&]() -> Task<> {
    spawn([&seen, count = 0]() mutable -> Task<> {
      ++count;
      co_await yield_now();
      seen = ++count;
    });
    co_return;
  });
  CHECK(seen == 2);
}

TEST_CASE("spawn: std::ref passes a reference", "[job]") {
  int value = 1;
  play([&]() -> Task<> {
    const auto body = [](int& x) -> Task<> {
      x = 2;
      co_return;
    };
    const Job<> job = spawn(body, std::ref(value));
    co_await join(job);
  });
  CHECK(value == 2);
}

TEST_CASE("spawn: move-only arguments and results pass", "[job]") {
  play([]() -> Task<> {
    const auto body = [](std::unique_ptr<int> x) -> Task<std::unique_ptr<int>> {
      ++*x;
      co_return x;
    };
    auto first = std::make_unique<int>(1);
    Job<std::unique_ptr<int>> job = spawn(body, std::move(first));
    const std::unique_ptr<int> value = co_await join(std::move(job));
    CHECK(*value == 2);
  });
}

TEST_CASE("spawn: a job may return a reference", "[job]") {
  int target = 3;
  play([&]() -> Task<> {
    const auto body = [](int& x) -> Task<int&> { co_return x; };
    Job<int&> job = spawn(body, std::ref(target));
    int& same = co_await join(job);
    CHECK(&same == &target);
    int& again = co_await join(std::move(job));
    CHECK(&again == &target);
  });
}

TEST_CASE("spawn: a member function takes its object first", "[job]") {
  struct Counter {
    Task<int> add(int n) {
      value += n;
      co_return value;
    }
    int value = 40;
  };
  Counter counter;
  play([&]() -> Task<> {
    const Job<int> job = spawn(&Counter::add, &counter, 2);
    const int value = co_await join(job);
    CHECK(value == 42);
  });
  CHECK(counter.value == 42);
}

TEST_CASE("spawn: many arguments pass", "[job]") {
  play([]() -> Task<> {
    const auto sum = [](int a, int b, int c, int d, int e, int f) -> Task<int> {
      co_return a + b + c + d + e + f;
    };
    const Job<int> job = spawn(sum, 1, 2, 3, 4, 5, 6);
    const int value = co_await join(job);
    CHECK(value == 21);
  });
}

TEST_CASE("spawn: a function that throws before it is a task fails the job",
          "[job]") {
  Counts counts;
  play([&]() -> Task<> {
    const auto body = [](const Counted&) -> Task<> {
      throw std::runtime_error("no task");
    };
    const Job<> job = spawn(body, Counted(counts));
    std::string text;
    try {
      co_await join(job);
    } catch (const std::runtime_error& e) {
      text = e.what();
    }
    CHECK(text == "no task");
    CHECK(counts.alive == 0);
  });
}

TEST_CASE("spawn: frames and arguments die before a joiner runs", "[job]") {
  std::string log;
  play([&]() -> Task<> {
    const auto body = [&](const Witness&) -> Task<> {
      const Witness local(log, "local");
      co_await yield_now();
    };
    Witness argument(log, "argument");
    const Job<> job = spawn(body, std::move(argument));
    co_await join(job);
    log += "joined ";
  });
  CHECK(log == "+argument +local -local -argument joined ");
}

TEST_CASE("spawn: outside a loop it is refused with a sentence", "[job]") {
  const std::string text = thrown<Misuse>([] { spawn(nothing); });
  CHECK(contains(text, "no loop runs on this thread"));
  CHECK(contains(text, "run(task)"));
}

// ---------------------------------------------------------------------- join

TEST_CASE("join: a running job's value arrives", "[job]") {
  play([]() -> Task<> {
    const auto slow = []() -> Task<int> {
      co_await violet::sleep(1s);
      co_return 5;
    };
    const Job<int> job = spawn(slow);
    const int value = co_await join(job);
    CHECK(value == 5);
  });
}

TEST_CASE("join: an ended job's value arrives at once", "[job]") {
  std::string log;
  play([&]() -> Task<> {
    const Job<int> job = spawn(seven);
    co_await yield_now();
    CHECK(job.ended());
    spawn([&]() -> Task<> {
      log += "other ";
      co_return;
    });
    const int value = co_await join(job);
    log += "joined ";
    CHECK(value == 7);
  });
  CHECK(log == "joined other ");
}

TEST_CASE("join: two joiners both get the same object", "[job]") {
  const std::string* seen[2] = {};
  play([&]() -> Task<> {
    const auto body = []() -> Task<std::string> {
      co_await violet::sleep(1s);
      co_return "value";
    };
    const Job<std::string> job = spawn(body);
    const auto joiner = [&](int which) -> Task<> {
      const std::string& value = co_await join(job);
      CHECK(value == "value");
      seen[which] = &value;
    };
    const Job<> a = spawn(joiner, 0);
    const Job<> b = spawn(joiner, 1);
    co_await join(a);
    co_await join(b);
    CHECK(seen[0] == seen[1]);
  });
}

TEST_CASE("join: joiners are resumed in the order in which they came",
          "[job]") {
  std::string log;
  play([&]() -> Task<> {
    const Job<int> job = spawn([]() -> Task<int> {
      co_await violet::sleep(1s);
      co_return 1;
    });
    const auto joiner = [&](char name, const Job<int>& target) -> Task<> {
      const int value = co_await join(target);
      CHECK(value == 1);
      log += name;
    };
    for (char name = 'a'; name < 'f'; ++name) spawn(joiner, name, job);
    co_return;
  });
  CHECK(log == "abcde");
}

TEST_CASE("join: giving the handle up yields the value itself", "[job]") {
  play([]() -> Task<> {
    Job<std::string> job =
        spawn([]() -> Task<std::string> { co_return std::string(99, 'v'); });
    const std::string value = co_await join(std::move(job));
    CHECK(value.size() == 99);
  });
}

TEST_CASE("join: spawn and join in one expression", "[job]") {
  play([]() -> Task<> {
    const int value = co_await join(spawn(seven));
    CHECK(value == 7);
  });
}

TEST_CASE("join: a failed job's exception is rethrown to every joiner",
          "[job]") {
  std::string log;
  play([&]() -> Task<> {
    const Job<int> job = spawn(failing, "boom");
    for (int i = 0; i < 3; ++i) {
      try {
        const int value = co_await join(job);
        CHECK(value == -1);
      } catch (const std::runtime_error& e) {
        log += e.what();
      }
      co_await yield_now();
    }
  });
  CHECK(log == "boomboomboom");
}

TEST_CASE("join: a killed job's joiner gets Killed, with who and why",
          "[job]") {
  std::string text;
  play([&]() -> Task<> {
    const Job<> job = spawn(forever);
    co_await yield_now();
    CHECK(job.kill("no longer needed"));
    try {
      co_await join(job);
    } catch (const Killed& e) {
      text = e.what();
    }
  });
  CHECK(contains(text, "job #2 was killed by #1 at job_test.cpp:"));
  CHECK(contains(text, ": no longer needed"));
}

TEST_CASE("join: Killed is a std::exception that names no loop internals",
          "[job]") {
  std::string text;
  play([&]() -> Task<> {
    const Job<> job = spawn(forever);
    const auto joiner = [&]() -> Task<> {
      try {
        co_await join(job);
      } catch (const std::exception& e) {
        text = e.what();
      }
    };
    spawn(joiner);
    co_await yield_now();
    job.kill();
    co_await yield_now();
    CHECK(text != "");
  });
  CHECK_FALSE(contains(text, "scheduler"));
}

TEST_CASE("join: an empty handle is refused with a sentence", "[job]") {
  play([]() -> Task<> {
    const Job<int> none;
    std::string text;
    try {
      const int value = co_await join(none);
      CHECK(value == -1);
    } catch (const Misuse& e) {
      text = e.what();
    }
    CHECK(contains(text, "empty Job"));
    CHECK(contains(text, "spawn"));
  });
}

TEST_CASE("join: a value of a job outlives the loop with its handle", "[job]") {
  const Footprint before;
  {
    Job<std::string> job;
    const auto root = [&]() -> Task<> {
      job = spawn([]() -> Task<std::string> { co_return "kept"; });
      co_return;
    };
    {
      World world;
      world.run(root());
    }
    CHECK(job.ended());
    CHECK(job.kill());
    CHECK(job.block()->result.get() == "kept");
  }
  CHECK(Footprint() == before);
}

// ---------------------------------------------------------------------- wait

TEST_CASE("wait: it never throws and leaves the error unseen", "[job]") {
  World world;
  std::string log;
  const auto root = [&]() -> Task<> {
    Job<int> job = spawn(failing, "unseen");
    co_await wait(job);
    CHECK(job.ended());
    log += "waited ";
    job = Job<int>();
    co_await forever();
  };
  const auto text = thrown<std::runtime_error>([&] { world.run(root()); });
  CHECK(text == "unseen");
  CHECK(log == "waited ");
}

TEST_CASE("wait: a killed job and an empty handle are waited for as well",
          "[job]") {
  play([]() -> Task<> {
    const Job<> job = spawn(forever);
    job.kill();
    co_await wait(job);
    co_await wait(Job<>());
  });
}

// -------------------------------------------------------------------- errors

TEST_CASE("error: to ask for it is to have seen it", "[job]") {
  play([]() -> Task<> {
    Job<int> job = spawn(failing, "seen");
    CHECK(job.error() == nullptr);
    co_await wait(job);
    CHECK(job.error() != nullptr);
    CHECK(text_of(job.error()) == "seen");
    CHECK_FALSE(job.killed());
    job = Job<int>();
    co_await violet::sleep(1s);
  });
}

TEST_CASE("error: a killed job has none", "[job]") {
  play([]() -> Task<> {
    const Job<> job = spawn(forever);
    job.kill("x");
    CHECK(job.error() == nullptr);
    CHECK(job.killed());
    CHECK(job.ending()->reason == "x");
    co_return;
  });
}

TEST_CASE("error: one without a handle leaves through run", "[job]") {
  World world;
  const auto root = []() -> Task<> {
    spawn(failing, "nobody asked");
    co_await forever();
  };
  CHECK(thrown<std::runtime_error>([&] { world.run(root()); }) ==
        "nobody asked");
}

TEST_CASE("error: it kills the rest of the run first", "[job]") {
  const Footprint before;
  std::string log;
  {
    World world;
    const auto root = [&]() -> Task<> {
      const Witness witness(log, "root");
      spawn(three_deep, std::ref(log), 1);
      spawn(failing, "x");
      co_await forever();
    };
    CHECK(thrown<std::runtime_error>([&] { world.run(root()); }) == "x");
    CHECK(log == "+root +1 +2 +3 -3 -2 -1 -root ");
  }
  CHECK(Footprint() == before);
}

TEST_CASE("error: it leaves as soon as the last handle goes", "[job]") {
  World world;
  std::string log;
  const auto root = [&]() -> Task<> {
    Job<int> job = spawn(failing, "late");
    Job<int> copy = job;
    co_await violet::sleep(1s);
    CHECK(job.ended());
    job = Job<int>();
    co_await violet::sleep(1s);
    log += "still here ";
    copy = Job<int>();
    co_await violet::sleep(1s);
    log += "never here ";
  };
  CHECK(thrown<std::runtime_error>([&] { world.run(root()); }) == "late");
  CHECK(log == "still here ");
}

TEST_CASE("error: the first leaves, the others are one line each", "[job]") {
  World world;
  const auto root = []() -> Task<> {
    spawn(failing, "first");
    spawn(failing, "second");
    spawn(failing, "third");
    co_await forever();
  };
  std::string first;
  const std::string others = errors_of(
      [&] { first = thrown<std::runtime_error>([&] { world.run(root()); }); });
  CHECK(first == "first");
  CHECK(contains(others, "second"));
  CHECK(contains(others, "third"));
  CHECK_FALSE(contains(others, "first"));
  CHECK(std::count(others.begin(), others.end(), '\n') == 2);
}

TEST_CASE("error: the first failure is the one that leaves, root or not",
          "[job]") {
  World world;
  const auto root = []() -> Task<> {
    spawn([]() -> Task<> {
      throw std::runtime_error("the child, first");
      co_return;
    });
    co_await yield_now();
    throw std::runtime_error("the root, second");
  };
  std::string first;
  const std::string others = errors_of(
      [&] { first = thrown<std::runtime_error>([&] { world.run(root()); }); });
  CHECK(first == "the child, first");
  CHECK(contains(others, "the root, second"));
}

TEST_CASE("error: one that is dropped after the loop goes to stderr", "[job]") {
  const std::string said = errors_of([] {
    Job<int> job;
    World world;
    const auto root = [&]() -> Task<> {
      job = spawn(failing, "orphan");
      co_await wait(job);
    };
    world.run(root());
  });
  CHECK(contains(said, "orphan"));
  CHECK(std::count(said.begin(), said.end(), '\n') == 1);
}

TEST_CASE("error: a group is told of a child that fails unseen", "[job]") {
  std::string failures;
  play([&]() -> Task<> {
    Nursery nursery;
    nursery.spawn(failing, "one");
    Job<int> seen = nursery.spawn(failing, "two");
    Job<int> unseen = nursery.spawn(failing, "three");
    co_await wait(unseen);
    CHECK(nursery.left_count == 3);
    CHECK(contains(nursery.failures, "one"));
    CHECK(seen.error() != nullptr);
    CHECK_FALSE(contains(nursery.failures, "three"));
    seen = unseen = Job<int>();
    CHECK(contains(nursery.failures, "three"));
    CHECK_FALSE(contains(nursery.failures, "two"));
  });
}

TEST_CASE("error: its line is that of the await that threw", "[job]") {
  play([]() -> Task<> {
    Job<int> job = spawn(failing, "x");
    co_await wait(job);
    const Ending* ending = job.ending();
    REQUIRE(ending != nullptr);
    CHECK(contains(ending->text(), "at job_test.cpp:"));
    CHECK(contains(ending->text(), ": x"));
    CHECK(job.error() != nullptr);
  });
}

// ---------------------------------------------------------------------- kill

TEST_CASE("kill: frames die from the top of the stack down", "[job]") {
  std::string log;
  play([&]() -> Task<> {
    const Job<> job = spawn(three_deep, std::ref(log), 1);
    co_await yield_now();
    CHECK(log == "+1 +2 +3 ");
    CHECK(job.kill());
    CHECK(log == "+1 +2 +3 -3 -2 -1 ");
    CHECK(job.ended());
    CHECK(job.killed());
  });
}

TEST_CASE("kill: a frame's locals, then its caller's, then the arguments",
          "[job]") {
  std::string log;
  play([&]() -> Task<> {
    const auto inner = [&](const Witness&) -> Task<> {
      const Witness local(log, "inner");
      co_await forever();
    };
    const auto outer = [&](const Witness&) -> Task<> {
      const Witness local(log, "outer");
      Witness argument(log, "passed");
      co_await inner(argument);
    };
    const Job<> job = spawn(outer, Witness(log, "kept"));
    co_await yield_now();
    log.clear();
    CHECK(job.kill());
  });
  CHECK(log == "-inner -passed -outer -kept ");
}

TEST_CASE("kill: of an ended job it does nothing", "[job]") {
  play([]() -> Task<> {
    const Job<int> job = spawn(seven);
    const int value = co_await join(job);
    CHECK(job.kill("too late"));
    CHECK_FALSE(job.killed());
    CHECK(job.ending() == nullptr);
    const int again = co_await join(job);
    CHECK(value == again);
  });
}

TEST_CASE("kill: of an empty handle it does nothing", "[job]") {
  CHECK(Job<>().kill());
  play([]() -> Task<> { co_await kill(Job<>()); });
}

TEST_CASE("kill: an unstarted job loses its arguments and never runs",
          "[job]") {
  std::string log;
  bool ran = false;
  play([&]() -> Task<> {
    const auto body = [&](Witness) -> Task<> {
      ran = true;
      co_return;
    };
    const Job<> job = spawn(body, Witness(log, "argument"));
    CHECK(job.kill());
    CHECK(log == "+argument -argument ");
    CHECK(job.killed());
    co_await yield_now();
  });
  CHECK_FALSE(ran);
}

TEST_CASE("kill: a ready job never goes on", "[job]") {
  std::string log;
  play([&]() -> Task<> {
    const auto body = [&]() -> Task<> {
      const Witness witness(log, "job");
      co_await yield_now();
      log += "went on ";
    };
    const Job<> job = spawn(body);
    co_await yield_now();
    CHECK(job.kill());
    CHECK(log == "+job -job ");
    co_await yield_now();
    co_await yield_now();
  });
  CHECK(log == "+job -job ");
}

TEST_CASE("kill: twice is once, and the first reason stays", "[job]") {
  std::string log;
  play([&]() -> Task<> {
    const Job<> job = spawn(three_deep, std::ref(log), 1);
    co_await yield_now();
    CHECK(job.kill("first"));
    CHECK(job.kill("second"));
    REQUIRE(job.ending() != nullptr);
    CHECK(job.ending()->reason == "first");
    CHECK(job.ending()->killer == 1);
  });
  CHECK(log == "+1 +2 +3 -3 -2 -1 ");
}

TEST_CASE("kill: awaited, it resumes when the job is gone", "[job]") {
  std::string log;
  play([&]() -> Task<> {
    const Job<> job = spawn(three_deep, std::ref(log), 1);
    co_await yield_now();
    co_await kill(job, "by request");
    log += "gone ";
    CHECK(job.ended());
    CHECK(job.ending()->reason == "by request");
    CHECK(contains(job.ending()->text(), "job_test.cpp:"));
  });
  CHECK(log == "+1 +2 +3 -3 -2 -1 gone ");
}

TEST_CASE("kill: awaited on oneself, it ends the job there", "[job]") {
  std::string log;
  play([&]() -> Task<> {
    Job<> self;
    const auto body = [&]() -> Task<> {
      const Witness witness(log, "job");
      co_await kill(self, "enough");
      log += "never ";
    };
    self = spawn(body);
    co_await wait(self);
    CHECK(self.killed());
    CHECK(self.ending()->reason == "enough");
  });
  CHECK(log == "+job -job ");
}

TEST_CASE("kill: of oneself it is held until the next await", "[job]") {
  std::string log;
  play([&]() -> Task<> {
    Job<> self;
    const auto body = [&]() -> Task<> {
      const Witness witness(log, "job");
      CHECK_FALSE(self.kill("me"));
      CHECK_FALSE(self.kill("again"));
      CHECK_FALSE(self.ended());
      log += "still ";
      const int value = co_await seven();
      CHECK(value == 7);
      log += "called ";
      co_await wait(Job<>());
      log += "never ";
    };
    self = spawn(body);
    co_await wait(self);
    CHECK(self.killed());
    CHECK(self.ending()->reason == "me");
    CHECK(self.ending()->killer == self.id());
  });
  CHECK(log == "+job still called -job ");
}

TEST_CASE("kill: a yield is an await too", "[job]") {
  std::string log;
  play([&]() -> Task<> {
    Job<> self;
    const auto body = [&]() -> Task<> {
      const Witness witness(log, "job");
      CHECK_FALSE(self.kill());
      co_await yield_now();
      log += "never ";
    };
    self = spawn(body);
    co_await wait(self);
    CHECK(self.killed());
  });
  CHECK(log == "+job -job ");
}

TEST_CASE("kill: a job that returns before it is carried out has returned",
          "[job]") {
  play([]() -> Task<> {
    Job<int> self;
    const auto body = [&]() -> Task<int> {
      CHECK_FALSE(self.kill("too late"));
      co_return 5;
    };
    self = spawn(body);
    co_await wait(self);
    CHECK_FALSE(self.killed());
    CHECK(self.ending() == nullptr);
    const int value = co_await join(self);
    CHECK(value == 5);
  });
}

TEST_CASE("kill: a job that throws before it is carried out has failed",
          "[job]") {
  play([]() -> Task<> {
    Job<int> self;
    const auto body = [&]() -> Task<int> {
      CHECK_FALSE(self.kill("too late"));
      throw std::runtime_error("instead");
      co_return 5;
    };
    self = spawn(body);
    co_await wait(self);
    CHECK_FALSE(self.killed());
    CHECK(text_of(self.error()) == "instead");
  });
}

TEST_CASE("kill: catch(...) cannot swallow it", "[job]") {
  std::string log;
  play([&]() -> Task<> {
    const auto body = [&]() -> Task<> {
      const Witness witness(log, "job");
      for (;;) {
        try {
          co_await forever();
        } catch (...) {
          log += "swallowed ";
        }
      }
    };
    const Job<> job = spawn(body);
    co_await yield_now();
    CHECK(job.kill());
  });
  CHECK(log == "+job -job ");
}

TEST_CASE("kill: a killed joiner is not resumed when its target ends",
          "[job]") {
  std::string log;
  play([&]() -> Task<> {
    const Job<int> target = spawn([]() -> Task<int> {
      co_await violet::sleep(1s);
      co_return 1;
    });
    const auto joiner = [&]() -> Task<> {
      const int value = co_await join(target);
      log += std::to_string(value);
    };
    const Job<> zombie = spawn(joiner);
    const Job<> other = spawn(joiner);
    co_await yield_now();
    CHECK(zombie.kill());
    co_await join(other);
    co_await violet::sleep(1s);
  });
  CHECK(log == "1");
}

TEST_CASE("kill: a joiner whose target has just ended is not resumed",
          "[job]") {
  std::string log;
  play([&]() -> Task<> {
    const Job<> target = spawn(forever);
    const auto joiner = [&]() -> Task<> {
      co_await wait(target);
      log += "never ";
    };
    const Job<> zombie = spawn(joiner);
    co_await yield_now();
    CHECK(target.kill());
    CHECK(zombie.kill());
    co_await violet::sleep(1s);
  });
  CHECK(log.empty());
}

TEST_CASE("kill: sleeping, joining, reading and locked jobs all end at once",
          "[job]") {
  const MaybeShortIo io;
  std::string log;
  play([&]() -> Task<> {
    const Pair pipe = make_pipe();
    const Job<> never = spawn(forever);
    const auto sleeping = [&]() -> Task<> {
      const Witness witness(log, "sleeping");
      co_await violet::sleep(1h);
    };
    const auto joining = [&]() -> Task<> {
      const Witness witness(log, "joining");
      co_await join(never);
    };
    const auto reading = [&]() -> Task<> {
      const Witness witness(log, "reading");
      char byte[1];
      const std::size_t count = co_await read(pipe[0].get(), byte);
      CHECK(count == 0);
    };
    const Job<> jobs[] = {spawn(sleeping), spawn(joining), spawn(reading)};
    co_await yield_now();
    log.clear();
    for (const Job<>& job : jobs) co_await kill(job);
    CHECK(log == "-sleeping -joining -reading ");
    CHECK(Slots::here().waiting() == 0);
    never.kill();
  });
}

TEST_CASE("kill: a destructor may kill another job", "[job]") {
  std::string log;
  play([&]() -> Task<> {
    const Job<> victim = spawn(three_deep, std::ref(log), 1);
    const auto killer = [&]() -> Task<> {
      const AtEnd kills([&] {
        CHECK(victim.kill("from a destructor"));
        log += "killed ";
      });
      co_await forever();
    };
    const Job<> job = spawn(killer);
    co_await yield_now();
    CHECK(job.kill());
    CHECK(victim.killed());
    CHECK(victim.ending()->killer == job.id());
  });
  CHECK(log == "+1 +2 +3 -3 -2 -1 killed ");
}

TEST_CASE("kill: a destructor that kills its own job changes nothing",
          "[job]") {
  std::string log;
  play([&]() -> Task<> {
    Job<> self;
    const auto body = [&]() -> Task<> {
      const Witness witness(log, "job");
      const AtEnd kills([&] {
        CHECK_FALSE(self.kill("again"));
        CHECK_FALSE(self.ended());
      });
      co_await forever();
    };
    self = spawn(body);
    co_await yield_now();
    CHECK(self.kill("first"));
    CHECK(self.ending()->reason == "first");
  });
  CHECK(log == "+job -job ");
}

TEST_CASE("kill: a destructor of a job that returns may kill its own job",
          "[job]") {
  play([]() -> Task<> {
    Job<int> self;
    const auto body = [&]() -> Task<int> {
      const AtEnd kills([&] { CHECK_FALSE(self.kill("too late")); });
      co_await yield_now();
      co_return 3;
    };
    self = spawn(body);
    const int value = co_await join(self);
    CHECK(value == 3);
    CHECK_FALSE(self.killed());
  });
}

TEST_CASE("kill: two jobs whose destructors kill each other both end",
          "[job]") {
  std::string log;
  play([&]() -> Task<> {
    Job<> a;
    Job<> b;
    const auto body = [&](const char* name, Job<>& other) -> Task<> {
      const AtEnd kills([&] {
        other.kill();
        log += name;
      });
      co_await forever();
    };
    a = spawn(body, "a", std::ref(b));
    b = spawn(body, "b", std::ref(a));
    co_await yield_now();
    CHECK(a.kill());
    CHECK(a.ended());
    CHECK(b.ended());
  });
  CHECK(log == "ba");
}

TEST_CASE("kill: a destructor may spawn during a kill", "[job]") {
  std::string log;
  play([&]() -> Task<> {
    const auto late = [&]() -> Task<> {
      log += "late ";
      co_return;
    };
    const auto body = [&]() -> Task<> {
      const AtEnd spawns([&] {
        spawn(late);
        log += "spawned ";
      });
      co_await forever();
    };
    const Job<> job = spawn(body);
    co_await yield_now();
    CHECK(job.kill());
    CHECK(log == "spawned ");
    co_await yield_now();
    CHECK(log == "spawned late ");
  });
}

TEST_CASE("kill: nothing is resumed by a kill or by a destructor", "[job]") {
  std::string log;
  play([&]() -> Task<> {
    const Job<> target = spawn(three_deep, std::ref(log), 1);
    const auto joiner = [&]() -> Task<> {
      co_await wait(target);
      log += "joiner ";
    };
    spawn(joiner);
    co_await yield_now();
    CHECK(target.kill());
    log += "killer ";
    co_await yield_now();
  });
  CHECK(log == "+1 +2 +3 -3 -2 -1 killer joiner ");
}

TEST_CASE("kill: of an ancestor from below it is held", "[job]") {
  std::string log;
  play([&]() -> Task<> {
    Job<> ancestor;
    const auto child = [&]() -> Task<> {
      const Witness witness(log, "child");
      co_await yield_now();
      CHECK_FALSE(ancestor.kill("from below"));
      CHECK_FALSE(ancestor.ended());
      log += "held ";
      co_await yield_now();
      log += "never ";
    };
    const auto body = [&]() -> Task<> {
      const Witness witness(log, "ancestor");
      Nursery nursery;
      nursery.spawn(child);
      co_await forever();
    };
    ancestor = spawn(body);
    co_await wait(ancestor);
    CHECK(ancestor.killed());
    CHECK(ancestor.ending()->reason == "from below");
  });
  CHECK(log == "+ancestor +child held -child -ancestor ");
}

TEST_CASE("kill: of a far ancestor it is held, and takes all with it",
          "[job]") {
  std::string log;
  play([&]() -> Task<> {
    Job<> ancestor;
    const auto lowest = [&]() -> Task<> {
      const Witness witness(log, "lowest");
      CHECK_FALSE(ancestor.kill());
      co_await wait(Job<>());
      log += "never ";
    };
    const auto middle = [&]() -> Task<> {
      const Witness witness(log, "middle");
      Nursery nursery;
      nursery.spawn(lowest);
      co_await forever();
    };
    const auto body = [&]() -> Task<> {
      const Witness witness(log, "ancestor");
      Nursery nursery;
      nursery.spawn(middle);
      co_await forever();
    };
    ancestor = spawn(body);
    co_await wait(ancestor);
  });
  CHECK(log == "+ancestor +middle +lowest -lowest -middle -ancestor ");
}

TEST_CASE("kill: of an ancestor by a child that then returns is carried out",
          "[job]") {
  std::string log;
  play([&]() -> Task<> {
    Job<> ancestor;
    const auto child = [&]() -> Task<> {
      const Witness witness(log, "child");
      CHECK_FALSE(ancestor.kill());
      co_return;
    };
    const auto body = [&]() -> Task<> {
      const Witness witness(log, "ancestor");
      Nursery nursery;
      nursery.spawn(child);
      co_await forever();
      log += "never ";
    };
    ancestor = spawn(body);
    co_await wait(ancestor);
    CHECK(ancestor.killed());
  });
  CHECK(log == "+ancestor +child -child -ancestor ");
}

TEST_CASE("kill: of an ancestor from a destructor below is carried out",
          "[job]") {
  std::string log;
  play([&]() -> Task<> {
    Job<> ancestor;
    const auto child = [&]() -> Task<> {
      const AtEnd kills([&] {
        CHECK_FALSE(ancestor.kill("from a destructor below"));
        log += "asked ";
      });
      co_await forever();
    };
    Job<> lower;
    const auto body = [&]() -> Task<> {
      const Witness witness(log, "ancestor");
      Nursery nursery;
      lower = nursery.spawn(child);
      co_await forever();
    };
    ancestor = spawn(body);
    co_await yield_now();
    co_await yield_now();
    CHECK(lower.kill());
    CHECK(ancestor.killed());
    lower = Job<>();
  });
  CHECK(log == "+ancestor asked -ancestor ");
}

TEST_CASE("kill: held ones on a child and, by its end, on its owner", "[job]") {
  std::string log;
  const auto scenario = [&log]() -> Task<> {
    // Nobody else holds a handle to the owner: it is freed as it ends.
    Job<> owner;
    Job<> self;
    const auto child = [&]() -> Task<> {
      const AtEnd kills([&] {
        owner.kill();
        owner = Job<>();
      });
      self.kill();
      co_await forever();
    };
    const auto body = [&]() -> Task<> {
      const Witness witness(log, "owner");
      Nursery nursery;
      self = nursery.spawn(child);
      co_await forever();
    };
    owner = spawn(body);
    co_await violet::sleep(1s);
    CHECK(self.killed());
  };
  const auto end = in_child([&] {
    play(scenario);
    if (log != "+owner -owner ") std::abort();
  });
  CHECK(end.signal == 0);
  CHECK(end.status == 0);
  CHECK(end.errors == "");
}

TEST_CASE("kill: a held one acts though events complete at once", "[job]") {
  int passes = 0;
  play([&]() -> Task<> {
    Job<> self;
    const auto body = [&]() -> Task<> {
      CHECK_FALSE(self.kill());
      for (;;) {
        co_await wait(Job<>());
        ++passes;
      }
    };
    self = spawn(body);
    co_await wait(self);
  });
  CHECK(passes == 0);
}

TEST_CASE("kill: in the turn in which its event completed", "[job]") {
  std::string log;
  play([&]() -> Task<> {
    const auto body = [&]() -> Task<> {
      const Witness witness(log, "job");
      co_await violet::sleep(1s);
      log += "never ";
    };
    Job<> sleeper;
    const auto killer = [&]() -> Task<> {
      co_await violet::sleep(1s);
      CHECK(sleeper.kill());
    };
    spawn(killer);
    sleeper = spawn(body);
    co_await violet::sleep(2s);
    CHECK(sleeper.killed());
  });
  CHECK(log == "+job -job ");
}

TEST_CASE("kill: a group kills its newest child first", "[job]") {
  std::string log;
  play([&]() -> Task<> {
    const auto child = [&](const char* name) -> Task<> {
      const Witness witness(log, name);
      co_await forever();
    };
    {
      Nursery nursery;
      for (const char* name : {"a", "b", "c"}) nursery.spawn(child, name);
      co_await yield_now();
      CHECK(nursery.size() == 3);
      log.clear();
    }
    CHECK(log == "-c -b -a ");
  });
}

TEST_CASE("kill: a child of a group may kill an older sibling as it dies",
          "[job]") {
  std::string log;
  const auto scenario = [&log]() -> Task<> {
    Nursery nursery;
    Job<> oldest = nursery.spawn(forever);
    Job<> older = nursery.spawn(three_deep, std::ref(log), 1);
    const auto child = [&]() -> Task<> {
      const AtEnd kills([&] {
        older.kill();
        older = Job<>();  // now nothing is left of it
        oldest.kill();
        oldest = Job<>();
      });
      co_await forever();
    };
    nursery.spawn(child);
    co_await yield_now();
    CHECK(nursery.kill_all("all"));
    CHECK(nursery.empty());
    CHECK(nursery.left_count == 3);
  };
  const auto end = in_child([&] {
    play(scenario);
    if (log != "+1 +2 +3 -3 -2 -1 ") std::abort();
  });
  CHECK(end.signal == 0);
  CHECK(end.status == 0);
  CHECK(end.errors == "");
}

TEST_CASE("kill: a child that a destructor spawns dies with its group",
          "[job]") {
  bool ran = false;
  const auto scenario = [&ran]() -> Task<> {
    const auto late = [&]() -> Task<> {
      ran = true;
      co_return;
    };
    const auto child = [&]() -> Task<> {
      const AtEnd spawns([&] { spawn(late); });
      co_await forever();
    };
    {
      Nursery nursery;
      nursery.spawn(child);
      co_await yield_now();
    }
    co_await yield_now();
  };
  const auto end = in_child([&] {
    play(scenario);
    if (ran) std::abort();
  });
  CHECK(end.signal == 0);
  CHECK(end.status == 0);
  CHECK(end.errors == "");
}

TEST_CASE("kill: a group is not destroyed from within one of its own jobs",
          "[job]") {
  const auto end = in_child([] {
    const auto root = []() -> Task<> {
      const Job<> never = spawn(forever);
      auto nursery = std::make_unique<Nursery>();
      const auto child = [&]() -> Task<> {
        nursery.reset();
        co_return;
      };
      nursery->spawn(child);
      co_await join(never);
    };
    run(root());
  });
  CHECK(end.signal == SIGABRT);
  CHECK(contains(end.errors, "from within one of its own jobs"));
}

TEST_CASE("kill: at every wait of a program nothing is left", "[job]") {
  const MaybeShortIo io;
  // With a budget of 0 every event is a wait, and the killer has a step
  // between any two steps of the program. It lets time pass as it counts.
  // Returns: false if the program ended before `steps`.
  const auto killed_after = [](int steps) {
    const Footprint before;
    bool was_alive = false;
    {
      World world(0);
      const Pair pipe = make_pipe();
      const auto writer = [&]() -> Task<> {
        co_await violet::sleep(6ms);
        const std::size_t count = co_await write(pipe[1].get(), "hello");
        CHECK(count == 5);
      };
      const auto helper = [](std::string text) -> Task<std::string> {
        co_await yield_now();
        co_await violet::sleep(3ms);
        co_return text + "!";
      };
      const auto body = [&]() -> Task<> {
        Nursery nursery;
        const Job<> side = nursery.spawn(writer);
        const bool slept = co_await within(2ms, violet::sleep(5ms));
        CHECK_FALSE(slept);
        char buffer[5];
        std::size_t got = 0;
        while (got < sizeof buffer) {
          const std::span<char> rest(buffer + got, sizeof buffer - got);
          const auto count = co_await within(1s, read(pipe[0].get(), rest));
          CHECK(count);
          got += count.value_or(0);
        }
        co_await join(side);
        const std::string said = co_await helper(std::string(50, 'h'));
        CHECK(said.size() == 51);
        Job<std::string> other = spawn(helper, std::string(50, 'x'));
        const bool more = co_await within(1ms, readable(pipe[0].get()));
        CHECK_FALSE(more);
        co_await writable(pipe[1].get());
        const std::string joined = co_await join(std::move(other));
        CHECK(joined.size() == 51);
        const Job<> doomed = nursery.spawn(forever);
        co_await kill(doomed);
        co_await wait(doomed);
      };
      const auto root = [&]() -> Task<> {
        const Job<> job = spawn(body);
        for (int i = 0; i < steps && !job.ended(); ++i) {
          world.time.advance(10us);
          co_await yield_now();
        }
        was_alive = !job.ended();
        CHECK(job.kill("here"));
        CHECK(job.error() == nullptr);
      };
      world.run(root());
      CHECK_FALSE(world.time.hung);
    }
    CHECK(Footprint() == before);
    return was_alive;
  };
  int steps = 0;
  while (steps < 5000 && killed_after(steps)) ++steps;
  CHECK(steps > 20);
  CHECK(steps < 5000);
}

TEST_CASE("spawn: where there is no loop any more it is refused", "[job]") {
  // A callback that was kept for longer than the loop.
  std::function<void()> late;
  const auto root = [&]() -> Task<> {
    late = [] { spawn(nothing); };
    late();
    co_return;
  };
  play(root);
  CHECK(thrown<Misuse>(late) ==
        "violet: no loop runs on this thread; call run(task), or loop.spawn "
        "from outside");
}
