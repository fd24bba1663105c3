// no_exceptions_test.cpp - what is compiled without exceptions and RTTI works.
//
// Builds the library and the programs so, with the compiler of this build,
// and runs no_exceptions/program.cpp: with error codes it works as always;
// what would throw ends it, with the sentence that the exception would have
// had.
//
// SPDX-License-Identifier: MIT
#include "catch.hpp"

#include <csignal>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "program.hpp"
#include "support.hpp"

using namespace programs;
using support::contains;

namespace {

const char* const kProgram = "tests/no_exceptions/program.cpp";

std::string folder() {
  return build_path("no_exceptions");
}
std::string path_in(const std::string& name) {
  return folder() + '/' + name;
}

/// A shell that runs make with the words that follow, and then a command.
/// Neither make's own settings nor those of the build under test have a say.
std::vector<std::string> make_and(const std::string& then,
                                  std::vector<std::string> words) {
  words.insert(words.begin(),
               {"sh", "-c",
                "unset MAKEFLAGS MFLAGS MAKELEVEL CPPFLAGS LDFLAGS; "
                "make \"$@\"; " +
                    then,
                "sh"});
  return words;
}

/// Makes library and programs, once. All of it may take long, but no line
/// of make's output does.
void make_all() {
  static const bool made = [] {
    Program make(make_and(
        "echo $?",
        {"CXX=" + compiler_name(), "OPT=-O0", "WERROR=1",
         "SAN=", "CXXFLAGS=-fno-exceptions -fno-rtti", "BUILD=" + folder()}));
    std::string line = make.line();
    while (line != "0" && line != "2") line = make.line();
    make.wait();
    UNSCOPED_INFO(make.err());
    return line == "0";
  }();
  REQUIRE(made);
}

/// Starts to compile a source into `target`, as users do.
std::unique_ptr<Program> start_to_build(const std::string& source,
                                        const std::string& target,
                                        const std::string& library,
                                        bool without) {
  std::vector<std::string> command = compiler();  // and no sanitizers
  command.insert(command.end(), {"-std=c++20", "-Wall", "-Wextra", "-Werror",
                                 "-pthread", "-I" + build_path("include")});
  if (without) {
    command.insert(command.end(), {"-fno-exceptions", "-fno-rtti"});
  }
  command.insert(command.end(), {"-o", target, source});
  for (const std::string& one : libraries(library)) command.push_back(one);
  return std::make_unique<Program>(command);
}

/// The path of no_exceptions/program.cpp, compiled.
const std::string& program_path() {
  static const std::string path = [] {
    make_all();
    const std::string target = path_in("program");
    const auto built =
        start_to_build(kProgram, target, path_in("libviolet.a"), true);
    const End end = built->wait();
    CAPTURE(built->err());
    REQUIRE(end.code == 0);
    CHECK(built->err() == "");
    return target;
  }();
  return path;
}

/// Runs a command that is to abort, without a core file. Returns: its stderr.
std::string last_words(const std::vector<std::string>& command) {
  std::vector<std::string> quiet{"sh", "-c", "ulimit -c 0; exec \"$@\"", "sh"};
  quiet.insert(quiet.end(), command.begin(), command.end());
  Program program(quiet);
  CHECK(program.wait().signal == SIGABRT);
  CHECK(program.out() == "");
  return program.err();
}
std::string last_words_in(const std::string& mode) {
  return last_words({program_path(), mode});
}

/// What a mode that works says.
std::string output_in(const std::string& mode) {
  Program program({program_path(), mode});
  CHECK(program.wait().code == 0);
  CHECK(program.err() == "");
  return program.out();
}

}  // namespace

TEST_CASE("no exceptions: error codes tell what went wrong, and work goes on",
          "[no_exceptions][libkqueue:so_error]") {
  CHECK(output_in("codes") ==
        "connect: Connection refused\n"
        "hello\n"
        "recv: Bad file descriptor\n");
}

TEST_CASE("no exceptions: streams tell limits and ends by their codes",
          "[no_exceptions]") {
  CHECK(output_in("lines") ==
        "readline: too long\n"
        "first\n"
        "read_until: the stream has ended\n"
        "second\n");
}

TEST_CASE("no exceptions: kills, limits, groups, channels and the like work",
          "[no_exceptions][libkqueue:so_error]") {
  CHECK(output_in("rest") ==
        "the late one is destroyed\n"
        "one of a group is destroyed\n"
        "the killed one is destroyed\n"
        "the body is destroyed\n"
        "cleaned up\n"
        "sum 177\n");
}

TEST_CASE("no exceptions: no HTTP client can end a server",
          "[no_exceptions][http]") {
  CHECK(output_in("http") ==
        "hello\n"
        "404 Not Found\n\n"
        "the handler: the body is too long\n"
        "HTTP/1.1 413 Content Too Large\n"
        "the handler: the body ends too early\n"
        "HTTP/1.1 400 Bad Request\n"
        "the handler: the size of a chunk is not a number\n"
        "HTTP/1.1 400 Bad Request\n"
        "HTTP/1.1 400 Bad Request\n"
        "stopped\n");
}

TEST_CASE("no exceptions: httpd outlives clients that reset in a download",
          "[no_exceptions][http]") {
  make_all();
  TemporaryFolder place;
  std::ofstream(place.file("big")) << std::string(16 << 20, 'b');
  std::ofstream(place.file("small")) << "small";
  Program server({path_in("httpd"), "--port", "0", "--dir", place.path()});
  const std::uint16_t port = port_in(server.line());
  const std::string close = " HTTP/1.1\r\nHost: h\r\nConnection: close\r\n";
  for (const char* const range :
       {"", "Range: bytes=0-9999999\r\n", "Range: bytes=0-9,99-9999999\r\n"}) {
    Client client(port);
    client.send("GET /big" + close + range + "\r\n");
    client.receive(100'000);
    client.reset();
  }
  Client client(port);
  client.send("GET /small" + close + "\r\n");
  CHECK(client.receive_rest().ends_with("\r\n\r\nsmall"));
  CHECK(server.stop().code == 0);
  CHECK(contains(server.err(), "stopped: 4 served"));
}

TEST_CASE("no exceptions: the test kit works, kills of the root too",
          "[no_exceptions][libkqueue:so_error]") {
  CHECK(output_in("kit") == "the kit works\n");
}

TEST_CASE("no exceptions: what would throw aborts with its sentence",
          "[no_exceptions][libkqueue:so_error]") {
  const std::string refused = last_words_in("refused");
  CHECK(refused.rfind("violet: connect 127.0.0.1:", 0) == 0);
  CHECK(contains(refused, ": Connection refused\n"));
  CHECK(count_of(refused, "\n") == 1);

  const std::string unanswered = last_words_in("unanswered");
  CHECK(unanswered.rfind("violet: connect 127.0.0.1:", 0) == 0);
  CHECK(contains(unanswered, ": Connection refused\n"));

  CHECK(last_words_in("misuse") == "violet: any() of no tasks never ends\n");
  CHECK(last_words_in("outside") ==
        "violet: no loop runs on this thread; call run(task), or loop.spawn "
        "from outside\n");
  CHECK(last_words_in("cancelled") ==
        "violet: the run was cancelled: enough of it\n");
  CHECK(last_words_in("limit") ==
        "violet: readline unix:, limit 3 bytes: too long\n");
  CHECK(last_words_in("memory") == "violet: out of memory\n");

  const std::string deadlock = last_words_in("deadlock");
  CHECK(deadlock.rfind("violet: deadlock: ", 0) == 0);
  CHECK(count_of(deadlock, "deadlock") == 1);
  CHECK(contains(deadlock, "wait_for_each_other at program.cpp:"));
}

TEST_CASE("no exceptions: a failure in the test kit aborts with its text",
          "[no_exceptions]") {
  const std::string hang = last_words_in("hang");
  CHECK(hang.rfind("violet: hang: time jumps on and on", 0) == 0);
  CHECK(count_of(hang, "hang") == 1);
}

TEST_CASE("no exceptions: a signal unwinds a program as always",
          "[no_exceptions]") {
  for (const int loops : {1, 2}) {
    CAPTURE(loops);
    Program program({program_path(), loops == 1 ? "sleep" : "crew"});
    for (int i = 0; i < loops; ++i) CHECK(program.line() == "asleep");
    CHECK(program.stop(SIGTERM).code == 128 + SIGTERM);
    for (int i = 0; i < loops; ++i) {
      CHECK(program.line() == "the sleeper is destroyed");
    }
    CHECK(program.err() == "");
  }
}

TEST_CASE("no exceptions: the echo server serves, stops and refuses",
          "[no_exceptions]") {
  make_all();
  Program server({path_in("echo"), "--port", "0"});
  const std::string line = server.line();
  const std::string port = line.substr(line.rfind(':') + 1);
  {
    Client client(static_cast<std::uint16_t>(std::stoi(port)));
    client.send("hello");
    CHECK(client.receive(5) == "hello");
  }
  CHECK(last_words({path_in("echo"), "--port", port}) ==
        "echo: bind 127.0.0.1:" + port + ": " +
            support::text_of_error(EADDRINUSE) + "\n");
  CHECK(server.stop().code == 0);
  CHECK(contains(server.err(), "stopped: 1 served"));

  Program lost({path_in("echo"), "--host", "nowhere"});
  CHECK(lost.wait().code == 2);
  CHECK(lost.err().rfind("echo: --host: address 'nowhere' (", 0) == 0);
}

TEST_CASE("no exceptions: what was made is installed without asking again",
          "[no_exceptions]") {
  make_all();
  TemporaryFolder place;
  Program install(make_and("exit $?", {"install", "BUILD=" + folder(),
                                       "PREFIX=" + place.file("prefix")}));
  const End end = install.wait();
  CAPTURE(install.err());
  CHECK(end.code == 0);
  const std::string prefix = place.file("prefix");
  for (const std::string name : {"/bin/violet-", "/share/man/man1/violet-"}) {
    const std::string dot = contains(name, "man") ? ".1" : "";
    CHECK(::access((prefix + name + "echo" + dot).c_str(), F_OK) == 0);
    CHECK(::access((prefix + name + "transfer" + dot).c_str(), F_OK) != 0);
  }
}

TEST_CASE("no exceptions: the linker refuses the other library",
          "[no_exceptions]") {
  make_all();
  TemporaryFolder place;
  const std::string source = place.file("small.cpp");
  std::ofstream(source) << "#include <violet.hpp>\n"
                           "violet::Task<> nothing() { co_return; }\n"
                           "int main() { violet::run(nothing()); }\n";
  const auto with =
      start_to_build(source, place.file("with"), path_in("libviolet.a"), false);
  const auto without = start_to_build(source, place.file("without"),
                                      build_path("libviolet.a"), true);
  CHECK(with->wait().code == 1);
  CHECK(contains(with->err(), "NeedsLibraryWithExceptions"));
  CHECK(without->wait().code == 1);
  CHECK(contains(without->err(), "NeedsLibraryWithoutExceptions"));
}
