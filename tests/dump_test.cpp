// dump_test.cpp - what the loop tells about its jobs.
// SPDX-License-Identifier: MIT
#include "catch.hpp"

#include <string>
#include <string_view>

#include "../runtime/events.hpp"
#include "../runtime/within.hpp"
#include "script.hpp"

namespace {

using namespace script;

std::string at(int line) {
  return "dump_test.cpp:" + std::to_string(line);
}

/// The line of `text` that has `part` in it, without what is in it of it.
std::string line_with(std::string_view text, std::string_view part) {
  const std::size_t found = text.find(part);
  if (found == std::string_view::npos) return {};
  const std::size_t begin = text.rfind('\n', found) + 1;
  return std::string(text.substr(begin, text.find('\n', found) - begin));
}

Task<> nameless() {
  co_await violet::sleep(5s);
}

}  // namespace

// A name of its own, for compilers print that of no other in the same way.
namespace dumped {

using namespace script;

int inner_line = 0;
int middle_line = 0;
int outer_line = 0;

Task<> inner_frame() {
  inner_line = __LINE__ + 1;
  co_await violet::sleep(10s);
}

Task<> middle_frame() {
  middle_line = __LINE__ + 1;
  co_await inner_frame();
}

Task<> outer_frame() {
  outer_line = __LINE__ + 1;
  co_await middle_frame();
}

Task<> sleeper() {
  co_await violet::sleep(5s);
}

Task<> joiner(const Job<>& target) {
  co_await join(target);
}

Task<> reader(int fd) {
  char buffer[8];
  const std::size_t count = co_await read(fd, buffer);
  CHECK(count == 0);
}

Task<> yielder() {
  co_await yield_now();
  co_await yield_now();
}

Task<> unstarted() {
  co_return;
}

}  // namespace dumped

using namespace dumped;

TEST_CASE("dump: an empty loop has no jobs", "[dump]") {
  World world;
  CHECK(world.loop.dump() == "0 jobs\n");
}

TEST_CASE("dump: a job that has not started says so", "[dump]") {
  World world;
  world.loop.spawn(unstarted);
  CHECK(world.loop.dump() == "1 job\n#1 job: not started; age 0.0 s\n");
}

TEST_CASE("dump: a job is found by its number until it has ended", "[dump]") {
  World world;
  const Job<> first = world.loop.spawn(sleeper);
  const Job<> second = world.loop.spawn(unstarted);
  CHECK(world.loop.find(first.id()) == first.block());
  CHECK(world.loop.find(second.id()) == second.block());
  world.loop.run_once();
  CHECK(world.loop.find(first.id()) == first.block());
  CHECK(world.loop.find(second.id()) == nullptr);
  CHECK(world.loop.find(0) == nullptr);
}

TEST_CASE("dump: a sleeping job tells how long it still sleeps", "[dump]") {
  World world;
  world.loop.spawn(sleeper);
  world.loop.run_once();
  world.loop.run_once(2s);
  const std::string text = world.loop.dump();
  const std::string line = line_with(text, "#1 ");
  CHECK(contains(line,
                 "#1 dumped::sleeper: waiting for sleep, 3.0 s left, 2.0 s"));
  CHECK(contains(line, "; age 2.0 s"));
  CHECK(contains(text, "\n    dumped::sleeper at dump_test.cpp:"));
}

TEST_CASE("dump: a function without a namespace's name has its own", "[dump]") {
  World world;
  world.loop.spawn(nameless);
  world.loop.run_once();
  CHECK(contains(world.loop.dump(), "nameless: waiting for sleep"));
  CHECK(contains(world.loop.dump(), "nameless at dump_test.cpp:"));
}

TEST_CASE("dump: a joining job names the other", "[dump]") {
  World world;
  Job<> target = world.loop.spawn(sleeper);
  world.loop.spawn(joiner, std::ref(target));
  world.loop.run_once();
  const std::string line = line_with(world.loop.dump(), "#2 ");
  CHECK(contains(line, "#2 dumped::joiner: waiting for join #1, 0.0 s"));
}

TEST_CASE("dump: a reading job names its descriptor", "[dump]") {
  World world;
  const Pair pipe = make_pipe();
  const int fd = pipe[0].get();
  world.loop.spawn(reader, fd);
  world.loop.run_once();
  const std::string line = line_with(world.loop.dump(), "#1 ");
  CHECK(contains(line, "waiting for read fd " + std::to_string(fd)));
}

TEST_CASE("dump: a waiting write tells how far it is", "[dump]") {
  World world;
  const Pair pipe = make_pipe();
  const std::size_t room = support::fill(pipe[1].get());
  CHECK(room > 0);
  const auto writer = [&]() -> Task<> {
    const std::size_t count = co_await write(pipe[1].get(), "hello");
    CHECK(count == 5);
  };
  world.loop.spawn(writer);
  world.loop.run_once();
  CHECK(contains(
      world.loop.dump(),
      "waiting for write fd " + std::to_string(pipe[1].get()) + " 0/5"));
}

TEST_CASE("dump: a limit tells how long it is", "[dump]") {
  World world;
  const auto body = []() -> Task<> {
    const bool done = co_await within(1500ms, stopping());
    CHECK_FALSE(done);
  };
  world.loop.spawn(body);
  world.loop.run_once();
  CHECK(contains(world.loop.dump(), "waiting for stopping within 1500 ms"));
}

TEST_CASE("dump: a ready job and the one that runs say so", "[dump]") {
  World world;
  std::string text;
  const auto root = [&]() -> Task<> {
    spawn(yielder);
    co_await yield_now();
    text = world.loop.dump();
  };
  world.run(root());
  CHECK(contains(text, "2 jobs\n"));
  CHECK(contains(line_with(text, "#1 "), ": running; age 0.0 s"));
  CHECK(
      contains(line_with(text, "#2 "), "#2 dumped::yielder: ready; age 0.0 s"));
}

TEST_CASE("dump: a job tells where it was spawned", "[dump]") {
  World world;
  std::string text;
  int line = 0;
  const auto root = [&]() -> Task<> {
    line = __LINE__ + 1;
    spawn(sleeper);
    co_await yield_now();
    text = world.loop.dump();
  };
  world.run(root());
  CHECK(contains(line_with(text, "#2 "), ", spawned at " + at(line)));
}

TEST_CASE("dump: a stack is shown from the innermost await outwards",
          "[dump]") {
  World world;
  world.loop.spawn(outer_frame);
  world.loop.run_once();
  const std::string text = world.loop.dump();
  CHECK(contains(text, "#1 dumped::outer_frame: waiting for sleep"));
  CHECK(contains(text, "    dumped::inner_frame at " + at(inner_line) +
                           "\n    dumped::middle_frame at " + at(middle_line) +
                           "\n    dumped::outer_frame at " + at(outer_line) +
                           "\n"));
}

TEST_CASE("dump: the jobs of groups are there as well", "[dump]") {
  World world;
  std::string text;
  const auto root = [&]() -> Task<> {
    Nursery nursery;
    nursery.spawn(sleeper);
    co_await yield_now();
    text = world.loop.dump();
  };
  world.run(root());
  CHECK(contains(text, "2 jobs\n"));
  CHECK(contains(text, "#2 dumped::sleeper: waiting for sleep"));
}

TEST_CASE("dump: it can be taken at every moment of a program", "[dump]") {
  // With a budget of 0 each event also stands in the ready queue before its
  // first attempt, when it is registered with nothing yet.
  const auto end = in_child([] {
    World world(0);
    const auto body = []() -> Task<> {
      co_await wait(Job<>());
      co_await violet::sleep(1ms);
      co_await kill(Job<>());
      const bool done = co_await within(1ms, stopping());
      (void)done;
      const Job<> job = spawn(sleeper);
      const bool joined = co_await within(1ms, join(job));
      (void)joined;
      co_await kill(job);
    };
    const auto root = [&]() -> Task<> {
      const Job<> job = spawn(body);
      while (!job.ended()) {
        if (world.loop.dump().empty()) std::abort();
        world.time.advance(100us);
        co_await yield_now();
      }
    };
    world.run(root());
  });
  CHECK(end.signal == 0);
  CHECK(end.status == 0);
  CHECK(end.errors == "");
}
