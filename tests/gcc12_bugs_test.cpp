// gcc12_bugs_test.cpp - the compiler bugs that the library is shaped by.
//
// g++ 12.1 and 12.2 miscompile coroutines in silence. Each known bug stands
// here with what the compiler makes of it: where a newer one does it right,
// the expectation turns around by itself, and shows which of the rules in
// the README can be lifted.
//
// SPDX-License-Identifier: MIT
#include <coroutine>
#include <exception>

#include "catch.hpp"
#include "support.hpp"

using namespace violet;
using namespace support;

// Known to be wrong, known to be right; in between, either is accepted.
#if defined(__GNUC__) && !defined(__clang__)
inline constexpr int kGcc = __GNUC__ * 100 + __GNUC_MINOR__;
#else
inline constexpr int kGcc = 9999;
#endif
inline constexpr bool kBroken = kGcc >= 1200 && kGcc <= 1202;
inline constexpr bool kFixed = kGcc >= 1300;

// ----------------------------------------------------- outside of the library

namespace bare {

/// The least coroutine that can be written: it runs at once, and is destroyed
/// by its owner.
struct Coroutine {
  struct promise_type {
    Coroutine get_return_object() {
      return Coroutine(
          std::coroutine_handle<promise_type>::from_promise(*this));
    }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_always final_suspend() noexcept { return {}; }
    void return_void() {}
    void unhandled_exception() { std::terminate(); }
  };

  explicit Coroutine(std::coroutine_handle<promise_type> frame)
      : handle(frame) {}
  Coroutine(const Coroutine&) = delete;
  ~Coroutine() { handle.destroy(); }

  std::coroutine_handle<promise_type> handle;
};

/// Counts how often it was made and destroyed; owns nothing, so that being
/// destroyed twice does no harm.
struct Counted {
  Counted() { ++made; }
  Counted(const Counted&) { ++made; }
  ~Counted() { ++destroyed; }

  static void reset() { made = destroyed = 0; }
  static inline int made = 0;
  static inline int destroyed = 0;
};

struct Aggregate {
  Counted counted;
};

struct Constructed {
  explicit Constructed(Counted c) : counted(c) {}
  Counted counted;
};

struct Awaiter {
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<>) const noexcept {}
  bool await_resume() const noexcept { return true; }
};

Awaiter take_aggregate(const Aggregate&) {
  return {};
}
Awaiter take_constructed(const Constructed&) {
  return {};
}
Aggregate make_aggregate() {
  return {};
}
template <class F>
Awaiter take_function(const F&) {
  return {};
}

Coroutine awaits_an_aggregate() {
  co_await take_aggregate(Aggregate{});
}

Coroutine awaits_a_returned_aggregate() {
  co_await take_aggregate(make_aggregate());
}

Coroutine awaits_a_named_aggregate() {
  const Aggregate aggregate{};
  co_await take_aggregate(aggregate);
}

Coroutine awaits_a_constructed() {
  co_await take_constructed(Constructed(Counted()));
}

Coroutine awaits_a_lambda(const Counted& counted) {
  co_await take_function([counted] { static_cast<void>(counted); });
}

Coroutine awaits_a_named_lambda(const Counted& counted) {
  const auto lambda = [counted] { static_cast<void>(counted); };
  co_await take_function(lambda);
}

Coroutine awaits_a_lambda_by_reference(const Counted& counted) {
  co_await take_function([&counted] { static_cast<void>(counted); });
}

/// PR 106188: a condition, and no local variable in the whole body.
Coroutine awaits_in_a_condition(bool& reached) {
  if (co_await Awaiter()) reached = true;
}

Coroutine awaits_in_a_condition_with_a_local(bool& reached) {
  const bool result = co_await Awaiter();
  if (result) reached = true;
}

/// How often too often something was destroyed after `coroutine` has ended.
int surplus(const Coroutine& coroutine) {
  coroutine.handle.resume();
  CHECK(coroutine.handle.done());
  return Counted::destroyed - Counted::made;
}

}  // namespace bare

TEST_CASE(
    "gcc12: G1, a body without locals is dropped at an await in a "
    "condition",
    "[gcc12]") {
  // In a child: where optimization or a sanitizer has put an illegal
  // instruction there, the dropped body ends the process itself.
  const ChildEnd end = in_child([] {
    bool reached = false;
    const bare::Coroutine coroutine = bare::awaits_in_a_condition(reached);
    coroutine.handle.resume();
    ::_exit(reached && coroutine.handle.done() ? 0 : 9);
  });
  INFO(end.errors);
  if (kBroken) CHECK(end.status != 0);
  if (kFixed) CHECK(end.status == 0);
}

TEST_CASE("gcc12: G1 is cured by a name for the result", "[gcc12]") {
  bool reached = false;
  const bare::Coroutine coroutine =
      bare::awaits_in_a_condition_with_a_local(reached);
  coroutine.handle.resume();
  CHECK(reached);
  CHECK(coroutine.handle.done());
}

TEST_CASE("gcc12: G2, an aggregate in an await is destroyed twice", "[gcc12]") {
  bare::Counted::reset();
  const int surplus = bare::surplus(bare::awaits_an_aggregate());
  if (kBroken) CHECK(surplus == 1);
  if (kFixed) CHECK(surplus == 0);
}

TEST_CASE("gcc12: G2 spares aggregates with a name or from a function",
          "[gcc12]") {
  bare::Counted::reset();
  CHECK(bare::surplus(bare::awaits_a_named_aggregate()) <= 0);
  CHECK(bare::surplus(bare::awaits_a_returned_aggregate()) <= 0);
  CHECK(bare::Counted::made == bare::Counted::destroyed);
}

TEST_CASE("gcc12: G2 spares types with a constructor of their own", "[gcc12]") {
  bare::Counted::reset();
  CHECK(bare::surplus(bare::awaits_a_constructed()) == 0);
}

TEST_CASE("gcc12: G3, a capturing lambda in an await is destroyed twice",
          "[gcc12]") {
  bare::Counted::reset();
  int surplus = 0;
  {
    const bare::Counted counted;
    surplus = bare::surplus(bare::awaits_a_lambda(counted)) + 1;
  }
  if (kBroken) CHECK(surplus == 1);
  if (kFixed) CHECK(surplus == 0);
}

TEST_CASE("gcc12: G3 spares lambdas with a name, and captures by reference",
          "[gcc12]") {
  bare::Counted::reset();
  const bare::Counted counted;
  {
    const bare::Coroutine coroutine = bare::awaits_a_named_lambda(counted);
    coroutine.handle.resume();
  }
  CHECK(bare::Counted::made == bare::Counted::destroyed + 1);
  CHECK(bare::surplus(bare::awaits_a_lambda_by_reference(counted)) == -1);
}

// ---------------------------------------------------- the loop notices a drop

namespace {

class TrueEvent final : public Event {
 public:
  TrueEvent() noexcept {}
  TrueEvent(TrueEvent&& other) noexcept : Event(std::move(other)) {}
  bool attempt() noexcept override { return true; }
  void undo() noexcept override {}
  void describe(Description& out) const override { out.text = "true"; }
  bool result() const noexcept { return true; }
};

/// The bug again, in a body that our loop runs. The event suspends first.
Task<> dropped_after_a_wait(Gate& gate) {
  if (co_await within(Duration(1), gate.pass())) co_return;
}

Task<> dropped_at_once() {
  if (co_await TrueEvent()) co_return;
}

/// A healthy body that calls one that is dropped.
Task<> calls_a_dropped() {
  const int local = 0;
  static_cast<void>(local);
  co_await dropped_at_once();
}

Task<bool> child() {
  co_return true;
}

Task<> dropped_after_a_call() {
  if (co_await child()) co_return;
}

/// Its Await, below, suspends without telling the loop what for.
class ForgetfulEvent {};

}  // namespace

namespace violet {

template <>
class Await<ForgetfulEvent> {
 public:
  explicit Await(ForgetfulEvent&) noexcept {}
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<>) const noexcept {}
  void await_resume() const noexcept {}
};

}  // namespace violet

namespace {

Task<> forgets_to_register() {
  co_await ForgetfulEvent();
}

/// Either the body has met an illegal instruction, which the compiler puts
/// there in some builds, or our loop has noticed.
void check_dropped(const ChildEnd& end) {
  INFO(end.errors);
  if (kFixed) CHECK(end.status == 0);
  if (!kBroken) return;
  CHECK(end.status != 0);
  if (end.signal != SIGABRT) return;
  CHECK(contains(end.errors, "gave the processor back without waiting"));
  CHECK(contains(end.errors, "PR 106188"));
}

}  // namespace

TEST_CASE("gcc12: the loop ends the process when a body was dropped",
          "[gcc12]") {
  check_dropped(in_child([] { in_virtual_time(dropped_at_once); }));
  check_dropped(in_child([] { in_virtual_time(dropped_after_a_call); }));
  check_dropped(in_child([] {
    Gate gate;
    in_virtual_time(dropped_after_a_wait, gate);
  }));
}

TEST_CASE("gcc12: the loop tells where a dropped body was called", "[gcc12]") {
  // Of a dropped body not even the first statement runs, so it has no line
  // of its own to tell.
  const ChildEnd end = in_child([] { in_virtual_time(calls_a_dropped); });
  check_dropped(end);
  if (end.signal != SIGABRT) return;
  CHECK(contains(end.errors, "near gcc12_bugs_test.cpp:"));
}

TEST_CASE("gcc12: the loop ends the process when an awaiter forgets it",
          "[gcc12]") {
  const ChildEnd end = in_child([] { in_virtual_time(forgets_to_register); });
  CHECK(end.signal == SIGABRT);
  CHECK(contains(end.errors, "awaits something that is not ours"));
  CHECK(contains(end.errors, "near gcc12_bugs_test.cpp:"));
}

// ---------------------------------------------- our types where users put them

namespace {

/// What a user's options look like: an aggregate that owns memory.
struct Config {
  std::string name = "a name that is too long for the small string buffer";
  std::vector<int> ports = {4915, 8080};
  Tracked tracked = Tracked(5);
};

Task<std::size_t> by_value(Config config) {
  co_await yield_now();
  CHECK(config.tracked.value() == 5);
  co_return config.name.size() + config.ports.size();
}

Task<std::size_t> by_reference(const Config& config) {
  co_await yield_now();
  CHECK(config.tracked.value() == 5);
  co_return config.name.size() + config.ports.size();
}

Task<> wait_at(Gate& gate) {
  co_await gate.pass();
}

Task<Config> returns_an_aggregate() {
  co_await yield_now();
  co_return Config{};
}

}  // namespace

TEST_CASE("gcc12: spawn takes an aggregate as its argument", "[gcc12]") {
  const int before = Tracked::alive();
  const std::size_t expected = Config().name.size() + 2;
  const auto body = [&]() -> Task<> {
    const Job<std::size_t> value = spawn(by_value, Config{});
    const Job<std::size_t> reference = spawn(by_reference, Config{});
    const std::size_t first = co_await join(value);
    const std::size_t second = co_await join(reference);
    CHECK(first == expected);
    CHECK(second == expected);
    CHECK(Tracked::alive() == before);
    spawn(by_value, Config{"n", {}, Tracked(5)}).kill();
    CHECK(Tracked::alive() == before);
  };
  in_virtual_time(body);
  CHECK(Tracked::alive() == before);
}

TEST_CASE("gcc12: spawn takes an aggregate inside of an await too", "[gcc12]") {
  // The argument stands in the co_await expression, and is moved into the
  // job from there. What is left of it is what g++ 12 destroys twice, so a
  // program names it first; so does this test.
  const int before = Tracked::alive();
  const auto body = [&]() -> Task<> {
    Config config{};
    const std::size_t size = co_await join(spawn(by_value, std::move(config)));
    CHECK(size > 2);
  };
  in_virtual_time(body);
  CHECK(Tracked::alive() == before);
}

TEST_CASE("gcc12: handles are temporaries in an await", "[gcc12]") {
  const int before = Tracked::alive();
  const std::size_t frames = frame_pool.live();
  Gate gate;
  const auto body = [&]() -> Task<> {
    Config config{};
    const std::size_t size = co_await join(spawn(by_reference, config));
    CHECK(size > 2);
    const std::size_t again =
        co_await join(Job<std::size_t>(spawn(by_reference, config)));
    CHECK(again == size);
    co_await wait(spawn(by_reference, config));
    co_await kill(spawn(wait_at, std::ref(gate)), "not needed");
    co_await kill(Job<>());
    co_await wait(Job<>());
  };
  in_virtual_time(body);
  CHECK(Tracked::alive() == before);
  CHECK(frame_pool.live() == frames);
}

TEST_CASE("gcc12: events are temporaries in an await, one in the other",
          "[gcc12]") {
  MaybeShortIo io;
  Pair pipe = make_pipe();
  Gate gate;
  const auto body = [&]() -> Task<> {
    const Descriptor reader = adopt(std::move(pipe[0]));
    char buffer[8];
    std::error_code code;
    const bool passed = co_await within(Duration(1), gate.pass());
    CHECK_FALSE(passed);
    const auto none = co_await within(Duration(1), read(reader, buffer, code));
    CHECK_FALSE(none);
    co_await within(Duration(1), SleepEvent(Duration(2)));
    co_await sleep(Duration(1));
    co_await yield_now();
    const Job<> job = spawn(wait_at, std::ref(gate));
    const bool ended = co_await within(Duration(1), join(job));
    CHECK_FALSE(ended);
    CHECK(job.kill());
  };
  in_virtual_time(body);
  CHECK(gate.deserted());
}

TEST_CASE("gcc12: a waiting frame is destroyed with all its temporaries",
          "[gcc12]") {
  const int before = Tracked::alive();
  const std::size_t frames = frame_pool.live();
  Gate gate;
  const auto joins_a_temporary = [&]() -> Task<> {
    co_await join(spawn(wait_at, std::ref(gate)));
  };
  const auto waits_with_a_limit = [&]() -> Task<> {
    co_await within(Duration(1'000'000), gate.pass());
  };
  const auto calls_with_a_temporary = [&]() -> Task<> {
    const Config config{};
    co_await by_reference(config);
  };
  const auto body = [&]() -> Task<> {
    const Job<> first = spawn(joins_a_temporary);
    const Job<> second = spawn(waits_with_a_limit);
    const Job<> third = spawn(calls_with_a_temporary);
    co_await yield_now();
    co_await yield_now();
    CHECK(first.kill());
    CHECK(second.kill());
    CHECK(third.kill());
    gate.open();
  };
  in_virtual_time(body);
  CHECK(Tracked::alive() == before);
  CHECK(frame_pool.live() == frames);
}

TEST_CASE("gcc12: a task may return an aggregate", "[gcc12]") {
  const int before = Tracked::alive();
  const auto body = [&]() -> Task<> {
    const Config config = co_await returns_an_aggregate();
    CHECK(config.tracked.value() == 5);
    CHECK(Tracked::alive() == before + 1);
    const Job<Config> job = spawn(returns_an_aggregate);
    const Config& joined = co_await join(job);
    CHECK(joined.ports.size() == 2);
  };
  in_virtual_time(body);
  CHECK(Tracked::alive() == before);
}

TEST_CASE("gcc12: a lambda that captures may be spawned where it is written",
          "[gcc12]") {
  const int before = Tracked::alive();
  const auto body = [&]() -> Task<> {
    const Tracked tracked(3);
    const Job<int> job = spawn([tracked]() -> Task<int> {
      co_await yield_now();
      co_return tracked.value();
    });
    const int value = co_await join(job);
    CHECK(value == 3);
    CHECK(Tracked::alive() == before + 1);
  };
  in_virtual_time(body);
  CHECK(Tracked::alive() == before);
}
