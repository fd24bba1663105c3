// ladder_test.cpp - the programs that a learner climbs by, as their users see
// them. The echo server has tests of its own.
// SPDX-License-Identifier: MIT
#include "catch.hpp"

#include <sys/un.h>

#include <algorithm>
#include <list>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "program.hpp"
#include "support.hpp"

using namespace programs;
using support::contains;

namespace {

using Words = std::vector<std::string>;

using Run = FinishedRun;

/// A server on a port of its own, ready for clients.
struct Server : Program {
  explicit Server(const std::string& name, Words options = {},
                  Setup setup = Setup())
      : Program(command_for(name, with_port(std::move(options))), setup) {
    first_line = line();
    port = port_in(first_line);
  }

  static Words with_port(Words options) {
    options.insert(options.begin(), {"--port", "0"});
    return options;
  }

  std::string first_line;
  std::uint16_t port = 0;
};

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream rest(text);
  for (std::string line; std::getline(rest, line);) lines.push_back(line);
  return lines;
}

const Words kPrograms{"hello", "sleepy",  "delegation",    "produce",
                      "greet", "echo",    "echo_blocking", "echo_callbacks",
                      "ipc",   "crawler", "web",           "httpd"};

/// What a program needs to run in a test.
Words usual_options(const std::string& name) {
  const bool serves = name == "greet" || name == "upload" || name == "web" ||
                      name == "httpd" || contains(name, "echo");
  if (name == "crawler") return {"--pages", "2", "--delay", "1ms"};
  return serves ? Words{"--port", "0"} : Words{};
}

/// What a run shows of a jammed or vanished output.
void check_failed_write(const std::string& name, const Run& run) {
  CAPTURE(name, run.err);
  CHECK(run.end.code == 1);
  CHECK(run.err == name + ": write stdout: No space left on device\n");
}

}  // namespace

// ------------------------------------------------------------- all of them

TEST_CASE("ladder: an unknown option is refused in one line", "[ladder]") {
  for (const std::string& name : kPrograms) {
    const Run run(name, {"--hlep"});
    CAPTURE(name);
    CHECK(run.end.code == 2);
    CHECK(run.out == "");
    CHECK(run.err == name +
                         ": unknown option '--hlep' (did you mean '--help'?); "
                         "try --help\n");
  }
}

TEST_CASE("ladder: a stdout that nobody reads ends a program quietly",
          "[ladder]") {
  Setup setup;
  setup.out = Setup::kBrokenPipe;
  for (const std::string& name : kPrograms) {
    const Run run(name, usual_options(name), setup);
    CAPTURE(name);
    CHECK(run.end.code == 0);
    CHECK(run.err == "");
  }
}

/// Programs that print more than one line, so much or for so long that they are
/// not done when the first has been read.
const Words kTalkers[] = {
    {"hello"},
    {"sleepy", "--unit", "100ms"},
    {"delegation"},
    {"produce", "--items", "1000000000"},
    {"produce", "--channel", "--items", "1000000000"},
    {"produce", "--channel", "--items", "1000000000", "--producers", "3",
     "--consumers", "3", "--capacity", "0"},
    {"crawler", "--pages", "3", "--delay", "20ms"},
    {"ipc", "--questions", "1000000"},
};

TEST_CASE("ladder: a reader that goes in the middle ends a program quietly",
          "[ladder]") {
  for (const Words& command : kTalkers) {
    CAPTURE(command);
    Program talker(
        command_for(command[0], {command.begin() + 1, command.end()}));
    talker.line();
    talker.stop_reading();
    const End end = talker.wait();
    CHECK(end.code == 0);
    CHECK(talker.err() == "");
  }
}

TEST_CASE("ladder: of several jobs that find stdout closed none is told of",
          "[ladder]") {
  Words head{"/bin/sh", "-c", "exec 2>&1; \"$0\" --unit 1ms | head -n 1"};
  head.push_back(build_path("sleepy"));
  Program shell(head);
  CHECK(shell.wait().code == 0);
  CHECK(shell.out() == "spawns four jobs\n");
}

TEST_CASE("ladder: a stdout that cannot be written is a failure", "[ladder]") {
  Setup setup;
  setup.out = Setup::kFull;
  for (const std::string& name : kPrograms) {
    check_failed_write(name, Run(name, usual_options(name), setup));
  }
  for (const Words& command : kTalkers) {
    const Words options(command.begin() + 1, command.end());
    check_failed_write(command[0], Run(command[0], options, setup));
  }
}

TEST_CASE("ladder: Ctrl-C ends what is no server with 130", "[ladder]") {
  Program sleepy(command_for("sleepy", {"--unit", "60m"}));
  while (sleepy.line() != "sleeps for 5") {
  }
  CHECK(sleepy.stop(SIGINT).code == 130);
  CHECK(sleepy.err() == "");

  Program hello(command_for("hello", {}));
  hello.line();
  CHECK(hello.stop(SIGINT).code == 130);
}

TEST_CASE("ladder: Ctrl-C ends an endless producer cleanly", "[ladder]") {
  Program produce(command_for(
      "produce", {"--channel", "--items", "1000000000", "--producers", "3"}));
  produce.line();
  CHECK(produce.stop(SIGINT).code == 130);
  CHECK(produce.err() == "");
}

TEST_CASE("ladder: Ctrl-C ends an endless generator cleanly", "[ladder]") {
  for (const int number : {SIGINT, SIGTERM}) {
    Program produce(command_for("produce", {"--items", "1000000000"}));
    produce.line();
    CHECK(produce.stop(number).code == 128 + number);
    CHECK(produce.err() == "");
  }
}

TEST_CASE("ladder: a --host that is no address is told in one line",
          "[ladder]") {
  for (const char* name :
       {"greet", "echo", "echo_blocking", "echo_callbacks"}) {
    const auto error_of = [&](const char* host) {
      const Run run(name, {"--port", "0", "--host", host});
      CHECK(run.end.code == 2);
      return run.err;
    };
    const std::string begin = std::string(name) + ": --host: ";
    CHECK(contains(error_of(""), "option '--host' needs a value, ADDRESS"));
    CHECK(error_of("fo\no") ==
          begin +
              "address 'fo?o' (neither an IPv4 nor an IPv6 address, "
              "localhost or unix:/path; other names are not looked up here); "
              "try --help\n");
  }
}

// ------------------------------------------------------------------- hello

TEST_CASE("hello: two jobs take turns on one thread", "[ladder]") {
  const Run run("hello");
  CHECK(run.end.code == 0);
  const auto lines = lines_of(run.out);
  REQUIRE(lines.size() == 4);
  const auto open = lines[0].find(" (thread ");
  REQUIRE(open != std::string::npos);
  const std::string thread = lines[0].substr(open);
  CHECK(lines[0] == "Hello World!" + thread);
  CHECK(lines[1] == "Hello World!" + thread);
  CHECK(lines[2] == "Hello Again!" + thread);
  CHECK(lines[3] == "Hello Again!" + thread);
}

// ------------------------------------------------------------------ sleepy

TEST_CASE("sleepy: jobs sleep at the same time and wake in order", "[ladder]") {
  const Run run("sleepy", {"--unit=20ms"});
  CHECK(run.end.code == 0);
  CHECK(run.out ==
        "spawns four jobs\nnone of them has begun\n"
        "sleeps for 0\nsleeps for 1\nsleeps for 3\nsleeps for 5\n"
        "has slept for 0\nhas slept for 1\nhas slept for 3\n"
        "has slept for 5\n"
        "together they slept for 9\n");
}

// -------------------------------------------------------------- delegation

TEST_CASE("delegation: values, errors and a kill arrive as told", "[ladder]") {
  const Run run("delegation");
  CHECK(run.end.code == 0);
  CHECK(run.err == "");
  auto lines = lines_of(run.out);
  REQUIRE(lines.size() == 9);
  const std::string last = lines.back();
  lines.pop_back();
  CHECK(lines == std::vector<std::string>{
                     "a value: 3 * 3 + 4 * 4 is 25",
                     "an error, thrown two calls deeper:", "  parse tidies up",
                     "  read_settings tidies up",
                     "  caught: 'twelve' is no number",
                     "a kill, two calls deep:", "  wait_for_ever tidies up",
                     "  serve_nobody tidies up"});
  CHECK(contains(last, "  joined: job #2 was killed by #1 at delegation.cpp:"));
  CHECK(contains(last, ": no longer needed"));
}

// ----------------------------------------------------------------- produce

TEST_CASE("produce: the generator and its caller alternate", "[ladder]") {
  std::string expected;
  for (const char* n : {"1", "2", "3", "4", "5"}) {
    expected += std::string("[PRODUCER] Producing ") + n + "...\n" +
                "[CONSUMER] Consuming " + n + "...\n" +
                "[PRODUCER] Consumer return: 200 OK\n";
  }
  const Run run("produce");
  CHECK(run.end.code == 0);
  CHECK(run.out == expected);
}

TEST_CASE("produce: nothing is made for no items", "[ladder]") {
  CHECK(Run("produce", {"--items", "0"}).out == "");
  CHECK(Run("produce", {"--channel", "--items", "0"}).out ==
        "0 items produced and consumed\n");
}

TEST_CASE(
    "produce: each item passes the channel once, in order, whoever is "
    "faster",
    "[ladder]") {
  for (const char* capacity : {"0", "1", "4", "1000"}) {
    for (const char* consumers : {"1", "3", "50"}) {
      CAPTURE(capacity, consumers);
      const Run run("produce",
                    {"--channel", "--items", "100", "--producers", "4",
                     "--consumers", consumers, "--capacity", capacity});
      CHECK(run.end.code == 0);
      std::vector<int> made;
      std::vector<int> used;
      for (const std::string& line : lines_of(run.out)) {
        const auto number = line.find("ing ");
        if (number == line.npos) continue;
        const int n = std::atoi(line.c_str() + number + 4);
        if (contains(line, "] Producing ")) made.push_back(n);
        if (contains(line, "] Consuming ")) used.push_back(n);
      }
      CHECK(made.size() == 100);
      std::sort(made.begin(), made.end());
      std::sort(used.begin(), used.end());
      CHECK(made == used);
      CHECK(std::unique(used.begin(), used.end()) == used.end());
      CHECK(lines_of(run.out).back() == "100 items produced and consumed");
    }
  }
}

TEST_CASE("produce: what only a channel heeds is refused without one",
          "[ladder]") {
  for (const char* flag : {"--producers", "--consumers", "--capacity"}) {
    const Run run("produce", {flag, "5"});
    CHECK(run.end.code == 2);
    CHECK(run.out == "");
    CHECK(run.err ==
          "produce: --producers, --consumers and --capacity need --channel; "
          "try --help\n");
  }
}

TEST_CASE("produce: a producer that is ahead says that it waits", "[ladder]") {
  const Run narrow("produce", {"--channel", "--items", "9", "--capacity", "2"});
  CHECK(contains(narrow.out, "[PRODUCER 1] waits for room for 3\n"));
  const Run wide("produce", {"--channel", "--items", "9", "--capacity", "9"});
  CHECK(!contains(wide.out, "waits for room"));
}

// ------------------------------------------------------------------- greet

TEST_CASE("greet: a client is greeted by what it sent", "[ladder]") {
  Server greet("greet", {"--delay", "1ms"});
  CHECK(greet.first_line ==
        "greet: listening on 127.0.0.1:" + std::to_string(greet.port));
  {
    const Client client(greet.port);
    client.send("Ada");
    CHECK(client.receive_rest() == "Hello, Ada");
    greet.wait_for_error("greet: Received 'Ada' from 127.0.0.1:" +
                         std::to_string(client.own_port()) + "\n");
  }
  CHECK(greet.stop(SIGINT).code == 0);
  CHECK(contains(greet.err(), "greet: stopped: 1 served, 0 cut\n"));
}

TEST_CASE("greet: a hundred clients wait at the same time", "[ladder]") {
  Server greet("greet", {"--delay", "60m", "--quiet"});
  std::list<Client> clients;
  for (int i = 0; i < 100; ++i) clients.emplace_back(greet.port).send("x");
  std::string dump;
  eventually("a hundred sleeping handlers", [&] {
    dump = greet.dump();
    return count_of(dump, "sleep, 3") + count_of(dump, "sleep, 59") >= 100;
  });
  greet.deliver(SIGTERM);
  CHECK(greet.stop(SIGTERM).code == 128 + SIGTERM);
}

TEST_CASE("greet: a client cannot forge a line of the log", "[ladder]") {
  Server greet("greet", {"--delay", "0"});
  const Client client(greet.port);
  client.send("x' from me\ngreet: \x1b[2J\\");
  CHECK(client.receive_rest() == "Hello, x' from me\ngreet: \x1b[2J\\");
  greet.wait_for_error(
      "Received 'x\\' from me\\x0agreet: \\x1b[2J\\\\' from 127.0.0.1:");
}

TEST_CASE("greet: a client that says nothing gets nothing", "[ladder]") {
  Server greet("greet");
  const Client client(greet.port);
  client.finish_sending();
  CHECK(client.receive_rest() == "");
  CHECK(greet.stop(SIGINT).code == 0);
}

TEST_CASE("greet: the side jobs speak on request, and end with the server",
          "[ladder]") {
  Server greet("greet", {"--verbose"});
  greet.wait_for_error("greet: some other job goes on\n");
  greet.wait_for_error("greet: another job goes on\n");
  CHECK(greet.stop(SIGINT).code == 0);
}

TEST_CASE(
    "greet: of a thousand clients half reset, and the others are "
    "greeted",
    "[ladder]") {
  const ManyDescriptors many;
  REQUIRE(many.at_least(1100));
  Server greet("greet", {"--delay", "300ms"});
  std::list<Client> stay;
  for (int i = 0; i < 1000; ++i) {
    if (i % 2 == 0) {
      stay.emplace_back(greet.port).send("client " + std::to_string(i));
    } else {
      Client client(greet.port);
      if (i % 4 == 1) client.send("x");
      client.reset();
    }
  }
  int i = 0;
  for (const Client& client : stay) {
    CHECK(client.receive_rest() == "Hello, client " + std::to_string(i));
    i += 2;
  }
  CHECK(greet.stop(SIGINT).code == 0);
  CHECK(contains(greet.err(), "greet: stopped: "));
}

TEST_CASE("greet: a port that is taken is told in one line", "[ladder]") {
  const Server first("greet");
  const Run second("greet", {"--port", std::to_string(first.port)});
  CHECK(second.end.code == 1);
  CHECK(second.err == "greet: bind 127.0.0.1:" + std::to_string(first.port) +
                          ": Address already in use\n");
}

// ------------------------------------------------------- three echo servers

TEST_CASE("echo_blocking: a second client waits for the first", "[ladder]") {
  Server server("echo_blocking");
  auto first = std::make_unique<Client>(server.port);
  CHECK(first->exchange("one") == "one");
  const Client second(server.port);  // in the backlog
  second.send("two");
  CHECK(first->exchange("still one") == "still one");
  char byte;
  CHECK(::recv(second.fd(), &byte, 1, MSG_DONTWAIT) == -1);
  first.reset();
  CHECK(second.receive(3) == "two");
  CHECK(server.stop(SIGINT).signal == SIGINT);
}

TEST_CASE("echo_callbacks: a second client is served beside the first",
          "[ladder]") {
  Server server("echo_callbacks");
  const Client first(server.port);
  const Client second(server.port);
  CHECK(second.exchange("two") == "two");
  CHECK(first.exchange("one") == "one");
  CHECK(server.stop(SIGINT).signal == SIGINT);
}

TEST_CASE("echo in three ways: much that is sent comes back, and then the end",
          "[ladder]") {
  const std::string sent = noise(3 << 20);
  for (const char* name : {"echo_blocking", "echo_callbacks", "echo"}) {
    CAPTURE(name);
    const Server server(name);
    const Client client(server.port);
    std::thread sender([&] {
      client.send(sent);
      client.finish_sending();
    });
    const std::string got = client.receive_rest();
    sender.join();
    CHECK((got == sent));
  }
}

TEST_CASE("echo in three ways: a client that resets harms nobody", "[ladder]") {
  for (const char* name : {"echo_blocking", "echo_callbacks", "echo"}) {
    CAPTURE(name);
    const Server server(name);
    for (int i = 0; i < 100; ++i) {
      Client client(server.port);
      if (i % 2 == 0) client.send("x");
      client.reset();
    }
    CHECK(Client(server.port).exchange("after all") == "after all");
  }
}

TEST_CASE("echo_callbacks: a client that never reads holds up nobody",
          "[ladder]") {
  const Server server("echo_callbacks");
  const Client deaf(server.port, 4096);
  std::size_t sent = deaf.fill(noise(4 << 20));
  for (int i = 0; i < 10; ++i) {
    CHECK(Client(server.port).exchange("hearing") == "hearing");
  }
  const std::string rest = deaf.receive(sent);
  CHECK((rest == noise(4 << 20).substr(0, sent)));
}

TEST_CASE("echo_callbacks: short of descriptors, clients wait until others go",
          "[ladder]") {
  Setup setup;
  setup.descriptors = 32;
  const Server server("echo_callbacks", {}, setup);
  std::list<Client> clients;
  for (int i = 0; i < 100; ++i) clients.emplace_back(server.port).send("x");
  while (!clients.empty()) {
    CHECK(clients.front().receive(1) == "x");
    clients.pop_front();
  }
}

TEST_CASE("echo without a loop: serves where stdout is closed", "[ladder]") {
  for (const char* name : {"echo_blocking", "echo_callbacks"}) {
    for (const bool all : {false, true}) {
      CAPTURE(name, all);
      TemporaryFolder folder;
      sockaddr_un place{};
      place.sun_family = AF_UNIX;
      const std::string path = folder.file("socket");
      path.copy(place.sun_path, sizeof place.sun_path - 1);
      Setup setup;
      setup.out = Setup::kClosed;
      setup.all_closed = all;
      const Program server(command_for(name, {"--host", "unix:" + path}),
                           setup);
      const violet::Fd client(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
      eventually("a server", [&] {
        return ::connect(client.get(), reinterpret_cast<sockaddr*>(&place),
                         sizeof place) == 0;
      });
      REQUIRE(::write(client.get(), "x", 1) == 1);
      char back = 0;
      REQUIRE(::read(client.get(), &back, 1) == 1);
      CHECK(back == 'x');
    }
  }
}

// -------------------------------------------------------------- ipc, crawler

TEST_CASE("ipc: says nothing into its own sockets where stdout is closed",
          "[ladder]") {
  Setup closed;
  closed.out = Setup::kClosed;
  const Run quiet("ipc", {}, closed);
  CHECK(quiet.end.code == 0);
  CHECK(quiet.err == "");
  closed.all_closed = true;
  CHECK(Run("ipc", {}, closed).end.code == 0);
}

TEST_CASE("ipc: short of descriptors it is one line from one process",
          "[ladder]") {
  for (const rlim_t limit : {4u, 5u, 6u, 7u, 8u}) {
    if (support::kSanitized && limit < 5) continue;  // UBSan makes a pipe
    Setup few;
    few.descriptors = limit;
    const Run run("ipc", {}, few);
    CAPTURE(limit);
    CHECK(run.end.code == 1);
    CHECK(run.out == "");
    CHECK(run.err == "ipc: 9 descriptors are needed, and the limit is " +
                         std::to_string(limit) +
                         " (raise it with ulimit -n): Too many open files\n");
  }
#ifndef VIOLET_KQUEUE  // libkqueue takes some of its own
  Setup enough;
  enough.descriptors = 9;
  CHECK(Run("ipc", {}, enough).end.code == 0);
#endif
}

TEST_CASE("ipc: every question gets its answer, in order", "[ladder]") {
  const Run run("ipc", {"--questions", "3"});
  CHECK(run.end.code == 0);
  CHECK(run.err == "");
  const auto lines = lines_of(run.out);
  REQUIRE(lines.size() == 4);
  const auto asks = lines[0].find(" asks process ");
  REQUIRE(asks != std::string::npos);
  const std::string other = "process " + lines[0].substr(asks + 14);
  CHECK(lines[1] == other + " says: 168 primes below 1000");
  CHECK(lines[2] == other + " says: 303 primes below 2000");
  CHECK(lines[3] == other + " says: 430 primes below 3000");
  CHECK(lines_of(Run("ipc", {"--questions", "0"}).out).size() == 1);
}

TEST_CASE("ipc: many questions may be under way", "[ladder]") {
  const Run run("ipc", {"--questions", "60"});
  CHECK(run.end.code == 0);
  CHECK(lines_of(run.out).size() == 61);
  CHECK(contains(run.out, ": 6057 primes below 60000\n"));
}

TEST_CASE("ipc: a process that is killed is missed by the other", "[ladder]") {
  Program ipc(command_for("ipc", {"--questions", "1000000"}));
  const std::string first = ipc.line();
  const auto other = static_cast<pid_t>(
      std::strtol(first.c_str() + first.rfind(' '), nullptr, 10));
  REQUIRE(other > 1);
  ipc.line();
  REQUIRE(::kill(other, SIGKILL) == 0);
  CHECK(ipc.wait().code == 1);
  CHECK(contains(ipc.err(), "ipc: receive answer "));
}

TEST_CASE("ipc: Ctrl-C ends both", "[ladder]") {
  Program ipc(command_for("ipc", {"--questions", "1000000"}));
  const std::string first = ipc.line();
  const auto other = static_cast<pid_t>(
      std::strtol(first.c_str() + first.rfind(' '), nullptr, 10));
  CHECK(ipc.stop(SIGINT).code == 130);
  CHECK(::kill(other, 0) == -1);
}

TEST_CASE("crawler: three ways fetch the same pages", "[ladder]") {
  const Run run("crawler", {"--pages", "10", "--delay", "5ms"});
  CHECK(run.end.code == 0);
  CHECK(run.err == "");
  const auto lines = lines_of(run.out);
  REQUIRE(lines.size() == 4);
  CHECK(contains(lines[0], "10 pages from 127.0.0.1:"));
  const char* const names[] = {"one after the other", "a thread for each",
                               "a job for each"};
  for (std::size_t i = 0; i < 3; ++i) {
    CAPTURE(lines[i + 1]);
    CHECK(lines[i + 1].rfind(names[i], 0) == 0);
    CHECK(contains(lines[i + 1], " s    10 pages "));
  }
  // One after the other cannot be faster than this.
  CHECK(std::strtod(lines[1].c_str() + 22, nullptr) >= 0.05);
}

TEST_CASE("crawler: short of descriptors it refuses at the start", "[ladder]") {
  for (const rlim_t limit : {4u, 8u, 98u}) {
    if (support::kSanitized && limit < 5) continue;  // UBSan makes a pipe
    Setup few;
    few.descriptors = limit;
    const Run run("crawler", {}, few);
    CAPTURE(limit);
    CHECK(run.end.code == 1);
    CHECK(run.out == "");
    CHECK(run.err == "crawler: 99 descriptors are needed, and the limit is " +
                         std::to_string(limit) +
                         " (raise it with ulimit -n): Too many open files\n");
  }
  Setup enough;
  enough.descriptors = 99;
  CHECK(Run("crawler", {"--delay", "10ms"}, enough).end.code == 0);
}

TEST_CASE("crawler: raises its limit of descriptors where it may", "[ladder]") {
  Words shell{"/bin/sh", "-c",
              "ulimit -S -n 32; exec \"$0\" --pages 40 --delay 1ms"};
  shell.push_back(build_path("crawler"));
  Program crawler(shell);
  CHECK(crawler.wait().code == 0);
  CHECK(crawler.err() == "");
}

TEST_CASE("crawler: Ctrl-C does not wait for threads that wait for pages",
          "[ladder]") {
  Program crawler(command_for("crawler", {"--pages", "1", "--delay", "3s"}));
  crawler.line();
  crawler.line();  // now a thread asks for the page
  const auto begin = Clock::now();
  CHECK(crawler.stop(SIGINT).code == 130);
  CHECK(crawler.err() == "");
  CHECK(Clock::now() - begin < 2500ms);
}

#ifdef __linux__
TEST_CASE("crawler: a thread that cannot be made is told in one line",
          "[ladder]") {
  if (support::kSanitized) return;  // its shadow is larger than the limit
  // Large stacks: there is no room for a fifth one, but for all else.
  Words shell{"/bin/sh", "-c",
              "ulimit -S -s 131072; ulimit -v 600000; "
              "MALLOC_ARENA_MAX=1 exec \"$0\" --pages 400 --delay 1ms"};
  shell.push_back(build_path("crawler"));
  Program crawler(shell);
  CHECK(crawler.wait().code == 1);
  CHECK(contains(crawler.err(), "crawler: start thread "));
  CHECK(contains(crawler.err(), ": Resource temporarily unavailable\n"));
  CHECK(count_of(crawler.err(), "\n") == 1);
}
#endif

TEST_CASE("crawler: Ctrl-C ends it whatever it is doing", "[ladder]") {
  Program crawler(command_for("crawler", {"--delay", "60m"}));
  crawler.line();
  eventually("a page that is fetched",
             [&] { return contains(crawler.dump(), "readline"); });
  CHECK(crawler.stop(SIGINT).code == 130);
}

// ------------------------------------------------------------------ the demo

TEST_CASE("demo: runs every program, and stops by itself", "[ladder]") {
  std::string folder = build_path("hello");
  folder.resize(folder.rfind('/'));
  // Where INT is ignored, as of a job in the background of a script.
  Program demo(
      {"bash", "-c", "trap '' INT; exec bash apps/demo.sh \"$0\"", folder});
  const End end = demo.wait();
  CAPTURE(demo.err());
  CHECK(end.code == 0);
  CHECK(demo.err() == "");
  for (const std::string& name : kPrograms) {
    CAPTURE(name);
    CHECK(contains(demo.out(), "\n$ " + name));
  }
  CHECK(contains(demo.out(),
                 "the second client got nothing within two seconds\n"));
  CHECK(count_of(demo.out(), "the second client got: are you there?\n") == 2);
  CHECK(count_of(demo.out(), "client: Hello, ") == 5);
  CHECK(contains(demo.out(), "\nit is the same there\n"));
}

TEST_CASE("ladder: each rung is in the README, and says what is new",
          "[ladder]") {
  const std::string readme = contents("apps/README.md");
  for (const std::string& name : kPrograms) {
    CAPTURE(name);
    CHECK(contains(readme, " | `" + name + "` | "));
    CHECK(contains(contents("apps/" + name + ".cpp"), "\n// New here: "));
  }
}
