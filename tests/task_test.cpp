// task_test.cpp - calls, returns and exceptions between coroutines.
// SPDX-License-Identifier: MIT
#include "catch.hpp"

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "../runtime/events.hpp"
#include "script.hpp"

namespace {

using namespace script;

// A depth at which any native recursion overflows an 8 MiB stack. The depth
// stays under AddressSanitizer; only the number of repetitions goes down.
constexpr int kDeep = 100'000;
constexpr int kCalls = support::kSanitized ? 1'000'000 : 10'000'000;

Task<int> seven() {
  co_return 7;
}

Task<int> depth_of(int levels) {
  if (levels == 0) co_return 0;
  const int below = co_await depth_of(levels - 1);
  co_return below + 1;
}

Task<> sink(int levels, int& destroyed) {
  const AtEnd count([&] { ++destroyed; });
  if (levels == 0) {
    co_await forever();
    co_return;
  }
  co_await sink(levels - 1, destroyed);
}

Task<int> throwing_at(int levels) {
  if (levels == 0) throw std::out_of_range("the bottom");
  const int below = co_await throwing_at(levels - 1);
  co_return below;
}

class Unique {
 public:
  explicit Unique(int value) : value_(std::make_unique<int>(value)) {}
  int value() const { return *value_; }

 private:
  std::unique_ptr<int> value_;
};

Task<Unique> make_unique_value(int value) {
  co_return Unique(value);
}

}  // namespace

TEST_CASE("task: a call yields what the child returns", "[task]") {
  const auto root = []() -> Task<int> {
    const int a = co_await seven();
    const int b = co_await seven();
    co_return a + b;
  };
  CHECK(run(root()) == 14);
}

TEST_CASE("task: nothing of the body runs before the task is awaited",
          "[task]") {
  bool ran = false;
  const auto child = [&]() -> Task<> {
    ran = true;
    co_return;
  };
  const auto root = [&]() -> Task<> {
    Task<> task = child();
    CHECK_FALSE(ran);
    co_await std::move(task);
    CHECK(ran);
  };
  run(root());
  CHECK(ran);
}

TEST_CASE("task: one that is dropped unawaited destroys its arguments",
          "[task]") {
  const Footprint before;
  std::string log;
  {
    const auto body = [](Witness) -> Task<> { co_return; };
    Witness witness(log, "argument");
    {
      const Task<> task = body(std::move(witness));
    }
    CHECK(log == "+argument -argument ");
  }
  CHECK(log == "+argument -argument ");
  CHECK(Footprint() == before);
}

TEST_CASE("task: move assignment destroys the frame that was there", "[task]") {
  const Footprint before;
  std::string log;
  const auto body = [](Witness) -> Task<> { co_return; };
  {
    Task<> task = body(Witness(log, "a"));
    task = body(Witness(log, "b"));
    CHECK(log == "+a +b -a ");
    Task<>& same = task;
    task = std::move(same);
    CHECK(log == "+a +b -a ");
  }
  CHECK(log == "+a +b -a -b ");
  CHECK(Footprint() == before);
}

TEST_CASE("task: a move-only value arrives", "[task]") {
  const auto root = []() -> Task<int> {
    const Unique value = co_await make_unique_value(42);
    co_return value.value();
  };
  CHECK(run(root()) == 42);
}

TEST_CASE("task: a reference arrives as the same object", "[task]") {
  int target = 1;
  const auto child = [](int& x) -> Task<int&> { co_return x; };
  const auto root = [&]() -> Task<> {
    int& same = co_await child(target);
    same = 2;
    CHECK(&same == &target);
  };
  run(root());
  CHECK(target == 2);
}

TEST_CASE("task: the root may return a reference or a move-only value",
          "[task]") {
  int target = 5;
  const auto reference = [&]() -> Task<int&> { co_return target; };
  CHECK(&run(reference()) == &target);
  CHECK(run(make_unique_value(9)).value() == 9);
}

TEST_CASE("task: an exception crosses three levels with its type intact",
          "[task]") {
  std::string caught;
  const auto root = [&]() -> Task<> {
    try {
      const int value = co_await throwing_at(3);
      CHECK(value == -1);
    } catch (const std::out_of_range& e) {
      caught = e.what();
    }
    const int after = co_await seven();
    CHECK(after == 7);
  };
  run(root());
  CHECK(caught == "the bottom");
}

TEST_CASE("task: an exception that is caught midway goes no further",
          "[task]") {
  const auto middle = []() -> Task<int> {
    try {
      const int value = co_await throwing_at(2);
      co_return value;
    } catch (const std::out_of_range&) {
    }
    co_return 11;
  };
  const auto root = [&]() -> Task<int> {
    const int value = co_await middle();
    co_return value;
  };
  CHECK(run(root()) == 11);
}

TEST_CASE("task: a child's frame is gone before its caller goes on", "[task]") {
  std::string log;
  const auto child = [&]() -> Task<int> {
    const Witness local(log, "local");
    co_return 1;
  };
  const auto root = [&]() -> Task<> {
    const int value = co_await child();
    log += "after ";
    CHECK(value == 1);
  };
  run(root());
  CHECK(log == "+local -local after ");
}

TEST_CASE("task: a child that throws is gone before its caller goes on",
          "[task]") {
  std::string log;
  const auto child = [&]() -> Task<> {
    const Witness local(log, "local");
    throw std::runtime_error("x");
    co_return;
  };
  const auto root = [&]() -> Task<> {
    try {
      co_await child();
    } catch (const std::runtime_error&) {
      log += "caught ";
    }
    const int value = co_await seven();
    CHECK(value == 7);
  };
  run(root());
  CHECK(log == "+local -local caught ");
}

TEST_CASE("task: a temporary argument lives as long as the call", "[task]") {
  const auto child = [](const std::string& text) -> Task<std::size_t> {
    co_await yield_now();
    co_return text.size();
  };
  const auto root = [&]() -> Task<std::size_t> {
    const std::size_t size = co_await child(std::string(100, 'x'));
    co_return size;
  };
  CHECK(run(root()) == 100);
}

TEST_CASE("task: calls go on in one step, without a turn for others",
          "[task]") {
  std::string log;
  const auto other = [&]() -> Task<> {
    log += "other ";
    co_return;
  };
  const auto root = [&]() -> Task<> {
    spawn(other);
    for (int i = 0; i < 1000; ++i) {
      const int value = co_await seven();
      CHECK(value == 7);
    }
    log += "root ";
  };
  run(root());
  CHECK(log == "root other ");
}

TEST_CASE("task: millions of calls in a loop use no stack and no memory",
          "[task]") {
  const Footprint before;
  const auto root = []() -> Task<long> {
    long sum = 0;
    for (int i = 0; i < kCalls; ++i) {
      const int value = co_await seven();
      sum += value;
    }
    co_return sum;
  };
  CHECK(run(root()) == 7L * kCalls);
  CHECK(Footprint() == before);
}

TEST_CASE("task: a recursion 100 000 deep returns", "[task]") {
  const Footprint before;
  CHECK(run(depth_of(kDeep)) == kDeep);
  CHECK(Footprint() == before);
}

TEST_CASE("task: an exception crosses 100 000 levels", "[task]") {
  const Footprint before;
  CHECK(thrown<std::out_of_range>([] { run(throwing_at(kDeep)); }) ==
        "the bottom");
  CHECK(Footprint() == before);
}

TEST_CASE("task: a recursion 100 000 deep is killed", "[task]") {
  const Footprint before;
  int destroyed = 0;
  {
    World world;
    const auto root = [&]() -> Task<> {
      Job<> job = spawn(sink, kDeep, std::ref(destroyed));
      co_await yield_now();
      CHECK(destroyed == 0);
      CHECK(job.kill());
      CHECK(destroyed == kDeep + 1);
    };
    world.run(root());
  }
  CHECK(Footprint() == before);
}

TEST_CASE("task: a recursion 100 000 deep dies with its loop", "[task]") {
  const Footprint before;
  int destroyed = 0;
  {
    World world;
    world.loop.spawn(sink, kDeep, std::ref(destroyed));
    world.loop.run_once();
    CHECK(destroyed == 0);
  }
  CHECK(destroyed == kDeep + 1);
  CHECK(Footprint() == before);
}

TEST_CASE("task: the locals of one frame die in C++ order", "[task]") {
  std::string log;
  const auto body = [&]() -> Task<> {
    const Witness a(log, "a");
    const Witness b(log, "b");
    co_await forever();
  };
  {
    World world;
    world.loop.spawn(body);
    world.loop.run_once();
  }
  CHECK(log == "+a +b -b -a ");
}

TEST_CASE("task: waits in a loop and in nested blocks resume in place",
          "[task]") {
  std::string log;
  const auto root = [&]() -> Task<> {
    for (int i = 0; i < 3; ++i) {
      const Witness witness(log, std::to_string(i));
      co_await yield_now();
    }
  };
  run(root());
  CHECK(log == "+0 -0 +1 -1 +2 -2 ");
}
