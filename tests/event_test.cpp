// event_test.cpp - the protocol between a job and what it waits for.
// SPDX-License-Identifier: MIT
#include "catch.hpp"

#include <cerrno>
#include <string>
#include <system_error>
#include <utility>

#include "../runtime/events.hpp"
#include "../runtime/within.hpp"
#include "script.hpp"

namespace {

using namespace script;

/// A door that jobs pass while it is open; it counts what is asked of it.
struct Gate {
  bool open = false;
  bool idle = false;
  int attempts = 0;
  int undos = 0;
  WaitQueue queue;
};

class PassEvent final : public Event {
 public:
  explicit PassEvent(Gate& gate) noexcept : gate_(gate) {}
  PassEvent(PassEvent&& other) noexcept
      : Event(std::move(other)), gate_(other.gate_) {}

  bool attempt() noexcept override {
    ++gate_.attempts;
    if (gate_.open) {
      leave(gate_.queue, place_);
      return true;
    }
    place_.job = job();
    if (!place_.in_list()) gate_.queue.push_back(place_);
    return false;
  }
  void undo() noexcept override {
    ++gate_.undos;
    leave(gate_.queue, place_);
  }
  bool idle() const noexcept override { return gate_.idle; }
  void describe(Description& out) const override { out.text = "pass"; }
  int result() const noexcept { return 7; }

 private:
  Gate& gate_;
  Waiter place_;
};

PassEvent pass(Gate& gate) {
  return PassEvent(gate);
}

/// Fails or succeeds as it is told, and could be coded.
class TryEvent : public Event {
 public:
  TryEvent(int error, int value) noexcept : value_(value) { error_ = error; }
  TryEvent(TryEvent&& other) noexcept
      : Event(std::move(other)), value_(other.value_) {
    error_ = other.error_;
  }
  bool attempt() noexcept override { return true; }
  void undo() noexcept override {}
  void describe(Description& out) const override { out.text = "try"; }
  int error() const noexcept { return error_; }
  int value() const noexcept { return value_; }
  int result() const {
    if (error_ != 0) throw_system(error_, "try");
    return value_;
  }

 private:
  int value_;
};

/// Something to await that gives the processor back and waits for nothing.
class Forgetful {};

}  // namespace

template <>
class violet::Await<Forgetful> {
 public:
  explicit Await(Forgetful&) noexcept {}
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<>) const noexcept {}
  void await_resume() const noexcept {}
};

TEST_CASE("event: what is possible at once costs no switch", "[event]") {
  World world;
  Gate gate;
  gate.open = true;
  std::string log;
  const auto other = [&]() -> Task<> {
    log += "other ";
    co_return;
  };
  const auto root = [&]() -> Task<int> {
    spawn(other);
    const int value = co_await pass(gate);
    log += "root ";
    co_return value;
  };
  CHECK(world.run(root()) == 7);
  CHECK(log == "root other ");
  CHECK(gate.attempts == 1);
  CHECK(gate.undos == 0);
}

TEST_CASE("event: a parked one is attempted again when its step comes",
          "[event]") {
  World world;
  Gate gate;
  std::string log;
  const auto opener = [&]() -> Task<> {
    CHECK(gate.attempts == 1);
    gate.open = true;
    wake_all(gate.queue);
    CHECK(gate.attempts == 1);
    log += "opened ";
    co_return;
  };
  const auto root = [&]() -> Task<> {
    spawn(opener);
    const int value = co_await pass(gate);
    log += "passed ";
    CHECK(value == 7);
  };
  world.run(root());
  CHECK(log == "opened passed ");
  CHECK(gate.attempts == 2);
  CHECK(gate.undos == 0);
}

TEST_CASE("event: a wake for nothing leaves the job parked", "[event]") {
  World world;
  Gate gate;
  bool passed = false;
  const auto passer = [&]() -> Task<> {
    const int value = co_await pass(gate);
    passed = value == 7;
  };
  const auto root = [&]() -> Task<> {
    spawn(passer);
    co_await yield_now();
    for (int i = 2; i < 10; ++i) {
      wake_all(gate.queue);
      co_await yield_now();
      CHECK(gate.attempts == i);
      CHECK_FALSE(passed);
      CHECK_FALSE(gate.queue.empty());
    }
    gate.open = true;
    wake_all(gate.queue);
    co_await yield_now();
    CHECK(passed);
  };
  world.run(root());
}

TEST_CASE("event: a job that is woken twice has one step", "[event]") {
  World world;
  Gate gate;
  const auto passer = [&]() -> Task<> {
    const int value = co_await pass(gate);
    CHECK(value == 7);
  };
  const auto root = [&]() -> Task<> {
    const Job<> job = spawn(passer);
    co_await yield_now();
    wake(*job.block());
    wake(*job.block());
    wake(*job.block());
    co_await yield_now();
    CHECK(gate.attempts == 2);
    gate.open = true;
    wake(*job.block());
    wake(*job.block());
    co_await join(job);
    CHECK(gate.attempts == 3);
  };
  world.run(root());
}

TEST_CASE("event: waking a job that is not parked does nothing", "[event]") {
  World world;
  std::string log;
  const auto other = [&]() -> Task<> {
    log += "a";
    co_await yield_now();
    log += "b";
  };
  const auto root = [&]() -> Task<> {
    const Job<> job = spawn(other);
    wake(*job.block());
    wake(*running);
    co_await yield_now();
    CHECK(log == "a");
    wake(*job.block());
    co_await yield_now();
    CHECK(log == "ab");
    CHECK(job.ended());
    wake(*job.block());
    co_await yield_now();
    CHECK(log == "ab");
  };
  world.run(root());
}

TEST_CASE("event: a kill undoes a parked one once", "[event]") {
  World world;
  Gate gate;
  const auto passer = [&]() -> Task<> {
    const int value = co_await pass(gate);
    CHECK(value == 7);
  };
  const auto root = [&]() -> Task<> {
    Job<> job = spawn(passer);
    co_await yield_now();
    CHECK_FALSE(gate.queue.empty());
    CHECK(job.kill());
    CHECK(gate.undos == 1);
    CHECK(gate.queue.empty());
  };
  world.run(root());
  CHECK(gate.undos == 1);
  CHECK(gate.attempts == 1);
}

TEST_CASE("event: a kill does not attempt what is ready", "[event]") {
  World world;
  Gate gate;
  const auto passer = [&]() -> Task<> {
    const int value = co_await pass(gate);
    CHECK(value == 7);
  };
  const auto root = [&]() -> Task<> {
    Job<> job = spawn(passer);
    co_await yield_now();
    gate.open = true;
    wake_all(gate.queue);
    CHECK(job.kill());
    co_await yield_now();
    CHECK(gate.attempts == 1);
    CHECK(gate.undos == 1);
  };
  world.run(root());
}

TEST_CASE("event: waiters are woken in the order in which they came",
          "[event]") {
  World world;
  Gate gate;
  std::string log;
  const auto passer = [&](char name) -> Task<> {
    const int value = co_await pass(gate);
    CHECK(value == 7);
    log += name;
  };
  const auto root = [&]() -> Task<> {
    for (char name = 'a'; name <= 'e'; ++name) spawn(passer, name);
    co_await yield_now();
    gate.open = true;
    wake_all(gate.queue);
  };
  world.run(root());
  CHECK(log == "abcde");
}

TEST_CASE("event: a waiter leaves the middle of a queue when killed",
          "[event]") {
  World world;
  Gate gate;
  std::string log;
  const auto passer = [&](char name) -> Task<> {
    const int value = co_await pass(gate);
    CHECK(value == 7);
    log += name;
  };
  const auto root = [&]() -> Task<> {
    spawn(passer, 'a');
    Job<> middle = spawn(passer, 'b');
    spawn(passer, 'c');
    co_await yield_now();
    CHECK(middle.kill());
    gate.open = true;
    wake_all(gate.queue);
  };
  world.run(root());
  CHECK(log == "ac");
  CHECK(gate.queue.empty());
}

TEST_CASE("event: after 32 completions in a row others get their turn",
          "[event]") {
  World world;
  Gate gate;
  gate.open = true;
  int at_first_turn = -1;
  const auto other = [&]() -> Task<> {
    at_first_turn = gate.attempts;
    co_return;
  };
  const auto root = [&]() -> Task<> {
    spawn(other);
    for (int i = 0; i < 100; ++i) {
      const int value = co_await pass(gate);
      CHECK(value == 7);
    }
  };
  world.run(root());
  CHECK(at_first_turn == 32);
  CHECK(gate.attempts == 100);
}

TEST_CASE("event: a budget of 0 makes every event a wait", "[event]") {
  World world(0);
  Gate gate;
  gate.open = true;
  std::string log;
  const auto other = [&]() -> Task<> {
    for (int i = 0; i < 3; ++i) {
      log += "o";
      co_await yield_now();
    }
  };
  const auto root = [&]() -> Task<> {
    spawn(other);
    for (int i = 0; i < 3; ++i) {
      log += "r";
      const int value = co_await pass(gate);
      CHECK(value == 7);
    }
  };
  world.run(root());
  CHECK(log == "rororo");
  CHECK(gate.attempts == 3);
}

TEST_CASE("event: one that was never attempted is undone without harm",
          "[event]") {
  World world(0);
  Gate gate;
  gate.open = true;
  const auto passer = [&]() -> Task<> {
    const int value = co_await pass(gate);
    CHECK(value == -1);
  };
  const auto root = [&]() -> Task<> {
    Job<> job = spawn(passer);
    co_await yield_now();
    CHECK(gate.attempts == 0);
    CHECK(job.kill());
    CHECK(gate.undos == 1);
  };
  world.run(root());
  CHECK(gate.attempts == 0);
}

TEST_CASE("event: the error_code form clears or sets the code", "[event]") {
  const auto root = []() -> Task<> {
    std::error_code code = std::make_error_code(std::errc::io_error);
    TryEvent good(0, 5);
    Coded<TryEvent> coded_good(std::move(good), code);
    const int five = co_await std::move(coded_good);
    CHECK(five == 5);
    CHECK_FALSE(code);
    TryEvent bad(ECONNRESET, 3);
    Coded<TryEvent> coded_bad(std::move(bad), code);
    const int three = co_await std::move(coded_bad);
    CHECK(three == 3);
    CHECK(code == std::errc::connection_reset);
  };
  run(root());
}

TEST_CASE("event: an error is thrown where the event is awaited", "[event]") {
  const auto root = []() -> Task<> {
    const int value = co_await TryEvent(ENOSPC, 0);
    CHECK(value == -1);
  };
  const std::string text = thrown<std::system_error>([&] { run(root()); });
  CHECK(text == "try: No space left on device");
}

TEST_CASE("event: out of memory is thrown as bad_alloc", "[event]") {
  const auto root = []() -> Task<> {
    const int value = co_await TryEvent(ENOMEM, 0);
    CHECK(value == -1);
  };
  CHECK_THROWS_AS(run(root()), std::bad_alloc);
}

TEST_CASE("event: one that waits for nothing is reported, not waited for",
          "[event]") {
  World world;
  Gate gate;
  const auto root = [&]() -> Task<> {
    const int value = co_await pass(gate);
    CHECK(value == -1);
  };
  const std::string text = thrown<Deadlock>([&] { world.run(root()); });
  CHECK(contains(text, "waiting for pass"));
  CHECK(gate.undos == 1);
  CHECK(gate.queue.empty());
}

TEST_CASE("event: an awaiter that forgets to wait ends the process",
          "[event]") {
  const auto death = in_child([] {
    const auto root = []() -> Task<> { co_await Forgetful(); };
    run(root());
  });
  CHECK(death.signal == SIGABRT);
  CHECK(contains(death.errors, "gave the processor back"));
  CHECK(contains(death.errors, "event_test.cpp:"));
}

TEST_CASE("event: a stop ends idle waiters, now and later", "[event]") {
  World world;
  Gate idle;
  idle.idle = true;
  Gate busy;
  std::string log;
  const auto passer = [&](char name, Gate& first) -> Task<> {
    const Witness witness(log, std::string(1, name));
    const int a = co_await pass(first);
    const int b = co_await pass(idle);
    CHECK(a + b == 14);
  };
  const auto root = [&]() -> Task<> {
    Nursery nursery;
    const Job<> at_rest = nursery.spawn(passer, 'a', std::ref(idle));
    const Job<> at_work = nursery.spawn(passer, 'b', std::ref(busy));
    co_await yield_now();
    nursery.end_idle();
    CHECK(at_rest.killed());
    CHECK_FALSE(at_work.ended());
    CHECK(log == "+a +b -a ");
    busy.open = true;
    wake_all(busy.queue);
    co_await yield_now();
    CHECK(at_work.killed());
    CHECK(at_work.ending()->reason == "stopping");
  };
  world.run(root());
  CHECK(log == "+a +b -a -b ");
}

TEST_CASE("event: a limit around an idle wait leaves it idle", "[event]") {
  World world;
  Gate idle;
  idle.idle = true;
  const auto passer = [&]() -> Task<> {
    const auto value = co_await within(1h, pass(idle));
    CHECK_FALSE(value);
  };
  const auto root = [&]() -> Task<> {
    Nursery nursery;
    const Job<> job = nursery.spawn(passer);
    co_await yield_now();
    nursery.end_idle();
    CHECK(job.killed());
    CHECK(world.loop.timers().empty());
  };
  world.run(root());
}
