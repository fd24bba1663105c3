// embedding_test.cpp - a loop as a guest in poll(2), libuv, GLib, or Violet.
//
// The hosts are the programs in tests/embedding, which are also the examples
// of how to do it. Where a host's library is not installed, its test says so
// and is left out.
//
// SPDX-License-Identifier: MIT
#include "catch.hpp"

#include <poll.h>
#include <signal.h>

#include <atomic>
#include <cstdio>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "../runtime/channel.hpp"
#include "../runtime/combine.hpp"
#include "../runtime/signal_events.hpp"
#include "program.hpp"
#include "support.hpp"

using namespace violet;
using namespace support;
using namespace std::chrono_literals;
using programs::Program;

namespace {

using Words = std::vector<std::string>;

Words words_of(const std::string& text) {
  std::istringstream words(text);
  Words all;
  for (std::string word; words >> word;) all.push_back(word);
  return all;
}

/// What pkg-config says; with `known` false it knows no such package.
Words package(const std::string& name, const std::string& what, bool& known) {
  Program asks({"pkg-config", what, name});
  known = asks.wait().code == 0;
  return words_of(asks.out());
}

/// Compiles a host and runs it. Returns: what it says.
std::string output_of(const std::string& host, const Words& flags,
                      const Words& libs) {
  const std::string target = programs::build_path("embedding_" + host);
  Words command = programs::compile_command(
      programs::compiler_command(),
      {"-pthread", "-o", target, "tests/embedding/" + host + ".cpp"});
  for (const std::string& flag : flags) {
    const bool folder = flag.starts_with("-I");  // their warnings are theirs
    command.push_back(folder ? "-isystem" + flag.substr(2) : flag);
  }
  for (const std::string& lib : programs::libraries()) command.push_back(lib);
  command.insert(command.end(), libs.begin(), libs.end());
  Program compiler(command);
  const int compiled = compiler.wait().code;
  CAPTURE(compiler.err());
  REQUIRE(compiled == 0);
  CHECK(compiler.err() == "");
  Program program({target});
  CHECK(program.wait().code == 0);
  CHECK(program.err() == "");
  return program.out();
}

void works_in(const std::string& host, const Words& flags = {},
              const Words& libs = {}) {
  CHECK(output_of(host, flags, libs) ==
        "signal\n"
        "work of the host\n"
        "timers 10, posts 100, bytes 100\n"
        "turns while idle: 0\n");
}

void works_with_package(const std::string& host, const std::string& name,
                        const std::string& debian) {
  bool known = false;
  const Words flags = package(name, "--cflags", known);
  if (programs::compiler().size() > 1) {  // "zig c++ -target ..."
    std::printf("embedding: left out %s: not for another system\n",
                host.c_str());
    return;
  }
  if (!known) {
    std::printf("embedding: left out %s: pkg-config knows no %s (%s)\n",
                host.c_str(), name.c_str(), debian.c_str());
    return;
  }
  works_in(host, flags, package(name, "--libs", known));
}

bool is_readable(int fd) {
  pollfd one{fd, POLLIN, 0};
  return ::poll(&one, 1, 0) == 1;
}

/// A host as small as can be. Returns: how many turns the guest had.
int host(Loop& guest) {
  int turns = 1;
  while (guest.run_once()) {
    pollfd one{guest.fd(), POLLIN, 0};
    ::poll(&one, 1, guest.timeout_ms());
    ++turns;
  }
  return turns;
}

/// The same in a job of another loop.
Task<int> host_in_violet(Loop& guest) {
  int turns = 1;
  while (guest.run_once()) {
    Deadline next(guest.next_deadline());
    co_await within(next, readable(guest.fd()));
    ++turns;
  }
  co_return turns;
}

Task<> nap(Duration duration) {
  co_await violet::sleep(duration);
}

}  // namespace

// ------------------------------------------------------------------ the hosts

TEST_CASE("embedding: in a loop around poll(2) all goes on, and rest is free",
          "[embedding][libkqueue:poll]") {
  works_in("poll");
}

TEST_CASE("embedding: in another Violet loop all goes on, and rest is free",
          "[embedding][libkqueue:poll]") {
  works_in("violet");
}

TEST_CASE("embedding: in libuv all goes on, and rest is free",
          "[embedding][libkqueue:poll]") {
  works_with_package("libuv", "libuv", "Debian: libuv1-dev");
}

TEST_CASE("embedding: in GLib all goes on, and rest is free",
          "[embedding][libkqueue:poll]") {
  works_with_package("glib", "glib-2.0", "Debian: libglib2.0-dev");
}

// ------------------------------------------------------------ how many turns

TEST_CASE("embedding: a deadline that has passed does not make a host spin",
          "[embedding][libkqueue:poll]") {
  Loop guest;
  guest.spawn(nap, 20ms);
  CHECK(host(guest) == 2);
  const Job<> job = guest.spawn(nap, 1ms);
  guest.run_once();
  std::this_thread::sleep_for(3ms);
  CHECK(guest.next_deadline() < guest.now());
  CHECK(guest.timeout_ms() == 0);
  guest.run_once();
  CHECK(job.ended());
  CHECK(guest.next_deadline() == kNever);
}

TEST_CASE("embedding: timers cost one turn each, in Violet as well",
          "[embedding][libkqueue:poll]") {
  const auto naps = []() -> Task<> {
    for (int i = 0; i < 10; ++i) co_await violet::sleep(1500us);
  };
  Loop guest;
  guest.spawn(naps);
  CHECK(host(guest) == 11);
  guest.spawn(naps);
  CHECK(run(host_in_violet(guest)) == 11);
}

TEST_CASE("embedding: news that concern nobody are gone after one turn",
          "[embedding][libkqueue:poll]") {
  Loop guest;
  guest.spawn(nap, 1h);
  guest.run_once();
  const int fd = guest.fd();
  guest.remote().post([] {});  // and a Remote goes
  CHECK(is_readable(fd));
  CHECK(guest.run_once());
  CHECK_FALSE(is_readable(fd));
  CHECK(guest.run_once());  // though there is nothing to do
  CHECK(guest.timeout_ms() > 3'000'000);
}

TEST_CASE("embedding: more descriptors than one turn takes are not forgotten",
          "[embedding][libkqueue:poll][libkqueue:crowd]") {
  constexpr int kMany = 400;
  const programs::ManyDescriptors many;
  std::vector<Pair> pipes;
  int done = 0;
  const auto reads = [](int fd, int& count) -> Task<> {
    co_await readable(fd);
    ++count;
  };
  Loop guest;
  for (int i = 0; i < kMany; ++i) {
    pipes.push_back(make_pipe());
    guest.spawn(reads, pipes.back()[0].get(), std::ref(done));
  }
  while (guest.timeout_ms() == 0) guest.run_once();
  CHECK(done == 0);
  for (Pair& pipe : pipes) put(pipe[1].get(), "x");
  CHECK(run(host_in_violet(guest)) < 20);
  CHECK(done == kMany);
}

TEST_CASE("embedding: a busy guest lets its host have its turns",
          "[embedding][libkqueue:poll]") {
  Loop guest;
  int steps = 0;
  const auto busy = [](int& count) -> Task<> {
    for (; count < 10'000; ++count) co_await yield_now();
  };
  guest.spawn(busy, std::ref(steps));
  CHECK(host(guest) > 50);
  CHECK(steps == 10'000);
}

// --------------------------------------------------------- between two loops

TEST_CASE("embedding: jobs of two loops of a thread pass items to each other",
          "[embedding][libkqueue:poll]") {
  Channel<int> there(1);
  Channel<int> back(0);
  Loop guest;
  const auto doubles = [](Channel<int>& in, Sender<int> out) -> Task<> {
    while (auto number = co_await in.recv()) co_await out.send(*number * 2);
  };
  const auto asks = [](Sender<int> out, Channel<int>& in) -> Task<int> {
    int sum = 0;
    for (int i = 1; i <= 50; ++i) {
      co_await out.send(i);
      const auto doubled = co_await in.recv();
      sum += *doubled;
    }
    co_return sum;
  };
  guest.spawn(doubles, std::ref(there), back.sender());
  const auto body = [&]() -> Task<int> {
    const Job<int> asking = spawn(asks, there.sender(), std::ref(back));
    const Job<int> hosting = spawn(host_in_violet, std::ref(guest));
    const int sum = co_await join(asking);
    co_await join(hosting);
    co_return sum;
  };
  CHECK(run(body()) == 2550);
}

TEST_CASE("embedding: a limit that the host brings nearer counts",
          "[embedding][libkqueue:poll]") {
  Loop guest;
  Gate gate;
  Deadline far(1h + guest.now());
  const auto waits = [](Gate& closed, Deadline& limit) -> Task<> {
    const bool passed = co_await within(limit, closed.pass());
    CHECK_FALSE(passed);
  };
  guest.spawn(waits, std::ref(gate), std::ref(far));
  const auto moves = [](Deadline& limit) -> Task<> {
    co_await violet::sleep(5ms);
    limit.move(1ms);
  };
  const auto body = [&]() -> Task<> {
    spawn(moves, std::ref(far));
    const int turns = co_await host_in_violet(guest);
    CHECK(turns < 6);
  };
  run(body());
}

TEST_CASE("embedding: loops nest three deep", "[embedding][libkqueue:poll]") {
  Loop innermost;
  Loop middle;
  innermost.spawn(nap, 5ms);
  middle.spawn(host_in_violet, std::ref(innermost));
  CHECK(run(host_in_violet(middle)) < 10);
}

TEST_CASE("embedding: a killed host leaves the guest as it is",
          "[embedding][libkqueue:poll]") {
  Loop guest;
  const Job<> job = guest.spawn(nap, 10ms);
  const auto body = [&]() -> Task<> {
    const Job<int> first = spawn(host_in_violet, std::ref(guest));
    co_await yield_now();
    first.kill();
    co_await host_in_violet(guest);
  };
  run(body());
  CHECK(job.ended());
}

TEST_CASE("embedding: a guest that is destroyed ends its host's wait",
          "[embedding][libkqueue:poll]") {
  auto guest = std::make_unique<Loop>();
  guest->spawn(nap, 1h);
  const auto waits = [](int fd, std::error_code& code) -> Task<> {
    try {
      co_await readable(fd);
    } catch (const std::system_error& error) {
      code = error.code();
    }
  };
  const auto body = [&]() -> Task<> {
    guest->run_once();
    std::error_code code;
    const Job<> job = spawn(waits, guest->fd(), std::ref(code));
    co_await yield_now();
    guest.reset();
    co_await join(job);
    CHECK(code == std::errc::bad_file_descriptor);
  };
  run(body());
}

TEST_CASE("embedding: a signal ends the wait of a host",
          "[embedding][libkqueue:poll]") {
  Loop guest;
  Signals news({SIGUSR2});
  const auto hears = [](Signals& all) -> Task<> {
    const int which = co_await all.next();
    CHECK(which == SIGUSR2);
  };
  guest.spawn(hears, std::ref(news));
  std::atomic<bool> begun = false;
  Thread sender([&] {
    while (!begun) std::this_thread::yield();
    ::kill(::getpid(), SIGUSR2);
  });
  guest.run_once();
  begun = true;
  CHECK(host(guest) <= 4);
}
