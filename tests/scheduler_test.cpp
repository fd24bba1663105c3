// scheduler_test.cpp - turns, runs, order, deadlock, and loops in loops.
// SPDX-License-Identifier: MIT
#include "catch.hpp"

#include <limits.h>
#include <poll.h>
#include <signal.h>

#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "../runtime/events.hpp"
#include "../runtime/within.hpp"
#include "mallocs.hpp"
#include "script.hpp"

namespace {

using namespace script;

Task<int> seven() {
  co_return 7;
}

Task<> say(std::string& log, std::string word) {
  log += word + ' ';
  co_return;
}

Task<> throwing(std::string text) {
  throw std::runtime_error(text);
  co_return;
}

bool is_readable(int fd) {
  pollfd descriptor{fd, POLLIN, 0};
  return ::poll(&descriptor, 1, 0) == 1;
}

}  // namespace

// --------------------------------------------------------------------- order

TEST_CASE("order: two jobs around a sleep print H H A A", "[scheduler]") {
  World world;
  std::string log;
  const auto hello = [&]() -> Task<> {
    log += "H ";
    co_await violet::sleep(1s);
    log += "A ";
  };
  const auto root = [&]() -> Task<> {
    spawn(hello);
    spawn(hello);
    co_return;
  };
  world.run(root());
  CHECK(log == "H H A A ");
  CHECK(world.elapsed() == 1s);
}

TEST_CASE("order: ready jobs run first in, first out, a hundred times",
          "[scheduler]") {
  const auto play = [] {
    World world;
    std::string log;
    const auto body = [&](int number) -> Task<> {
      for (int i = 0; i < 3; ++i) {
        log += std::to_string(number);
        if (number == 2) {
          co_await violet::sleep(1ms);
        } else {
          co_await yield_now();
        }
      }
    };
    const auto root = [&]() -> Task<> {
      for (int number = 0; number < 5; ++number) spawn(body, number);
      co_return;
    };
    world.run(root());
    return log;
  };
  const std::string first = play();
  CHECK(first == "012340134013422");
  for (int i = 0; i < 100; ++i) CHECK(play() == first);
}

TEST_CASE("order: a spawned job runs after its spawner's step", "[scheduler]") {
  World world;
  std::string log;
  const auto root = [&]() -> Task<> {
    spawn(say, std::ref(log), "a");
    spawn(say, std::ref(log), "b");
    log += "root ";
    co_await yield_now();
    log += "root ";
  };
  world.run(root());
  CHECK(log == "root a b root ");
}

TEST_CASE("order: jobs spawned from outside run before the root",
          "[scheduler]") {
  World world;
  std::string log;
  world.loop.spawn(say, std::ref(log), "first");
  world.run(say(log, "root"));
  CHECK(log == "first root ");
}

// ----------------------------------------------------------------------- run

TEST_CASE("run: it returns the root's value", "[scheduler]") {
  CHECK(run(seven()) == 7);
}

TEST_CASE("run: it rethrows the root's exception with its type",
          "[scheduler]") {
  const auto root = []() -> Task<> {
    co_await yield_now();
    throw std::out_of_range("root");
  };
  CHECK(thrown<std::out_of_range>([&] { run(root()); }) == "root");
}

TEST_CASE("run: it waits for every spawned job", "[scheduler]") {
  World world;
  bool done = false;
  const auto slow = [&]() -> Task<> {
    co_await violet::sleep(1h);
    done = true;
  };
  const auto root = [&]() -> Task<int> {
    spawn(slow);
    co_return 1;
  };
  CHECK(world.run(root()) == 1);
  CHECK(done);
}

TEST_CASE("run: a second one in the same process works", "[scheduler]") {
  CHECK(run(seven()) == 7);
  CHECK(run(seven()) == 7);
  World world;
  CHECK(world.run(seven()) == 7);
  CHECK(world.run(seven()) == 7);
}

TEST_CASE("run: one after a failed one works", "[scheduler]") {
  World world;
  CHECK(thrown<std::runtime_error>([&] { world.run(throwing("x")); }) == "x");
  CHECK(world.run(seven()) == 7);
}

TEST_CASE("run: a nested one is refused with a sentence", "[scheduler]") {
  std::string text;
  std::string other;
  const auto root = [&]() -> Task<> {
    text = thrown<Misuse>([] { run(seven()); });
    Loop loop;
    other = thrown<Misuse>([&] { loop.run(seven()); });
    co_return;
  };
  run(root());
  CHECK(contains(text, "run() inside run()"));
  CHECK(contains(text, "co_await the task, or spawn its function"));
  CHECK(other == text);
}

TEST_CASE("run: a failing root kills the rest at once", "[scheduler]") {
  const Footprint before;
  std::string log;
  {
    World world;
    const auto other = [&]() -> Task<> {
      const Witness witness(log, "other");
      co_await violet::sleep(1h);
      log += "never ";
    };
    const auto root = [&]() -> Task<> {
      spawn(other);
      co_await violet::sleep(1s);
      throw std::runtime_error("root");
    };
    CHECK(thrown<std::runtime_error>([&] { world.run(root()); }) == "root");
    CHECK(world.elapsed() == 1s);
    CHECK(log == "+other -other ");
    CHECK(world.loop.timers().empty());
  }
  CHECK(Footprint() == before);
}

TEST_CASE("run: a killed root is reported as Killed", "[scheduler]") {
  World world;
  const auto killer = [](JobBlock& root) -> Task<> {
    kill_job(root, "no root", std::source_location::current());
    co_return;
  };
  const auto root = [&]() -> Task<> {
    spawn(killer, std::ref(*world.loop.current_job()));
    co_await forever();
  };
  const std::string text = thrown<Killed>([&] { world.run(root()); });
  CHECK(contains(text, "no root"));
  CHECK(contains(text, "scheduler_test.cpp:"));
}

TEST_CASE("run: SIGPIPE and SIGXFSZ are ignored, and restored afterwards",
          "[scheduler]") {
  const int number = GENERATE(SIGPIPE, SIGXFSZ);
  const auto action = [&] {
    struct sigaction now{};
    ::sigaction(number, nullptr, &now);
    return now.sa_handler;
  };
  const auto before = ::signal(number, SIG_DFL);
  const auto root = [&]() -> Task<> {
    CHECK(action() == SIG_IGN);
    co_return;
  };
  run(root());
  CHECK(action() == SIG_DFL);
  const auto handler = [](int) {};
  ::signal(number, handler);
  const auto with_handler = [&]() -> Task<> {
    CHECK(action() == +handler);
    co_return;
  };
  run(with_handler());
  CHECK(action() == +handler);
  ::signal(number, SIG_DFL);
  const auto with_handler_of_its_own = [&]() -> Task<> {
    ::signal(number, handler);
    co_return;
  };
  run(with_handler_of_its_own());
  CHECK(action() == +handler);
  ::signal(number, before);
}

TEST_CASE("run: SIGPIPE is restored when it throws", "[scheduler]") {
  const auto before = ::signal(SIGPIPE, SIG_DFL);
  CHECK_THROWS(run(throwing("x")));
  CHECK(::signal(SIGPIPE, before) == SIG_DFL);
}

// -------------------------------------------------------------------- cancel

TEST_CASE("cancel: run kills every job and throws Killed with the reason",
          "[scheduler]") {
  World world;
  std::string log;
  const auto other = [&]() -> Task<> {
    const Witness witness(log, "other");
    co_await violet::sleep(1h);
  };
  const auto root = [&]() -> Task<> {
    const Witness witness(log, "root");
    spawn(other);
    co_await yield_now();
    world.loop.cancel("the second signal");
    co_await violet::sleep(1h);
    log += "never ";
  };
  const std::string text = thrown<Killed>([&] { world.run(root()); });
  CHECK(contains(text, "the second signal"));
  CHECK(log == "+root +other -other -root ");
  CHECK(world.elapsed() < 1h);
}

TEST_CASE("cancel: it throws Killed though the root has returned",
          "[scheduler]") {
  World world;
  const auto other = [&]() -> Task<> {
    co_await yield_now();
    world.loop.cancel("the second signal");
    co_await violet::sleep(1h);
  };
  const auto root = [&]() -> Task<> {
    spawn(other);
    co_return;
  };
  const std::string text = thrown<Killed>([&] { world.run(root()); });
  CHECK(contains(text, "the second signal"));
}

TEST_CASE("stop: it completes stopping(), now and later", "[scheduler]") {
  World world;
  std::string log;
  const auto waiter = [&](const char* name) -> Task<> {
    co_await stopping();
    log += name;
  };
  const auto root = [&]() -> Task<> {
    spawn(waiter, "a");
    spawn(waiter, "b");
    co_await yield_now();
    CHECK_FALSE(world.loop.stop_requested());
    world.loop.stop();
    world.loop.stop();
    CHECK(world.loop.stop_requested());
    co_await stopping();
    log += "root ";
  };
  world.run(root());
  CHECK(log == "root ab");
}

// ------------------------------------------------------------------ deadlock

TEST_CASE("deadlock: waiting for oneself is reported, with the cycle",
          "[scheduler]") {
  const Footprint before;
  {
    World world;
    Job<> self;
    const auto body = [&]() -> Task<> { co_await wait(self); };
    const auto root = [&]() -> Task<> {
      self = spawn(body);
      co_return;
    };
    const std::string text = thrown<Deadlock>([&] { world.run(root()); });
    CHECK(contains(text, "deadlock"));
    CHECK(contains(text, "waiting for wait #2"));
    CHECK(contains(text, "scheduler_test.cpp:"));
    CHECK(contains(text, "cycle: #2 waits for #2"));
    CHECK_FALSE(world.time.hung);
  }
  CHECK(Footprint() == before);
}

#ifdef VIOLET_COUNTS_MALLOC
TEST_CASE("deadlock: without memory to describe it the jobs end all the same",
          "[scheduler]") {
  struct Noted {
    explicit Noted(bool& flag) noexcept : gone(flag) {}
    ~Noted() { gone = true; }
    bool& gone;
  };
  bool gone = false;
  Loop loop;
  Job<> self;
  const auto body = [&]() -> Task<> {
    const Noted noted(gone);
    support::no_memory = true;
    co_await wait(self);
  };
  const auto root = [&]() -> Task<> {
    self = spawn(body);
    co_return;
  };
  const auto error = caught([&] { loop.run(root()); });
  support::no_memory = false;
  CHECK(error);
  CHECK(gone);
  CHECK(self.ended());
  self = Job<>();
  CHECK(loop.run(seven()) == 7);
}
#endif

TEST_CASE("deadlock: a cycle is reported, with those in it", "[scheduler]") {
  const Footprint before;
  {
    World world;
    Job<> a;
    Job<> b;
    const auto body = [](const Job<>& other) -> Task<> {
      co_await wait(other);
    };
    const auto root = [&]() -> Task<> {
      a = spawn(body, std::ref(b));
      b = spawn(body, std::ref(a));
      co_await join(a);
    };
    const std::string text = thrown<Deadlock>([&] { world.run(root()); });
    CHECK(contains(text, "#1 "));
    CHECK(contains(text, "#2 "));
    CHECK(contains(text, "#3 "));
    CHECK(contains(text, "cycle: #2 waits for #3 waits for #2"));
  }
  CHECK(Footprint() == before);
}

TEST_CASE("join: of oneself is refused with a sentence", "[scheduler]") {
  play([]() -> Task<> {
    Job<> self;
    const auto body = [&]() -> Task<> { co_await join(self); };
    self = spawn(body);
    co_await wait(self);
    const std::string text = text_of(self.error());
    CHECK(contains(text, "violet: join of job #2 would never end"));
    CHECK(contains(text, "let a job that is not among them join"));
  });
}

TEST_CASE("join: one that closes a cycle is refused, the others go on",
          "[scheduler]") {
  play([]() -> Task<> {
    Job<> a;
    Job<> b;
    const auto body = [](const Job<>& other) -> Task<> {
      co_await join(other);
    };
    a = spawn(body, std::ref(b));
    b = spawn(body, std::ref(a));
    co_await wait(a);
    // The second of them was refused, and the first one heard of it.
    CHECK(contains(text_of(b.error()), "join of job #2 would never end"));
    CHECK(a.error() == b.error());
  });
}

TEST_CASE("join: a job that holds this one is refused", "[scheduler]") {
  play([]() -> Task<> {
    const auto owner = [](Job<>& self) -> Task<> {
      Nursery children;
      const auto child = [&]() -> Task<> { co_await join(self); };
      Job<> job = children.spawn(child);
      co_await wait(job);
      CHECK(contains(text_of(job.error()), "or it holds this job"));
    };
    Job<> self;
    self = spawn(owner, std::ref(self));
    co_await join(self);
  });
}

TEST_CASE("join: with a limit a cycle is no mistake", "[scheduler]") {
  play([]() -> Task<> {
    Job<> a;
    Job<> b;
    const auto body = [](const Job<>& other) -> Task<> {
      (void)co_await within(1s, wait(other));
    };
    a = spawn(body, std::ref(b));
    b = spawn(body, std::ref(a));
    co_await join(a);
    co_await join(b);
  });
}

TEST_CASE("deadlock: without a cycle the text names every wait",
          "[scheduler]") {
  World world;
  const auto root = []() -> Task<> {
    const Job<> job = spawn(forever);
    co_await join(job);
  };
  const std::string text = thrown<Deadlock>([&] { world.run(root()); });
  CHECK(contains(text, "waiting for join #2"));
  CHECK(contains(text, "waiting for stopping"));
  CHECK_FALSE(contains(text, "cycle"));
}

TEST_CASE("deadlock: the jobs are killed before it is thrown", "[scheduler]") {
  std::string log;
  World world;
  const auto root = [&]() -> Task<> {
    const Witness witness(log, "root");
    co_await forever();
  };
  CHECK_THROWS_AS(world.run(root()), Deadlock);
  CHECK(log == "+root -root ");
  CHECK(world.run(seven()) == 7);
}

TEST_CASE("deadlock: a failure that it uncovers does not end the next run",
          "[scheduler]") {
  World world;
  const auto root = []() -> Task<> {
    const Job<> failed = spawn(throwing, "seen by nobody");
    co_await wait(failed);
    co_await forever();
  };
  const std::string said =
      errors_of([&] { CHECK_THROWS_AS(world.run(root()), Deadlock); });
  CHECK(contains(said, "seen by nobody"));
  CHECK(thrown<std::runtime_error>([&] { world.run(seven()); }) == "nothing");
}

TEST_CASE("deadlock: a timer or a waited-for descriptor is none",
          "[scheduler]") {
  World world;
  const Pair pipe = make_pipe();
  const auto reader = [&]() -> Task<> { co_await readable(pipe[0].get()); };
  const auto root = [&]() -> Task<> {
    spawn(reader);
    co_await violet::sleep(1s);
    support::put(pipe[1].get(), "x");
  };
  world.run(root());
}

TEST_CASE("deadlock: a Remote that is alive prevents it",
          "[scheduler][threads]") {
  Loop loop;
  const auto root = [&]() -> Task<int> {
    co_await stopping();
    co_return 3;
  };
  std::thread other([remote = loop.remote(), &loop] {
    remote.post([&loop] { loop.stop(); });
  });
  CHECK(loop.run(root()) == 3);
  other.join();
}

TEST_CASE("deadlock: it is found when the last Remote goes",
          "[scheduler][threads]") {
  Loop loop;
  const auto root = []() -> Task<> { co_await forever(); };
  std::thread other([remote = loop.remote()] { (void)remote; });
  CHECK_THROWS_AS(loop.run(root()), Deadlock);
  other.join();
}

TEST_CASE("deadlock: what a Remote has posted still counts once it is gone",
          "[scheduler]") {
  World world;
  bool posted = world.loop.remote().post([&] { world.loop.stop(); });
  CHECK(posted);
  const auto root = []() -> Task<int> {
    co_await stopping();
    co_return 3;
  };
  CHECK(world.run(root()) == 3);
}

TEST_CASE("deadlock: what another loop waits for does not hide it",
          "[scheduler]") {
  const Pair pipe = make_pipe();
  World other;
  const auto reader = [&]() -> Task<> { co_await readable(pipe[0].get()); };
  other.loop.spawn(reader);
  CHECK(other.loop.run_once());
  World world;
  std::string text;
  try {
    world.run(forever());
  } catch (const std::exception& e) {
    text = e.what();
  }
  CHECK(contains(text, "deadlock"));
  CHECK_FALSE(world.time.hung);
}

// -------------------------------------------------------------------- remote

TEST_CASE("post: a function runs between two steps, in order",
          "[scheduler][threads]") {
  Loop loop;
  std::string log;
  const auto root = [&]() -> Task<> {
    const Remote remote = loop.remote();
    std::thread other([remote, &log, &loop] {
      for (char name = 'a'; name < 'f'; ++name) {
        remote.post([&log, name] { log += name; });
      }
      remote.post([&loop] { loop.stop(); });
    });
    co_await stopping();
    other.join();
  };
  loop.run(root());
  CHECK(log == "abcde");
}

TEST_CASE("post: it reaches a loop that is busy", "[scheduler][threads]") {
  // Whether its Remote is still alive by then must not matter.
  const bool stays_alive = GENERATE(true, false);
  World world;
  bool told = false;
  int yields = 0;
  const auto root = [&]() -> Task<> {
    std::optional<Remote> kept;
    if (stays_alive) kept.emplace(world.loop.remote());
    std::thread other([remote = world.loop.remote(), &told] {
      remote.post([&told] { told = true; });
    });
    other.join();
    while (!told && yields < 10'000) {
      ++yields;
      co_await yield_now();
    }
  };
  world.run(root());
  CAPTURE(stays_alive);
  CHECK(told);
}

TEST_CASE("post: what it throws is a failure of the loop", "[scheduler]") {
  World world;
  const Remote remote = world.loop.remote();
  remote.post([] { throw std::runtime_error("posted"); });
  const auto root = []() -> Task<> { co_await violet::sleep(1h); };
  CHECK(thrown<std::runtime_error>([&] { world.run(root()); }) == "posted");
}

TEST_CASE("post: of two that throw, the second is a line on stderr",
          "[scheduler]") {
  World world;
  const Remote remote = world.loop.remote();
  remote.post([] { throw std::runtime_error("first post"); });
  remote.post([] { throw std::runtime_error("second post"); });
  const auto root = []() -> Task<> { co_await violet::sleep(1h); };
  std::string first;
  const std::string others = errors_of(
      [&] { first = thrown<std::runtime_error>([&] { world.run(root()); }); });
  CHECK(first == "first post");
  CHECK(contains(others, "second post"));
}

TEST_CASE("post: it is refused once the loop is gone", "[scheduler]") {
  std::optional<World> world(std::in_place);
  const Remote remote = world->loop.remote();
  world.reset();
  bool ran = false;
  CHECK_FALSE(remote.post([&] { ran = true; }));
  CHECK_FALSE(ran);
}

TEST_CASE("post: a function may spawn and kill", "[scheduler]") {
  World world;
  std::string log;
  const Remote remote = world.loop.remote();
  const auto root = [&]() -> Task<> {
    const Job<> doomed = spawn(forever);
    remote.post([&] {
      log += "post ";
      CHECK(doomed.kill("posted"));
      spawn(say, std::ref(log), "spawned");
    });
    co_await wait(doomed);
    log += "gone ";
  };
  world.run(root());
  CHECK(log == "post gone spawned ");
}

// ------------------------------------------------------------------ run_once

TEST_CASE("run_once: it makes one turn and says whether jobs are left",
          "[scheduler]") {
  World world;
  CHECK_FALSE(world.loop.run_once());
  std::string log;
  const auto body = [&]() -> Task<> {
    log += "a";
    co_await violet::sleep(1s);
    log += "b";
  };
  world.loop.spawn(body);
  CHECK(log.empty());
  CHECK(world.loop.run_once());
  CHECK(log == "a");
  CHECK(world.loop.run_once());
  CHECK(log == "a");
  CHECK(world.elapsed() == 0s);
  CHECK_FALSE(world.loop.run_once(10s));
  CHECK(log == "ab");
  CHECK(world.elapsed() == 1s);
}

TEST_CASE("run_once: it waits no longer than its timeout", "[scheduler]") {
  World world;
  world.loop.spawn(long_sleep);
  CHECK(world.loop.run_once());
  CHECK(world.loop.run_once(5s));
  CHECK(world.elapsed() == 5s);
}

TEST_CASE("run_once: a failure leaves through it, once", "[scheduler]") {
  World world;
  world.loop.spawn(throwing, "x");
  CHECK(thrown<std::runtime_error>([&] { world.loop.run_once(); }) == "x");
  CHECK_FALSE(world.loop.run_once());
}

TEST_CASE("run_once: next_deadline tells when the next turn must come",
          "[scheduler]") {
  World world;
  CHECK(world.loop.next_deadline() == kNever);
  const auto body = []() -> Task<> {
    co_await violet::sleep(3s);
    co_await yield_now();
  };
  world.loop.spawn(body);
  CHECK(world.loop.next_deadline() <= world.time.now());
  world.loop.run_once();
  CHECK(world.loop.next_deadline() == world.time.now() + 3s);
  world.loop.run_once(3s);
  CHECK(world.loop.next_deadline() == kNever);
}

TEST_CASE("run_once: fd() is readable when there is work",
          "[scheduler][libkqueue:poll]") {
  World world;
  const Pair pipe = make_pipe();
  bool done = false;
  const auto reader = [&]() -> Task<> {
    co_await readable(pipe[0].get());
    done = true;
  };
  world.loop.spawn(reader);
  world.loop.run_once();
  CHECK_FALSE(is_readable(world.loop.fd()));
  support::put(pipe[1].get(), "x");
  CHECK(is_readable(world.loop.fd()));
  CHECK_FALSE(world.loop.run_once());
  CHECK(done);
  CHECK_FALSE(is_readable(world.loop.fd()));
  const Remote remote = world.loop.remote();
  remote.post([&] { done = false; });
  CHECK(is_readable(world.loop.fd()));
  world.loop.run_once();
  CHECK_FALSE(done);
  CHECK_FALSE(is_readable(world.loop.fd()));
}

TEST_CASE("run_once: a job may give another loop its turns", "[scheduler]") {
  World outer;
  std::string log;
  const auto root = [&]() -> Task<> {
    World inner;
    const auto guest = [&]() -> Task<> {
      CHECK(&Loop::current() == &inner.loop);
      log += "guest ";
      co_await yield_now();
      spawn(say, std::ref(log), "friend");
      co_await violet::sleep(1s);
      log += "guest ";
    };
    inner.loop.spawn(guest);
    while (inner.loop.run_once(1h)) {
      CHECK(&Loop::current() == &outer.loop);
      log += "host ";
      co_await yield_now();
    }
    co_await violet::sleep(1s);
    log += "host ";
  };
  outer.run(root());
  CHECK(log == "guest friend host guest host ");
}

TEST_CASE("run_once: two loops on one thread alternate", "[scheduler]") {
  World a;
  World b;
  std::string log;
  const Pair pipe = make_pipe();
  const auto reader = [&]() -> Task<> {
    char buffer[8];
    for (int i = 0; i < 3; ++i) {
      const std::size_t count = co_await read(pipe[0].get(), buffer);
      log += "read" + std::to_string(count) + ' ';
    }
  };
  const auto writer = [&]() -> Task<> {
    for (int i = 0; i < 3; ++i) {
      log += "write ";
      const std::size_t count = co_await write(pipe[1].get(), "x");
      CHECK(count == 1);
      co_await violet::sleep(1s);
    }
  };
  a.loop.spawn(reader);
  b.loop.spawn(writer);
  for (int i = 0; i < 8; ++i) {
    a.loop.run_once();
    b.loop.run_once(1h);
  }
  CHECK(log == "write read1 write read1 write read1 ");
  CHECK_FALSE(a.loop.run_once());
}

TEST_CASE("run_once: inside a job of the same loop it is refused",
          "[scheduler]") {
  World world;
  std::string text;
  const auto root = [&]() -> Task<> {
    text = thrown<Misuse>([&] { world.loop.run_once(); });
    co_return;
  };
  world.run(root());
  CHECK(contains(text, "run_once"));
}

TEST_CASE(
    "run_once: inside a turn of the same loop it is refused, however deep",
    "[scheduler]") {
  World outer;
  World inner;
  std::string from_guest;
  std::string from_post;
  const auto guest = [&]() -> Task<> {
    from_guest = thrown<Misuse>([&] { outer.loop.run_once(); });
    co_return;
  };
  const auto host = [&]() -> Task<> {
    inner.loop.spawn(guest);
    inner.loop.run_once();
    co_return;
  };
  outer.run(host());
  CHECK(contains(from_guest, "from within one of its own jobs"));
  outer.loop.remote().post(
      [&] { from_post = thrown<Misuse>([&] { outer.loop.run_once(); }); });
  outer.loop.run_once();
  CHECK(contains(from_post, "run_once"));
  CHECK_FALSE(outer.loop.run_once());
}

TEST_CASE("run_once: on another thread it is refused", "[scheduler][threads]") {
  Loop loop;
  std::string text;
  support::Thread([&] {
    text = thrown<Misuse>([&] { loop.run_once(); });
  }).join();
  CHECK(contains(text, "on the thread that made it"));
}

TEST_CASE("run_once: timeout_ms is rounded up and has its limits",
          "[scheduler]") {
  World world;
  CHECK(world.loop.timeout_ms() == -1);
  const auto sleeping = [](Duration duration) -> Task<> {
    co_await violet::sleep(duration);
  };
  const Job<> years = world.loop.spawn(sleeping, 24h * 365);
  CHECK(world.loop.timeout_ms() == 0);
  world.loop.run_once();
  CHECK(world.loop.timeout_ms() == INT_MAX);
  const Job<> soon = world.loop.spawn(sleeping, 5001us);
  world.loop.run_once();
  CHECK(world.loop.timeout_ms() == 6);
  world.time.advance(1us);
  CHECK(world.loop.timeout_ms() == 5);
  world.time.advance(4999us);
  CHECK(world.loop.timeout_ms() == 1);
  world.time.advance(1h);
  CHECK(world.loop.timeout_ms() == 0);
  world.loop.run_once();
  CHECK(soon.ended());
}

TEST_CASE(
    "run_once: work that the host makes between turns makes fd() readable",
    "[scheduler][libkqueue:poll]") {
  World world;
  const int fd = world.loop.fd();
  support::Gate gate;
  const auto passes = [&]() -> Task<> { co_await gate.pass(); };
  const auto joins = [&](const Job<>& job) -> Task<> { co_await wait(job); };
  const auto turn = [&] {
    world.loop.run_once();
    return is_readable(fd);
  };
  CHECK_FALSE(is_readable(fd));
  const Job<> first = world.loop.spawn(passes);  // a spawn
  CHECK(is_readable(fd));
  CHECK_FALSE(turn());
  const Job<> second = world.loop.spawn(joins, std::cref(first));
  CHECK_FALSE(turn());
  gate.open();  // a wake-up
  CHECK(is_readable(fd));
  while (!second.ended()) CHECK_FALSE(turn());

  const Job<> third = world.loop.spawn(long_sleep);
  const Job<> fourth = world.loop.spawn(joins, std::cref(third));
  CHECK_FALSE(turn());
  third.kill();  // a kill, for which another job waits
  CHECK(is_readable(fd));
  while (!fourth.ended()) CHECK_FALSE(turn());

  Deadline deadline(world.time.now() + 5s);
  const auto limited = [&]() -> Task<> {
    support::Gate closed;
    co_await within(deadline, closed.pass());
  };
  const Job<> fifth = world.loop.spawn(limited);
  CHECK_FALSE(turn());
  deadline.move_to(world.time.now());  // a limit that is moved
  CHECK(is_readable(fd));
  while (!fifth.ended()) CHECK_FALSE(turn());
}

TEST_CASE("run_once: a loop that nobody polls is not told", "[scheduler]") {
  support::CountedLoop counted;
  const auto nothing = []() -> Task<> { co_return; };
  counted.loop.spawn(nothing);
  CHECK(counted.poller.wakes == 0);
  counted.loop.fd();
  for (int i = 0; i < 10; ++i) counted.loop.spawn(nothing);
  CHECK(counted.poller.wakes == 1);
  counted.loop.run_once();
  counted.loop.run_once();
  counted.loop.spawn(nothing);
  CHECK(counted.poller.wakes == 2);
  counted.loop.run_once();
  // Within a turn nobody needs to be told.
  const auto spawns = [&]() -> Task<> {
    const Job<> job = spawn(nothing);
    co_await join(job);
    co_await yield_now();
  };
  counted.loop.run(spawns());
  CHECK(counted.poller.wakes == 2);
}

TEST_CASE("run_once: a loop that goes tells the one that waits for it",
          "[scheduler]") {
  auto inner = std::make_unique<Loop>();
  const auto host = [](int fd) -> Task<> { co_await readable(fd); };
  Loop outer;
  const Job<> job = outer.spawn(host, inner->fd());
  CHECK(outer.run_once());
  inner.reset();
  outer.run_once();
  REQUIRE(job.ended());
  std::string text = thrown<std::system_error>([&] {
    const auto joins = [&]() -> Task<> { co_await join(job); };
    outer.run(joins());
  });
  CHECK(contains(text, "readable fd"));
  CHECK(contains(text, "Bad file descriptor"));
}

TEST_CASE("run_once: a job may join one of another loop", "[scheduler]") {
  World a;
  World b;
  int value = 0;
  const Job<int> target = a.loop.spawn(seven);
  const auto joiner = [&]() -> Task<> {
    const int result = co_await join(target);
    value = result;
  };
  b.loop.spawn(joiner);
  CHECK(b.loop.run_once());
  CHECK(value == 0);
  a.loop.run_once();
  CHECK(value == 0);
  b.loop.run_once();
  CHECK(value == 7);
}

// ------------------------------------------------------------- life of a loop

TEST_CASE("loop: its end destroys the frames of all its jobs", "[scheduler]") {
  const Footprint before;
  std::string log;
  {
    const Pair pipe = make_pipe();
    World world;
    const auto sleeping = [&]() -> Task<> {
      const Witness witness(log, "sleeping");
      co_await violet::sleep(1h);
    };
    const auto reading = [&]() -> Task<> {
      const Witness witness(log, "reading");
      co_await readable(pipe[0].get());
    };
    const auto unstarted = [](Witness) -> Task<> { co_return; };
    world.loop.spawn(sleeping);
    world.loop.spawn(reading);
    world.loop.run_once();
    world.loop.spawn(unstarted, Witness(log, "unstarted"));
  }
  CHECK(log == "+sleeping +reading +unstarted -unstarted -reading -sleeping ");
  CHECK(Footprint() == before);
}

TEST_CASE("loop: a failure that nobody asked for is told at its end",
          "[scheduler]") {
  const std::string told = support::errors_of([] {
    World world;
    const auto fails = []() -> Task<> {
      co_await yield_now();
      throw std::runtime_error("not to be lost");
    };
    const auto root = []() -> Task<> { co_await violet::sleep(1s); };
    Job<> job = world.loop.spawn(fails);
    world.run(root());
    job = Job<>();
  });
  CHECK(contains(told, "not to be lost"));
}

TEST_CASE("loop: SIGPIPE is ignored under run_once, too", "[scheduler]") {
  const auto end = in_child([] {
    ::signal(SIGPIPE, SIG_DFL);
    World world;
    const auto body = []() -> Task<> {
      Pair pipe = support::make_pipe();
      pipe[0].reset();
      std::error_code code;
      co_await write(pipe[1].get(), "x", code);
      if (code != std::errc::broken_pipe) std::abort();
    };
    world.loop.spawn(body);
    while (world.loop.run_once()) {
    }
  });
  CHECK(end.signal == 0);
  CHECK(end.status == 0);
}

TEST_CASE("loop: a job that is spawned while it ends dies as well",
          "[scheduler]") {
  const auto end = in_child([] {
    bool ran = false;
    const auto late = [&]() -> Task<> {
      ran = true;
      co_return;
    };
    {
      World world;
      const auto body = [&]() -> Task<> {
        const AtEnd spawns([&] { spawn(late); });
        co_await forever();
      };
      world.loop.spawn(body);
      world.loop.run_once();
    }
    if (ran) std::abort();
  });
  CHECK(end.signal == 0);
  CHECK(end.errors == "");
}

TEST_CASE("loop: destroyed from within its own job it ends the process",
          "[scheduler]") {
  const auto end = in_child([] {
    auto loop = std::make_unique<Loop>();
    const auto body = [&]() -> Task<> {
      loop.reset();
      co_return;
    };
    loop->spawn(body);
    loop->run_once();
  });
  CHECK(end.signal == SIGABRT);
  CHECK(contains(end.errors, "from within its own job"));
}

TEST_CASE("loop: a handle may outlive it", "[scheduler]") {
  const Footprint before;
  {
    Job<> job;
    {
      World world;
      job = world.loop.spawn(forever);
      world.loop.run_once();
    }
    CHECK(job.ended());
    CHECK(job.killed());
    CHECK(job.kill());
    CHECK(job.error() == nullptr);
  }
  CHECK(Footprint() == before);
}

TEST_CASE("loop: a thread may have fifteen, and the next is refused",
          "[scheduler]") {
  std::vector<std::unique_ptr<Loop>> loops;
  for (int i = 0; i < 15; ++i) loops.push_back(std::make_unique<Loop>());
  CHECK(contains(thrown<Misuse>([] { Loop loop; }), "15 loops"));
  loops.pop_back();
  CHECK(run(seven()) == 7);
}

TEST_CASE("loop: threads have loops of their own", "[scheduler][threads]") {
  int sums[2] = {};
  const auto work = [&](int which) {
    const auto child = [](int n) -> Task<int> {
      co_await violet::sleep(1ns * n);
      co_return n;
    };
    const auto root = [&]() -> Task<int> {
      int sum = 0;
      for (int i = 0; i < 100; ++i) {
        const int value = co_await join(spawn(child, i));
        sum += value;
      }
      co_return sum;
    };
    World world;
    sums[which] = world.run(root());
  };
  std::thread other(work, 0);
  work(1);
  other.join();
  CHECK(sums[0] == 4950);
  CHECK(sums[1] == 4950);
}

// ------------------------------------------------------------------ fairness

TEST_CASE("fairness: a job that never has to wait does not starve another",
          "[scheduler]") {
  World world;
  const Fd zero(::open("/dev/zero", O_RDONLY | O_CLOEXEC));
  int reads = 0;
  int at_first_step = -1;
  bool stop = false;
  const auto busy = [&]() -> Task<> {
    char buffer[16];
    while (!stop) {
      const std::size_t count = co_await read(zero.get(), buffer);
      CHECK(count == sizeof buffer);
      ++reads;
    }
  };
  const auto root = [&]() -> Task<> {
    spawn(busy);
    co_await yield_now();
    at_first_step = reads;
    co_await yield_now();
    stop = true;
  };
  world.run(root());
  CHECK(at_first_step == 32);
}

TEST_CASE("fairness: nor a timer", "[scheduler]") {
  World world;
  const Fd zero(::open("/dev/zero", O_RDONLY | O_CLOEXEC));
  int reads = 0;
  bool stop = false;
  const auto busy = [&]() -> Task<> {
    char buffer[16];
    while (!stop && reads < 1'000'000) {
      const std::size_t count = co_await read(zero.get(), buffer);
      CHECK(count == sizeof buffer);
      ++reads;
      world.time.advance(1us);
    }
  };
  const auto root = [&]() -> Task<> {
    spawn(busy);
    co_await violet::sleep(10us);
    stop = true;
  };
  world.run(root());
  CHECK(reads <= 2 * 32 * 128);
}

TEST_CASE("fairness: nor a descriptor", "[scheduler]") {
  World world;
  const Pair pipe = make_pipe();
  int yields = 0;
  bool stop = false;
  const auto busy = [&]() -> Task<> {
    while (!stop && yields < 1'000'000) {
      ++yields;
      co_await yield_now();
    }
  };
  const auto root = [&]() -> Task<> {
    spawn(busy);
    support::put(pipe[1].get(), "x");
    co_await readable(pipe[0].get());
    char buffer[1];
    std::size_t count = co_await read(pipe[0].get(), buffer);
    support::put(pipe[1].get(), "x");
    count += co_await read(pipe[0].get(), buffer);
    CHECK(count == 2);
    stop = true;
  };
  world.run(root());
  CHECK(yields <= 128 * 4);
}

TEST_CASE("fairness: jobs that yield do not keep a timer from firing",
          "[scheduler]") {
  World world;
  long yields = 0;
  bool stop = false;
  const auto busy = [&]() -> Task<> {
    while (!stop && yields < 1'000'000) {
      ++yields;
      world.time.advance(1us);
      co_await yield_now();
    }
  };
  const auto root = [&]() -> Task<> {
    for (int i = 0; i < 10; ++i) spawn(busy);
    co_await violet::sleep(10ms);
    stop = true;
  };
  world.run(root());
  CHECK(yields >= 10'000);
  CHECK(yields <= 10'000 + 2 * 128);
}

TEST_CASE("fairness: a write that never has to wait is divided as well",
          "[scheduler]") {
  World world;
  const MaybeShortIo io;
  // One byte at a time, so a long write takes many calls.
  support::ShortCalls calls;
  const support::ScopedCalls installed(calls);
  const Pair pipe = make_pipe();
  int turns = 0;
  bool done = false;
  const auto other = [&]() -> Task<> {
    while (!done) {
      ++turns;
      co_await yield_now();
    }
  };
  const auto root = [&]() -> Task<> {
    spawn(other);
    const std::string text(1000, 'w');
    const std::size_t count = co_await write(pipe[1].get(), text);
    CHECK(count == 1000);
    done = true;
  };
  world.run(root());
  CHECK(turns >= 1000 / 33);
}
