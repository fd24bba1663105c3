// size_test.cpp - what an idle connection and a small program cost.
//
// The figures are printed with every run of this test; the limits hold for
// optimized builds. How long something takes is printed only: machines differ.
//
// SPDX-License-Identifier: MIT
#include "catch.hpp"

#include <sys/stat.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <string>

#include "../net/net.hpp"
#include "program.hpp"
#include "support.hpp"

using namespace violet;
using namespace programs;

namespace {

#ifdef __OPTIMIZE__
constexpr bool kOptimized = !support::kSanitized;
#else
constexpr bool kOptimized = false;
#endif

Task<> echo(Connection conn) {
  while (auto data = co_await conn.recv()) co_await conn.sendall(data);
}

/// What one more frame of an echo handler takes from a fresh pool.
std::size_t bytes_of_frame() {
  std::size_t bytes = 0;
  // Through a pointer, or clang would put the frames on the native stack.
  Task<> (*volatile make)(Connection) = echo;
  support::in_a_thread([&] {
    auto first = make(Connection()).release();
    auto second = make(Connection()).release();
    bytes = static_cast<std::size_t>(static_cast<char*>(second.address()) -
                                     static_cast<char*>(first.address()));
    second.destroy();
    first.destroy();
  });
  return bytes;
}

/// Runs a command. Returns: how long it took, in seconds.
double seconds_of(const std::vector<std::string>& command) {
  const auto start = std::chrono::steady_clock::now();
  Program program(command);
  const End end = program.wait();
  CAPTURE(program.err());
  REQUIRE(end.code == 0);
  const std::chrono::duration<double> took =
      std::chrono::steady_clock::now() - start;
  return took.count();
}

}  // namespace

TEST_CASE("size: an idle connection takes no more than 400 bytes", "[size]") {
  using EchoJob = internal::VisitorsJob;
  const std::size_t frame = kPooled ? bytes_of_frame() : 0;
  std::printf(
      "size: %s: echo handler's frame %zu bytes, its job %zu, slot %zu, "
      "event %zu, recv %zu, sendall %zu\n",
      compiler_name().c_str(), frame, sizeof(EchoJob), sizeof(Slot),
      sizeof(Event), sizeof(RecvChunkEvent), sizeof(SendAllEvent));
  CHECK(sizeof(Slot) == 64);
  CHECK(sizeof(EchoJob) <= 128);
  CHECK(sizeof(Event) <= 24);
  CHECK(sizeof(RecvChunkEvent) <= 32);
  if (kOptimized) CHECK(frame + sizeof(EchoJob) + sizeof(Slot) <= 400);
}

TEST_CASE("size: the stripped echo server is under 150 KB", "[size]") {
  TemporaryFolder folder;
  const std::string stripped = folder.file("echo");
  seconds_of({"strip", "-o", stripped, build_path("echo")});
  struct stat status{};
  REQUIRE(::stat(stripped.c_str(), &status) == 0);
  std::printf("size: stripped echo server %lld bytes\n",
              static_cast<long long>(status.st_size));
#ifdef VIOLET_KQUEUE
  constexpr long kMost = 155'000;  // its poller takes one page more
#else
  constexpr long kMost = 150'000;
#endif
  if (kOptimized) CHECK(status.st_size < kMost);
}

TEST_CASE("size: a first program needs no heavy header", "[size]") {
  TemporaryFolder folder;
  const std::string source = folder.file("hello.cpp");
  std::ofstream(source) << "#include <violet.hpp>\n"
                           "using namespace violet;\n"
                           "Task<> hello() {\n"
                           "  print_line(\"hello world\");\n"
                           "  co_return;\n"
                           "}\n"
                           "int main() { return run_program(hello()); }\n";
  const auto command = compile_command(compiler(), {"-O0"});
  auto compile = command;
  compile.insert(compile.end(), {"-c", source, "-o", folder.file("hello.o")});
  std::printf("size: hello world compiles at -O0 in %.2f s\n",
              seconds_of(compile));
  auto list = command;
  list.insert(list.end(), {"-M", source, "-MF", folder.file("headers")});
  seconds_of(list);
  const std::string headers = contents(folder.file("headers"));
  REQUIRE(support::contains(headers, "/coroutine"));
#ifdef _LIBCPP_VERSION  // which includes each of them by itself
  return;
#endif
  for (const char* heavy : {"iostream", "functional", "map", "regex"}) {
    CAPTURE(heavy);
    const std::string name = std::string("/") + heavy;
    CHECK_FALSE(support::contains(headers, name + " "));
    CHECK_FALSE(support::contains(headers, name + "\n"));
  }
}
