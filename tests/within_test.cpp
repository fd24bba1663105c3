// within_test.cpp - limits of time around events.
// SPDX-License-Identifier: MIT
#include "catch.hpp"

#include <unistd.h>

#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "../runtime/channel.hpp"
#include "../runtime/combine.hpp"
#include "../runtime/events.hpp"
#include "../runtime/group.hpp"
#include "../runtime/shield.hpp"
#include "../runtime/sync.hpp"
#include "../runtime/within.hpp"
#include "script.hpp"

namespace {

using namespace script;

Task<int> value_after(Duration duration, int value) {
  co_await violet::sleep(duration);
  co_return value;
}

Task<> long_nap(Duration duration) {
  co_await violet::sleep(duration);
}

/// Lets others go first, again and again or so many times. Never completes.
class Behind final : public Event {
 public:
  explicit Behind(int times = 1 << 30) noexcept : times_(times) {}
  Behind(Behind&& other) noexcept
      : Event(std::move(other)), times_(other.times_) {}
  bool attempt() noexcept override {
    if (times_-- > 0) go_behind();
    return false;
  }
  void undo() noexcept override {}
  void describe(Description& out) const override { out.text = "behind"; }
  void result() const noexcept {}

 private:
  int times_;
};

}  // namespace

TEST_CASE("within: an item that is taken as the time is up is not late",
          "[within]") {
  for (int turns = 0; turns < 8; ++turns) {
    CAPTURE(turns);
    play([turns]() -> Task<> {
      Channel<int> channel(0);
      std::optional<int> got;
      const auto takes = [&]() -> Task<> {
        for (int i = 0; i < turns; ++i) co_await yield_now();
        got = channel.try_recv();
      };
      const Job<> job = spawn(takes);
      const auto sent =
          co_await within(0s, violet::any(channel.send(7), Behind()));
      co_await join(job);
      CHECK(sent.has_value() == got.has_value());
    });
  }
}

TEST_CASE("within: a cycle of joins that a limit ends is none", "[within]") {
  const Duration elapsed = play([]() -> Task<> {
    Job<> first;
    Job<> second;
    bool ended = true;
    const auto limited = [&]() -> Task<> {
      ended = co_await within(1h, join(second));
    };
    const auto joins = [&]() -> Task<> { co_await join(first); };
    first = spawn(limited);
    second = spawn(joins);
    co_await join(second);
    CHECK_FALSE(ended);
  });
  CHECK(elapsed == 1h);
}

TEST_CASE("within: a deadline that goes leaves its last moment behind",
          "[within]") {
  const Duration elapsed = play([]() -> Task<> {
    std::optional<Deadline> deadline;
    deadline.emplace(10ms);
    const auto moves = [&]() -> Task<> {
      co_await violet::sleep(10ms);  // it has fired by then
      deadline->move(1h);
      deadline.reset();
    };
    const Job<> job = spawn(moves);
    co_await yield_now();  // so that it is the first of the two
    const bool slept = co_await within(*deadline, violet::sleep(2h));
    CHECK_FALSE(slept);
  });
  CHECK(elapsed == 1h + 10ms);
}

TEST_CASE("within: a limit of zero sees what is there already", "[within]") {
  play([]() -> Task<> {
    const support::Pair pair = support::make_socketpair();
    char byte = 0;
    const std::span<char> buffer(&byte, 1);
    const Descriptor near = adopt(Fd(::dup(pair[0].get())));
    support::put(pair[1].get(), "x");
    const auto first = co_await within(0s, read(near, buffer));
    CHECK(first == std::optional<std::size_t>(1));
    const auto none = co_await within(0s, read(near, buffer));
    CHECK(none == std::nullopt);
    support::put(pair[1].get(), "y");  // not announced yet
    const auto second = co_await within(0s, read(near, buffer));
    CHECK(second == std::optional<std::size_t>(1));
  });
}

TEST_CASE("within: it yields an optional, and bool for what yields nothing",
          "[within]") {
  Job<int> job;
  using Joined = decltype(within(1s, join(job)).result());
  using Slept = decltype(within(1s, violet::sleep(1s)).result());
  STATIC_REQUIRE(std::is_same_v<Joined, std::optional<int>>);
  STATIC_REQUIRE(std::is_same_v<Slept, bool>);
}

TEST_CASE("within: an expired limit ends the wait and nothing else",
          "[within]") {
  const Duration elapsed = play([]() -> Task<> {
    const bool done = co_await within(1s, violet::sleep(5s));
    CHECK_FALSE(done);
    co_await violet::sleep(1s);
  });
  CHECK(elapsed == 2s);
}

TEST_CASE("within: a limit longer than the work leaves no timer", "[within]") {
  const Duration elapsed = play([]() -> Task<> {
    const bool done = co_await within(1h, violet::sleep(1s));
    CHECK(done);
    CHECK(Loop::current().timers().empty());
  });
  CHECK(elapsed == 1s);
}

TEST_CASE("within: what is possible at once needs no timer", "[within]") {
  play([]() -> Task<> {
    Job<int> job = spawn(value_after, 0s, 4);
    co_await wait(job);
    const std::optional<int> value = co_await within(1h, join(job));
    CHECK(value == 4);
    CHECK(Loop::current().timers().empty());
  });
}

TEST_CASE("within: a limit of zero takes what is possible at once",
          "[within]") {
  const MaybeShortIo io;
  const Duration elapsed = play([]() -> Task<> {
    const Pair pipe = make_pipe();
    char buffer[8];
    const auto none = co_await within(0s, read(pipe[0].get(), buffer));
    CHECK_FALSE(none);
    support::put(pipe[1].get(), "x");
    const auto one = co_await within(0s, read(pipe[0].get(), buffer));
    CHECK(one == 1u);
    const bool slept = co_await within(0s, violet::sleep(1s));
    CHECK_FALSE(slept);
    const bool earlier = co_await within(-1h, violet::sleep(1s));
    CHECK_FALSE(earlier);
  });
  CHECK(elapsed == 0s);
}

TEST_CASE("within: a limit of zero around a mere yield", "[within]") {
  const auto end = in_child([] {
    ::alarm(5);
    int steps = 0;
    play([&]() -> Task<> {
      const bool done = co_await within(0s, violet::sleep(0s));
      (void)done;
      for (int i = 0; i < 10; ++i) {
        ++steps;
        co_await yield_now();
      }
    });
    if (steps != 10) std::abort();
  });
  CHECK(end.signal == 0);
  CHECK(end.status == 0);
  CHECK(end.errors == "");
}

TEST_CASE("within: a limit that expires while a write gives others a turn",
          "[within]") {
  // The writer has used up its budget in the very step in which its limit
  // has passed: it stands in the ready queue and is over all the same.
  const auto end = in_child([] {
    ::alarm(5);
    World world(0);
    support::ShortCalls calls;
    const support::ScopedCalls installed(calls);
    const Pair pipe = make_pipe();
    bool wrote = true;
    const auto other = [&]() -> Task<> {
      co_await yield_now();
      world.time.advance(2s);
    };
    const auto root = [&]() -> Task<> {
      spawn(other);
      const std::string text(1000, 'w');
      const auto count = co_await within(1s, write(pipe[1].get(), text));
      wrote = count.has_value();
      for (int i = 0; i < 10; ++i) co_await yield_now();
      co_await violet::sleep(1s);
    };
    world.run(root());
    if (wrote) std::abort();
  });
  CHECK(end.signal == 0);
  CHECK(end.status == 0);
  CHECK(end.errors == "");
}

TEST_CASE("within: around a join, the job goes on when time is up",
          "[within]") {
  const Duration elapsed = play([]() -> Task<> {
    Job<int> job = spawn(value_after, 3s, 5);
    const std::optional<int> early = co_await within(1s, join(job));
    CHECK_FALSE(early);
    CHECK_FALSE(job.ended());
    const std::optional<int> late = co_await within(1h, join(job));
    CHECK(late == 5);
  });
  CHECK(elapsed == 3s);
}

TEST_CASE("within: around a read, no byte is lost when time is up",
          "[within]") {
  const MaybeShortIo io;
  play([]() -> Task<> {
    const Pair pipe = make_pipe();
    const auto writer = [&]() -> Task<> {
      co_await violet::sleep(2s);
      const std::size_t count = co_await write(pipe[1].get(), "late");
      CHECK(count == 4);
    };
    spawn(writer);
    char buffer[8];
    const auto early = co_await within(1s, read(pipe[0].get(), buffer));
    CHECK_FALSE(early);
    CHECK(Slots::here().waiting() == 0);
    std::string got;
    while (got.size() < 4) {
      const auto late = co_await within(1h, read(pipe[0].get(), buffer));
      REQUIRE(late);
      got.append(buffer, *late);
    }
    CHECK(got == "late");
  });
}

TEST_CASE("within: what completed by then wins over the expired limit",
          "[within]") {
  const MaybeShortIo io;
  World world;
  const auto root = [&]() -> Task<> {
    const Pair pipe = make_pipe();
    const auto writer = [&]() -> Task<> {
      support::put(pipe[1].get(), "x");
      world.time.advance(2s);
      co_return;
    };
    spawn(writer);
    char buffer[8];
    const auto count = co_await within(1s, read(pipe[0].get(), buffer));
    CHECK(count == 1u);
  };
  world.run(root());
  CHECK(world.elapsed() == 2s);
}

TEST_CASE("within: a join that completes in the same turn wins", "[within]") {
  const Duration elapsed = play([]() -> Task<> {
    Job<int> job = spawn(value_after, 1s, 6);
    co_await yield_now();
    const std::optional<int> value = co_await within(1s, join(job));
    CHECK(value == 6);
  });
  CHECK(elapsed == 1s);
}

TEST_CASE("within: a sleep as long as its limit completes", "[within]") {
  play([]() -> Task<> {
    const bool done = co_await within(1s, violet::sleep(1s));
    CHECK(done);
  });
}

TEST_CASE("within: of nested limits the inner one expires first", "[within]") {
  const Duration elapsed = play([]() -> Task<> {
    const std::optional<bool> done =
        co_await within(2s, within(1s, violet::sleep(5s)));
    CHECK(done == false);
  });
  CHECK(elapsed == 1s);
}

TEST_CASE("within: of nested limits the outer one expires first", "[within]") {
  const Duration elapsed = play([]() -> Task<> {
    const std::optional<bool> done =
        co_await within(1s, within(2s, violet::sleep(5s)));
    CHECK_FALSE(done);
  });
  CHECK(elapsed == 1s);
}

TEST_CASE("within: of nested limits neither expires", "[within]") {
  const Duration elapsed = play([]() -> Task<> {
    const std::optional<bool> done =
        co_await within(2s, within(3s, violet::sleep(1s)));
    CHECK(done == true);
  });
  CHECK(elapsed == 1s);
}

TEST_CASE("within: an error passes through", "[within]") {
  play([]() -> Task<> {
    const auto failing = []() -> Task<int> {
      co_await violet::sleep(1s);
      throw std::out_of_range("through");
      co_return 1;
    };
    Job<int> job = spawn(failing);
    std::string text;
    try {
      const std::optional<int> value = co_await within(1h, join(job));
      CHECK_FALSE(value);
    } catch (const std::out_of_range& e) {
      text = e.what();
    }
    CHECK(text == "through");
    CHECK(Loop::current().timers().empty());
  });
}

TEST_CASE("within: the error_code is untouched when the limit expires",
          "[within]") {
  const MaybeShortIo io;
  play([]() -> Task<> {
    const Pair pipe = make_pipe();
    char buffer[8];
    const std::error_code before = std::make_error_code(std::errc::io_error);
    std::error_code code = before;
    const auto none = co_await within(1s, read(pipe[0].get(), buffer, code));
    CHECK_FALSE(none);
    CHECK(code == before);
    support::put(pipe[1].get(), "x");
    const auto one = co_await within(1s, read(pipe[0].get(), buffer, code));
    CHECK(one == 1u);
    CHECK_FALSE(code);
  });
}

TEST_CASE("within: a kill undoes both the event and its timer", "[within]") {
  play([]() -> Task<> {
    const Pair pipe = make_pipe();
    const auto body = [&]() -> Task<> {
      const auto done =
          co_await within(1h, within(2h, readable(pipe[0].get())));
      CHECK_FALSE(done);
    };
    const Job<> job = spawn(body);
    co_await yield_now();
    CHECK(Loop::current().timers().size() == 2);
    CHECK(Slots::here().waiting() == 1);
    CHECK(job.kill());
    CHECK(Loop::current().timers().empty());
    CHECK(Slots::here().waiting() == 0);
  });
}

TEST_CASE("within: with a budget of 0 it is the same", "[within]") {
  play(
      []() -> Task<> {
        const bool done = co_await within(1h, violet::sleep(1s));
        CHECK(done);
        const bool late = co_await within(1s, violet::sleep(1h));
        CHECK_FALSE(late);
        const Job<> job = spawn([]() -> Task<> {
          const bool never = co_await within(1s, violet::sleep(1h));
          CHECK_FALSE(never);
        });
        co_await yield_now();
        CHECK(job.kill());
      },
      0);
}

TEST_CASE("within: a limit of a hundred years does not overflow", "[within]") {
  const Duration elapsed = play([]() -> Task<> {
    const bool done = co_await within(24h * 365 * 100, violet::sleep(1s));
    CHECK(done);
    const bool again = co_await within(Duration::max(), violet::sleep(1s));
    CHECK(again);
  });
  CHECK(elapsed == 2s);
}

// ---------------------------------------------------------- around a task

TEST_CASE("within: a task that ends in time yields its value", "[within]") {
  const Duration elapsed = play([]() -> Task<> {
    const auto value = co_await within(5s, value_after(1s, 7));
    CHECK(value == std::optional<int>(7));
    const bool done = co_await within(5s, long_nap(1s));
    CHECK(done);
  });
  CHECK(elapsed == 2s);
}

TEST_CASE("within: a task that takes too long is destroyed, leaf first",
          "[within]") {
  std::string log;
  const Duration elapsed = play([&]() -> Task<> {
    const auto leaf = [&]() -> Task<> {
      const Witness here(log, "leaf");
      co_await violet::sleep(9s);
    };
    const auto middle = [&]() -> Task<> {
      const Witness here(log, "middle");
      co_await leaf();
    };
    const bool done = co_await within(1s, middle());
    CHECK_FALSE(done);
    log += "| ";
    co_await violet::sleep(1s);
  });
  CHECK(elapsed == 2s);
  CHECK(log == "+middle +leaf -leaf -middle | ");
}

TEST_CASE("within: what a task throws is thrown here", "[within]") {
  play([]() -> Task<> {
    const auto fails = []() -> Task<int> {
      co_await violet::sleep(1s);
      throw std::runtime_error("the task");
    };
    std::string caught;
    try {
      (void)co_await within(5s, fails());
    } catch (const std::runtime_error& e) {
      caught = e.what();
    }
    CHECK(caught == "the task");
  });
}

TEST_CASE("within: of nested limits the one that has passed unwinds to itself",
          "[within]") {
  std::string log;
  const auto inner = [&](Duration limit) -> Task<> {
    const bool done = co_await within(limit, long_nap(9s));
    log += done ? "inner done " : "inner late ";
    co_await violet::sleep(1s);
    log += "inner ends ";
  };
  play([&]() -> Task<> {
    log += co_await within(5s, inner(1s)) ? "outer done " : "outer late ";
    log += co_await within(1s, inner(5s)) ? "outer done " : "outer late ";
  });
  CHECK(log == "inner late inner ends outer done outer late ");
}

TEST_CASE("within: a limit of zero ends a task at its first wait", "[within]") {
  std::string log;
  const Duration elapsed = play([&]() -> Task<> {
    const auto body = [&]() -> Task<> {
      log += "begins ";
      co_await violet::sleep(1s);
      log += "goes on ";
    };
    const bool done = co_await within(0s, body());
    CHECK_FALSE(done);
    const auto short_one = [&]() -> Task<> {
      log += "ends";
      co_return;
    };
    const auto got1 = co_await within(0s, short_one());
    CHECK(got1);
  });
  CHECK(log == "begins ends");
  CHECK(elapsed == 0s);
}

TEST_CASE("within: what a limited task spawns belongs to its caller's group",
          "[within]") {
  int ended = 0;
  const auto leaf = [&]() -> Task<> {
    co_await violet::sleep(3s);
    ++ended;
  };
  const auto body = [&]() -> Task<> {
    spawn(leaf);
    co_await violet::sleep(9s);
  };
  const Duration elapsed = play([&]() -> Task<> {
    Nursery nursery;
    const auto child = [&]() -> Task<> {
      const auto got2 = co_await within(1s, body());
      CHECK_FALSE(got2);
    };
    co_await join(nursery.spawn(child));
    CHECK(ended == 0);
    CHECK(nursery.size() == 1);
    co_await violet::sleep(3s);
    CHECK(ended == 1);
  });
  CHECK(elapsed == 4s);
}

TEST_CASE("within: killing the caller destroys the task at once", "[within]") {
  std::string log;
  play([&]() -> Task<> {
    const auto body = [&]() -> Task<> {
      const Witness here(log, "body");
      co_await violet::sleep(9s);
    };
    const auto caller = [&]() -> Task<> {
      const Witness here(log, "caller");
      (void)co_await within(5s, body());
    };
    const Job<> job = spawn(caller);
    co_await violet::sleep(1s);
    CHECK(job.kill());
  });
  CHECK(log == "+caller +body -body -caller ");
}

TEST_CASE("within: a part that kills its whole job ends at its next wait",
          "[within]") {
  std::string log;
  play([&]() -> Task<> {
    Job<> self;
    const auto body = [&]() -> Task<> {
      const Witness here(log, "body");
      CHECK_FALSE(self.kill());
      log += "held ";
      co_await violet::sleep(1s);
      log += "never ";
    };
    const auto caller = [&]() -> Task<> {
      (void)co_await within(5s, body());
      log += "never ";
    };
    self = spawn(caller);
    co_await wait(self);
    CHECK(self.killed());
  });
  CHECK(log == "+body held -body ");
}

TEST_CASE("within: a shield inside outlasts the limit", "[within]") {
  std::string log;
  const Duration elapsed = play([&]() -> Task<> {
    const auto body = [&]() -> Task<> {
      co_await shield(long_nap(3s));
      log += "shield over ";
      co_await violet::sleep(1s);
      log += "never ";
    };
    const bool done = co_await within(1s, body());
    CHECK_FALSE(done);
  });
  CHECK(log == "shield over ");
  CHECK(elapsed == 3s);
}

TEST_CASE("within: a task that ends under its shield has completed",
          "[within]") {
  play([]() -> Task<> {
    const auto value = co_await within(1s, shield(value_after(3s, 7)));
    CHECK(value == std::optional<int>(7));
  });
}

TEST_CASE("within: a limit inside a shield acts", "[within]") {
  const Duration elapsed = play([]() -> Task<> {
    const auto body = []() -> Task<> {
      const bool done = co_await within(1s, long_nap(9s));
      CHECK_FALSE(done);
    };
    co_await shield(body());
  });
  CHECK(elapsed == 1s);
}

TEST_CASE("within: a limited task shows in the dump under its caller",
          "[within]") {
  play([]() -> Task<> {
    const auto caller = []() -> Task<> {
      (void)co_await within(5s, long_nap(9s));
    };
    const Job<> job = spawn(caller);
    co_await violet::sleep(1s);
    const std::string text = Loop::current().dump();
    CHECK(contains(text, "#2 "));
    CHECK(contains(text, "waiting for its part #3 within 5000 ms"));
    CAPTURE(text);
    CHECK(contains(text, "long_nap: waiting for sleep, 8.0 s left"));
    job.kill();
  });
}

// --------------------------------------------------------------- a deadline

TEST_CASE("deadline: it can be moved while it is waited for", "[within]") {
  const Duration elapsed = play([]() -> Task<> {
    Deadline deadline(2s);
    const auto mover = [&]() -> Task<> {
      co_await violet::sleep(1s);
      deadline.move(4s);
    };
    const Job<> job = spawn(mover);
    const auto got3 = co_await within(deadline, violet::sleep(9s));
    CHECK_FALSE(got3);
    CHECK(deadline.passed());
  });
  CHECK(elapsed == 5s);
}

TEST_CASE("deadline: one that is moved to the past ends the wait", "[within]") {
  const Duration elapsed = play([]() -> Task<> {
    Deadline deadline(9s);
    const auto mover = [&]() -> Task<> {
      co_await violet::sleep(1s);
      deadline.move_to(TimePoint::min());
    };
    const Job<> job = spawn(mover);
    const auto got4 = co_await within(deadline, long_nap(20s));
    CHECK_FALSE(got4);
  });
  CHECK(elapsed == 1s);
}

TEST_CASE("deadline: one that passes and is moved in the same turn goes on",
          "[within]") {
  const Duration elapsed = play([]() -> Task<> {
    Deadline deadline(1s);
    const auto mover = [&]() -> Task<> {
      co_await violet::sleep(1s);  // its timer is older: it runs first
      deadline.move(3s);
    };
    const Job<> job = spawn(mover);
    co_await yield_now();
    const auto got5 = co_await within(deadline, violet::sleep(9s));
    CHECK_FALSE(got5);
  });
  CHECK(elapsed == 4s);
}

TEST_CASE("deadline: it limits several waits, one after another and at once",
          "[within]") {
  const Duration elapsed = play([]() -> Task<> {
    Deadline deadline(3s);
    int late = 0;
    const auto waits = [&]() -> Task<> {
      if (!co_await within(deadline, violet::sleep(9s))) ++late;
      co_return;
    };
    const bool first = co_await within(deadline, violet::sleep(1s));
    CHECK(first);
    const Job<> a = spawn(waits);
    const Job<> b = spawn(waits);
    co_await join(a);
    co_await join(b);
    CHECK(late == 2);
    const bool after_it = co_await within(deadline, violet::sleep(1s));
    CHECK_FALSE(after_it);
  });
  CHECK(elapsed == 3s);
}

TEST_CASE("deadline: moments come from TimePoint as well", "[within]") {
  play([]() -> Task<> {
    Deadline never(kNever);
    CHECK(never.moment() == kNever);
    CHECK_FALSE(never.passed());
    const auto got6 = co_await within(never, violet::sleep(1s));
    CHECK(got6);
  });
}

// ----------------------------------------------------------------- regressions

TEST_CASE("within: a limit around a limit around a shield waits for it",
          "[within]") {
  bool done = false;
  play([&]() -> Task<> {
    const auto work = [&]() -> Task<> {
      co_await violet::sleep(50ms);
      done = true;
    };
    const auto in_time = co_await within(10ms, within(1s, shield(work())));
    CHECK(in_time.has_value());
    CHECK(done);
    const auto cut = co_await within(10ms, within(1s, long_nap(9s)));
    CHECK_FALSE(cut.has_value());
    const auto inner = co_await within(1s, within(10ms, long_nap(9s)));
    CHECK(inner == std::optional<bool>(false));
  });
}

TEST_CASE("within: a cycle of joins that a limit ends is none, in any order",
          "[within]") {
  for (const bool any_ends : {false, true}) {
    for (const bool limited_first : {false, true}) {
      CAPTURE(any_ends, limited_first);
      const Duration elapsed = play([&]() -> Task<> {
        Job<> one;
        Job<> other;
        const auto limited = [&]() -> Task<> {
          if (!limited_first) co_await yield_now();
          if (any_ends) {
            const auto done = co_await any(join(other), violet::sleep(5ms));
            CHECK(done.index() == 1);
          } else {
            const bool ended = co_await within(5ms, join(other));
            CHECK_FALSE(ended);
          }
        };
        const auto plain = [&]() -> Task<> {
          if (limited_first) co_await yield_now();
          co_await join(one);
        };
        one = spawn(limited);
        other = spawn(plain);
        co_await join(other);
      });
      CHECK(elapsed == 5ms);
    }
  }
}

TEST_CASE("within: a limit without an end is none in a dump", "[within]") {
  play([]() -> Task<> {
    Deadline past(TimePoint::min());
    support::Gate gate;
    const auto text_of = [](Event& event) {
      Description out;
      event.describe(out);
      return out.text;
    };
    auto endless = within(Duration::max(), gate.pass());
    CHECK_FALSE(contains(text_of(endless), "within"));
    const auto waits = [&]() -> Task<> {
      co_await within(past, shield(long_nap(1s)));
    };
    const Job<> job = spawn(waits);
    co_await violet::sleep(1ms);
    CHECK(contains(text_of(*job.block()->event), "within 0 ms"));
    co_await join(job);
  });
}

TEST_CASE("deadline: one that never comes does not hide a deadlock",
          "[within]") {
  World world;
  const auto root = []() -> Task<> {
    Deadline never(kNever);
    support::Gate gate;
    (void)co_await within(never, gate.pass());
  };
  const std::string text = thrown<Deadlock>([&] { world.run(root()); });
  CHECK(contains(text, "gate"));
}

TEST_CASE("deadline: one that never comes can be moved to come", "[within]") {
  const Duration elapsed = play([]() -> Task<> {
    Deadline deadline(kNever);
    const auto mover = [&]() -> Task<> {
      co_await violet::sleep(1s);
      deadline.move(2s);
    };
    const Job<> job = spawn(mover);
    const bool done = co_await within(deadline, long_nap(9s));
    CHECK_FALSE(done);
  });
  CHECK(elapsed == 3s);
}

TEST_CASE("deadline: one that goes before its wait has begun leaves it, too",
          "[within]") {
  const auto body = []() -> Task<> {
    auto deadline = std::make_unique<Deadline>(2s);
    Channel<int> channel(0);
    const auto waits = [&]() -> Task<> {
      const auto item = co_await within(*deadline, channel.recv());
      CHECK_FALSE(item);
    };
    const auto destroys = [&]() -> Task<> {
      deadline.reset();
      co_return;
    };
    const Job<> job = spawn(waits);
    const Job<> end = spawn(destroys);
    co_await join(job);
    co_await join(end);
  };
  // With a budget of 0 a job lets others go first wherever it waits.
  CHECK(play(body, 0) == 2s);
  CHECK(play(body) == 2s);
}

TEST_CASE("deadline: one that goes leaves its last moment", "[within]") {
  const Duration elapsed = play([]() -> Task<> {
    auto deadline = std::make_unique<Deadline>(2s);
    const auto waits = [&]() -> Task<> {
      const bool done = co_await within(*deadline, long_nap(9s));
      CHECK_FALSE(done);
    };
    const Job<> job = spawn(waits);
    co_await violet::sleep(1s);
    deadline.reset();
    co_await join(job);
  });
  CHECK(elapsed == 2s);
}

TEST_CASE("within: what stands behind one that lets others go first is known",
          "[within]") {
  // The second part of each is not reached before its source goes.
  play([]() -> Task<> {
    auto channel = std::make_unique<Channel<int>>(0);
    auto deadline = std::make_unique<Deadline>(2s);
    Flag flag;
    std::string told;
    const auto receives = [&]() -> Task<> {
      try {
        co_await any(Behind(1), channel->recv());
      } catch (const Misuse& e) {
        told = e.what();
      }
    };
    const auto limited = [&]() -> Task<> {
      const auto done =
          co_await any(Behind(1), within(*deadline, violet::sleep(1h)));
      CHECK(done.index() == 1);
    };
    const auto waits = [&]() -> Task<> {
      const auto done = co_await any(Behind(1), flag.wait());
      CHECK(done.index() == 1);
    };
    TaskGroup group;
    group.spawn(receives);
    group.spawn(limited);
    group.spawn(waits);
    co_await yield_now();
    channel.reset();
    deadline.reset();
    flag.set();
    flag.clear();
    co_await group.join();
    CHECK(contains(told, "the channel was destroyed while a job waited"));
  });
}

TEST_CASE("within: a deadline before all clocks has passed", "[within]") {
  const TimePoint first = TimePoint::min() + Duration(1);
  Loop loop;
  bool done = true;
  const auto body = [&]() -> Task<> {
    Deadline deadline(first);
    done = co_await within(deadline, violet::sleep(100ms));
  };
  loop.spawn(body);
  loop.run_once();
  CHECK(loop.timeout_ms() == 0);
  while (loop.run_once(1s)) continue;
  CHECK_FALSE(done);
}
