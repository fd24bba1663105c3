// echo_test.cpp - the echo server, as its clients and its operator see it.
// SPDX-License-Identifier: MIT
#include "catch.hpp"

#include <dirent.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <list>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "program.hpp"
#include "support.hpp"

using namespace programs;
using support::contains;

namespace {

using Words = std::vector<std::string>;

/// An echo server on a port of its own, ready for clients.
struct Echo : Program {
  explicit Echo(Words options = {}, Setup setup = Setup())
      : Program(command_for("echo", with_port(std::move(options))), setup) {
    first_line = line();
    port = port_in(first_line);
  }

  static Words with_port(Words options) {
    options.insert(options.begin(), {"--port", "0"});
    return options;
  }

  /// Sends a word through a fresh client.
  bool serves() const {
    const Client client(port);
    return client.exchange("are you there?") == "are you there?";
  }

  std::string first_line;
  std::uint16_t port = 0;
};

/// A finished run of echo, for what never gets to serving.
struct Run : FinishedRun {
  explicit Run(const Words& options, Setup setup = Setup())
      : FinishedRun("echo", options, setup) {}
};

std::string summary(int served, int cut) {
  return "echo: stopped: " + std::to_string(served) + " served, " +
         std::to_string(cut) + " cut\n";
}

bool is_one_line(const std::string& text) {
  return count_of(text, "\n") == 1 && text.back() == '\n';
}

/// Sends and never reads, until the server waits in sendall. Returns: how
/// much was sent.
std::size_t block(Echo& server, const Client& client,
                  const std::string& bytes) {
  std::size_t sent = 0;
  std::string before;
  eventually("a server that waits in sendall", [&] {
    sent += client.fill(std::string_view(bytes).substr(sent));
    std::string now = server.dump();
    const auto begin = now.find("sendall fd");
    now = begin == now.npos ? ""
                            : now.substr(begin, now.find(',', begin) - begin);
    const bool still = !now.empty() && now == before;
    before = now;
    return still;
  });
  return sent;
}

/// The numbers of a process's descriptors and what they are.
std::vector<std::pair<int, std::string>> descriptors_of(
    const Program& program) {
  std::vector<std::pair<int, std::string>> found;
  const std::string folder = program.proc("fd");
  DIR* const listing = ::opendir(folder.c_str());
  if (listing == nullptr) return found;
  while (const dirent* entry = ::readdir(listing)) {
    char target[256];
    const std::string path = folder + '/' + entry->d_name;
    const ssize_t size = ::readlink(path.c_str(), target, sizeof target);
    if (size <= 0) continue;
    found.emplace_back(std::atoi(entry->d_name),
                       std::string(target, static_cast<std::size_t>(size)));
  }
  ::closedir(listing);
  return found;
}

/// Where a program listens that does not say so; 0: nowhere yet.
std::uint16_t listening_port(const Program& program) {
  std::set<std::string> inodes;
  for (const auto& [number, target] : descriptors_of(program)) {
    if (target.rfind("socket:[", 0) == 0) {
      inodes.insert(target.substr(8, target.size() - 9));
    }
  }
  std::istringstream table(contents("/proc/net/tcp"));
  for (std::string row; std::getline(table, row);) {
    std::istringstream words(row);
    std::array<std::string, 10> column;
    for (std::string& word : column) words >> word;
    if (column[3] != "0A" || inodes.count(column[9]) == 0) continue;
    const auto colon = column[1].find(':');
    return static_cast<std::uint16_t>(
        std::stoul(column[1].substr(colon + 1), nullptr, 16));
  }
  return 0;
}

/// How often the threads of a program have gone to sleep so far.
long sleeps_of(const Program& program) {
  long sum = 0;
  DIR* const tasks = ::opendir(program.proc("task").c_str());
  if (tasks == nullptr) fail("no /proc/PID/task");
  while (const dirent* entry = ::readdir(tasks)) {
    if (entry->d_name[0] == '.') continue;
    const std::string status = contents(
        program.proc("task/" + std::string(entry->d_name) + "/status"));
    sum += std::stol(Program::value_of(status, "voluntary_ctxt_switches"));
  }
  ::closedir(tasks);
  return sum;
}

}  // namespace

// ------------------------------------------------------------------- echoing

TEST_CASE("echo: says where it listens once connecting succeeds", "[echo]") {
  for (const char* loops : {"1", "2"}) {
    Echo server({"--loops", loops});
    const Client client(server.port);
    CHECK(server.port != 0);
    CHECK(server.first_line ==
          "echo: listening on 127.0.0.1:" + std::to_string(server.port));
    CHECK(client.exchange("hello") == "hello");
    server.stop();
    CHECK(is_one_line(server.out()));
  }
}

TEST_CASE("echo: listens where --host says", "[echo]") {
  Echo everywhere({"--host", "0.0.0.0"});
  CHECK(everywhere.first_line ==
        "echo: listening on 0.0.0.0:" + std::to_string(everywhere.port));
  CHECK(everywhere.serves());
  Echo named({"--host=localhost"});
  CHECK(named.first_line ==
        "echo: listening on 127.0.0.1:" + std::to_string(named.port));
}

TEST_CASE("echo: sends back what it receives, byte by byte", "[echo]") {
  Echo server;
  const Client one(server.port);
  for (const std::size_t size :
       {0u, 1u, 1023u, 1024u, 1025u, 65536u, 10u << 20}) {
    CAPTURE(size);
    const std::string data = noise(size, 7);
    CHECK((one.exchange(data) == data));
    const Client another(server.port);
    CHECK((another.exchange(data) == data));
  }
}

TEST_CASE("echo: sends the rest and the end to a half-closed client",
          "[echo]") {
  Echo server;
  for (const std::size_t size : {0u, 1u, 1025u, 65536u}) {
    CAPTURE(size);
    const Client client(server.port);
    const std::string data = noise(size);
    client.send(data);
    client.finish_sending();
    CHECK((client.receive(size) == data));
    CHECK(client.ended());
  }
}

TEST_CASE("echo: serves a thousand clients at once",
          "[echo][libkqueue:crowd]") {
  const ManyDescriptors limit;
  if (!limit.at_least(2100)) return;
  Echo server;
  std::vector<Client> clients;
  std::vector<std::string> data;
  for (unsigned i = 0; i < 1000; ++i) {
    clients.emplace_back(server.port);
    data.push_back(noise(1 + i * 4, 1000 + i));
  }
  for (int round = 0; round < 2; ++round) {
    for (std::size_t i = 0; i < clients.size(); ++i) clients[i].send(data[i]);
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < clients.size(); ++i) {
      if (clients[i].receive(data[i].size()) != data[i]) ++wrong;
    }
    CHECK(wrong == 0);
  }
  CHECK(server.stop().code == 0);
  CHECK(server.err() == summary(1000, 0));
}

TEST_CASE("echo: serves ten thousand clients at once",
          "[echo][libkqueue:crowd]") {
  const ManyDescriptors limit;
  if (support::kSanitized || !limit.at_least(10'200)) return;
  Echo server;
  std::vector<Client> clients;
  clients.reserve(10'000);
  for (int i = 0; i < 10'000; ++i) {
    clients.emplace_back(server.port);
    clients.back().send(std::to_string(i) + '.');
  }
  std::size_t wrong = 0;
  for (int i = 0; i < 10'000; ++i) {
    const std::string text = std::to_string(i) + '.';
    if (clients[static_cast<std::size_t>(i)].receive(text.size()) != text) {
      ++wrong;
    }
  }
  CHECK(wrong == 0);
  clients.clear();
  CHECK(server.stop().code == 0);
  CHECK(server.err() == summary(10'000, 0));
}

TEST_CASE("echo: a unix socket is there from the start to the stop, only",
          "[echo]") {
  TemporaryFolder folder;
  const std::string path = folder.file("echo.sock");
  for (int i = 0; i < 2; ++i) {
    Program server(command_for("echo", {"--host", "unix:" + path}));
    CHECK(server.line() == "echo: listening on unix:" + path);
    const Run second({"--host", "unix:" + path});
    CHECK(second.end.code == 1);
    CHECK(second.err == "echo: bind unix:" + path + ": " +
                            support::text_of_error(EADDRINUSE) + "\n");
    if (i == 0) {
      // One that is killed leaves its file behind, and the next replaces it.
      server.signal(SIGKILL);
      server.wait();
      CHECK(::access(path.c_str(), F_OK) == 0);
    } else {
      CHECK(server.stop().code == 0);
      CHECK(::access(path.c_str(), F_OK) != 0);
    }
  }
  std::ofstream(path) << "precious";
  const Run refused({"--host", "unix:" + path});
  CHECK(refused.end.code == 1);
  CHECK(contains(refused.err, "there is a file that is no socket"));
  CHECK(contents(path) == "precious");
}

TEST_CASE("echo: who is ended for being idle is counted", "[echo]") {
  Echo server({"--idle-timeout", "50ms", "--verbose"});
  const Client client(server.port);
  CHECK(client.ended());
  const std::string peer = "127.0.0.1:" + std::to_string(client.own_port());
  CHECK(server.stop().code == 0);
  CHECK(server.err() == "echo: " + peer + ": it was idle\n" +
                            "echo: stopped: 1 served, 0 cut, 1 timed out\n");
}

// --------------------------------------------------------------------- loops

TEST_CASE("echo: all loops serve on one port", "[echo][threads]") {
  Echo server({"--loops", "2"});
  std::vector<Client> clients;
  for (int i = 0; i < 64; ++i) {
    clients.emplace_back(server.port);
    REQUIRE(clients.back().exchange("hi") == "hi");
  }
  const std::string dump = server.dump(2);
  const std::size_t mark = dump.find(" jobs\n");
  const std::size_t second = dump.find(" jobs\n", mark + 1);
  CHECK(second != dump.npos);  // not "1 job": each has clients
  for (int i = 0; i < 64; ++i) {
    CHECK(clients[static_cast<std::size_t>(i)].exchange("again") == "again");
  }
  const std::size_t before = server.err().size();
  CHECK(server.stop(SIGINT).code == 0);
  CHECK(is_one_line(server.out()));
  CHECK(server.err().substr(before) == summary(64, 0));
}

TEST_CASE("echo: many loops stop at a signal that comes at once",
          "[echo][threads]") {
  for (int i = 0; i < 10; ++i) {
    Echo server({"--loops", "48"});
    server.signal(SIGTERM);
    // A loop that has missed it goes on for ever.
    const auto limit = Clock::now() + 10s;
    while (server.status("State")[0] != 'Z' && Clock::now() < limit) {
      std::this_thread::sleep_for(1ms);
    }
    REQUIRE(server.status("State")[0] == 'Z');
    REQUIRE(server.wait().code == 0);
    REQUIRE(server.err() == summary(0, 0));
  }
}

// ---------------------------------------------------------------- the limits

TEST_CASE("echo: a client beyond --max-connections waits its turn", "[echo]") {
  Echo server({"--max-connections", "2"});
  Client first(server.port);
  const Client second(server.port);
  REQUIRE(first.exchange("1") == "1");
  REQUIRE(second.exchange("2") == "2");
  const Client third(server.port);
  third.send("3");
  for (int i = 0; i < 100; ++i) {
    REQUIRE(first.exchange("1") == "1");
    REQUIRE(second.exchange("2") == "2");
  }
  CHECK(!third.readable());
  first.close();
  CHECK(third.receive(1) == "3");
  CHECK(second.exchange("2") == "2");
}

TEST_CASE("echo: --max-connections holds for all loops together",
          "[echo][threads]") {
  // The kernel chooses the loop: some of these fall on the same one.
  for (int round = 0; round < 8; ++round) {
    CAPTURE(round);
    Echo server({"--loops", "2", "--max-connections", "2"});
    Client first(server.port);
    Client second(server.port);
    first.send("1");
    second.send("2");
    REQUIRE(first.readable(5000));
    REQUIRE(second.readable(5000));
    CHECK(first.receive(1) == "1");
    CHECK(second.receive(1) == "2");
    const Client third(server.port);
    third.send("3");
    for (int i = 0; i < 20; ++i) {
      REQUIRE(first.exchange("1") == "1");
      REQUIRE(second.exchange("2") == "2");
    }
    CHECK(!third.readable());
    second.close();
    REQUIRE(third.readable(5000));
    CHECK(third.receive(1) == "3");
  }
}

TEST_CASE("echo: no loop keeps the last free connection from another",
          "[echo][threads]") {
  Echo server({"--loops", "2", "--max-connections", "1"});
  for (int i = 0; i < 16; ++i) {
    CAPTURE(i);
    const Client client(server.port);
    client.send("x");
    REQUIRE(client.readable(5000));
    REQUIRE(client.receive(1) == "x");
  }
}

TEST_CASE("echo: a silent client is closed and a talking one is not",
          "[echo]") {
  Echo server({"--idle-timeout", "200ms"});
  // A pause that was too long is the machine's fault: then once more.
  for (;;) {
    const Client silent(server.port);
    const Client talking(server.port);
    const auto start = Clock::now();
    auto last = start;
    auto longest = 0ns;
    bool answered = true;
    while (answered && Clock::now() - start < 800ms) {
      talking.send("still here");
      answered = talking.receive(10) == "still here";
      const auto now = Clock::now();
      longest = std::max<std::chrono::nanoseconds>(longest, now - last);
      last = now;
      std::this_thread::sleep_for(20ms);
    }
    CHECK(silent.ended());
    if (!answered && longest + 20ms >= 150ms) continue;
    CHECK(answered);
    CHECK(talking.ended());
    break;
  }
  CHECK(server.stop().code == 0);
}

// ------------------------------------------------------------------ stopping

TEST_CASE("echo: the first signal ends it with a summary", "[echo]") {
  for (const int signal : {SIGINT, SIGTERM}) {
    Echo server({"--grace", "10m"});
    const Client idle(server.port);
    REQUIRE(idle.exchange("x") == "x");
    const Client fresh(server.port);
    REQUIRE(server.serves());
    server.signal(signal);
    CHECK(idle.ended());
    CHECK(fresh.ended());
    const End end = server.wait();
    CHECK(end.code == 0);
    CHECK(end.signal == 0);
    CHECK(server.err() == summary(3, 0));
  }
}

TEST_CASE("echo: what the backlog holds at the signal is served", "[echo]") {
  for (const char* loops : {"1", "2"}) {
    CAPTURE(loops);
    Echo server({"--loops", loops});
    REQUIRE(server.serves());
    server.freeze();
    std::vector<Client> waiting;
    for (int i = 0; i < 20; ++i) {
      waiting.emplace_back(server.port);
      waiting.back().send("late");
      if (i % 2 == 0) waiting.back().finish_sending();
    }
    server.signal(SIGTERM);
    server.thaw();
    int echoed = 0;
    for (const Client& client : waiting) {
      if (client.receive_rest() == "late") ++echoed;
    }
    CHECK(server.wait().code == 0);
    CHECK(server.err() == summary(21, 0));
    CHECK(echoed == 20);
  }
}

TEST_CASE("echo: a request that came before the signal is answered", "[echo]") {
  Echo server;
  const Client client(server.port);
  REQUIRE(client.exchange("first") == "first");
  server.freeze();
  client.send("second");
  server.signal(SIGTERM);
  server.thaw();
  CHECK(client.receive_rest() == "second");
  CHECK(server.wait().code == 0);
  CHECK(server.err() == summary(1, 0));
}

TEST_CASE("echo: a client that never reads is cut after the grace", "[echo]") {
  Echo server({"--grace", "300ms"});
  const Client client(server.port, 4096);
  const std::string bytes = noise(32 << 20);
  block(server, client, bytes);
  const std::size_t before = server.err().size();
  const auto start = Clock::now();
  CHECK(server.stop().code == 0);
  CHECK(Clock::now() - start >= 300ms);
  const std::string told = server.err().substr(before);
  CHECK(told.find("echo: cut 127.0.0.1:" + std::to_string(client.own_port()) +
                  " after ") == 0);
  CHECK(contains(told, " s, at echo.cpp:"));
  CHECK(contains(told, ": sendall\n" + summary(1, 1)));
}

TEST_CASE("echo: a client that reads within the grace is not cut", "[echo]") {
  Echo server({"--grace", "10m"});
  const Client client(server.port, 4096);
  const std::string bytes = noise(32 << 20);
  const std::size_t sent = block(server, client, bytes);
  const std::size_t before = server.err().size();
  server.signal(SIGTERM);
  eventually("a closed port", [&] { return refused(server.port); });
  const std::string got = client.receive_rest();
  CHECK(got.size() > 0);
  CHECK(got.size() <= sent);
  CHECK(bytes.compare(0, got.size(), got) == 0);
  CHECK(server.wait().code == 0);
  // Who asked whether the port is closed may have been served as well.
  CHECK(contains(server.err().substr(before), " served, 0 cut\n"));
}

TEST_CASE("echo: the second signal ends it at once", "[echo]") {
  for (const int signal : {SIGINT, SIGTERM}) {
    for (const char* loops : {"1", "2"}) {
      CAPTURE(signal, loops);
      Echo server({"--grace", "10m", "--loops", loops});
      const Client client(server.port, 4096);
      client.send("x");
      REQUIRE(client.receive(1) == "x");
      const std::string bytes = noise(32 << 20);
      std::size_t sent = 0;
      eventually("a full socket", [&] {
        const std::size_t count =
            client.fill(std::string_view(bytes).substr(sent));
        sent += count;
        return count == 0 &&
               contains(server.dump(std::stoul(loops)), "sendall");
      });
      const std::size_t before = server.err().size();
      server.signal(SIGTERM);
      eventually("a closed port", [&] { return refused(server.port); });
      const End end = server.stop(signal);
      CHECK(end.code == 128 + signal);
      CHECK(end.signal == 0);
      CHECK(server.err().substr(before) == "");
    }
  }
}

// ------------------------------------------------------------ what it writes

TEST_CASE("echo: SIGUSR1 writes who waits for what, and it goes on", "[echo]") {
  Echo server;
  const Client client(server.port);
  REQUIRE(client.exchange("x") == "x");
  const std::string dump = server.dump();
  CHECK(contains(dump, "accept fd "));
  const std::string waiting =
      " 127.0.0.1:" + std::to_string(client.own_port()) + ",";
  const std::size_t recv = dump.find("waiting for recv fd ");
  REQUIRE(recv != dump.npos);
  CHECK(contains(dump.substr(recv, dump.find('\n', recv) - recv), waiting));
  CHECK(contains(dump.substr(recv), "echo.cpp:"));
  CHECK(client.exchange("still there") == "still there");
  CHECK(contains(server.dump(), waiting));
  CHECK(server.stop().code == 0);
  CHECK(is_one_line(server.out()));
}

TEST_CASE("echo: --quiet leaves errors only", "[echo]") {
  Echo server({"--quiet"});
  CHECK(server.serves());
  const Run second({"--quiet", "--port", std::to_string(server.port)});
  CHECK(second.end.code == 1);
  CHECK(is_one_line(second.err));
  Client vanishing(server.port);
  REQUIRE(vanishing.exchange("x") == "x");
  vanishing.reset();
  CHECK(server.serves());
  CHECK(server.stop().code == 0);
  CHECK(server.err() == "");
}

TEST_CASE("echo: resets are logged with --verbose and not without",
          "[echo][libkqueue:so_error]") {
  for (const bool verbose : {false, true}) {
    Echo server(verbose ? Words{"--verbose"} : Words{});
    Client client(server.port);
    REQUIRE(client.exchange("x") == "x");
    const std::string peer = "127.0.0.1:" + std::to_string(client.own_port());
    client.reset();
    if (verbose) server.wait_for_error("\n");
    REQUIRE(server.serves());
    CHECK(server.stop().code == 0);
    CAPTURE(server.err());
    CHECK(contains(server.err(), summary(2, 0)));
    CHECK(count_of(server.err(), "\n") == (verbose ? 2 : 1));
    CHECK(contains(server.err(), "Connection reset by peer") == verbose);
    CHECK(contains(server.err(), peer) == verbose);
  }
}

// ---------------------------------------------------------- the command line

TEST_CASE("echo: --help is usage on stdout and exit code 0", "[echo]") {
  for (const char* flag : {"--help", "-h"}) {
    const Run run({"--verbose", flag});
    CHECK(run.end.code == 0);
    CHECK(run.err == "");
    CHECK(contains(run.out, "usage: echo"));
    for (const char* option :
         {"--host", "--port", "--loops", "--max-connections", "--idle-timeout",
          "--grace", "--quiet", "--verbose", "--help"}) {
      CAPTURE(option);
      CHECK(contains(run.out, std::string("  ") + option + ' '));
    }
  }
  Setup setup;
  setup.out = Setup::kFull;
  CHECK(Run({"--help"}, setup).end.code == 1);
}

TEST_CASE("echo: a bad option is one line and exit code 2", "[echo]") {
  struct Case {
    Words options;
    std::string says;
  };
  const Case cases[] = {
      {{"--prot", "1"},
       "unknown option '--prot' (did you mean '--port'?); try --help"},
      {{"--prot=1"},
       "unknown option '--prot' (did you mean '--port'?); try --help"},
      {{"--xyzzyxyzzy"}, "unknown option '--xyzzyxyzzy'; try --help"},
      {{"-p"}, "unknown option '-p'"},
      {{"--"}, "unknown option '--'"},
      {{"--port"}, "option '--port' needs a value"},
      {{"--port", "x"}, "--port"},
      {{"--port", "-1"}, "'-1'"},
      {{"--port", "65536"}, "'65536'"},
      {{"--port", "80 "}, "'80 '"},
      {{"--port", ""}, "option '--port' needs a value"},
      {{"--host="}, "option '--host' needs a value, ADDRESS; try --help"},
      {{"--port="}, "--port"},
      {{"--port=0x50"}, "'0x50'"},
      {{"--port", "99999999999999999999"}, "'99999999999999999999'"},
      {{"--loops", "0"}, "--loops"},
      {{"--loops", "257"}, "--loops"},
      {{"--max-connections", "many"}, "'many'"},
      {{"--idle-timeout", "soon"}, "'soon'"},
      {{"--idle-timeout", "5h"}, "'5h'"},
      {{"--idle-timeout", "ms"}, "'ms'"},
      {{"--idle-timeout", "-5s"}, "'-5s'"},
      {{"--grace", "99999999999999s"}, "--grace"},
      {{"--grace", "3000000000m"}, "--grace"},  // more than 2^63 ns
      {{"--quiet=1"}, "option '--quiet' takes no value"},
      {{"--verbose="}, "option '--verbose' takes no value"},
      {{"--help=all"}, "option '--help' takes no value"},
      {{"-h=all"}, "option '--help' takes no value"},
      {{"--port", "1\n2\x1b\x7f\t3"}, "not '1?2???3'; try --help"},
      {{"--prt\n"}, "unknown option '--prt?' (did you mean '--port'?)"},
      {{"--pört"}, "unknown option '--pört' (did you mean '--port'?)"},
      {{"--bogus"}, "unknown option '--bogus'; try --help"},
      {{"stray"}, "unexpected argument 'stray'"},
      {{"--quiet", "stray"}, "unexpected argument 'stray'"},
      {{""}, "unexpected argument ''"},
      {{"--host", "no such host"}, "no such host"},
      {{"--host", "1.2.3"}, "1.2.3"},
      {{"--host", "unix:"}, "unix:"},
  };
  for (const Case& one : cases) {
    Words options = one.options;
    // In case it does not refuse.
    if (options[0].rfind("--port", 0) != 0) {
      options.insert(options.begin(), {"--port", "0"});
    }
    CAPTURE(options);
    const Run run(options);
    CAPTURE(run.err);
    CHECK(run.end.code == 2);
    CHECK(run.out == "");
    CHECK(is_one_line(run.err));
    CHECK(run.err.rfind("echo: ", 0) == 0);
    CHECK(contains(run.err, one.says));
    CHECK(contains(run.err, "; try --help\n"));
  }
}

TEST_CASE("echo: an option's value may follow an equals sign", "[echo]") {
  Echo server({"--grace=300ms", "--idle-timeout=1m", "--max-connections=7",
               "--loops=1", "--host=127.0.0.1"});
  CHECK(server.serves());
  CHECK(server.stop().code == 0);
}

TEST_CASE("echo: a taken port is one line and exit code 1", "[echo]") {
  for (const char* first : {"1", "2"}) {
    for (const char* loops : {"1", "2"}) {
      CAPTURE(first, loops);
      const Echo holder({"--loops", first});
      const std::string port = std::to_string(holder.port);
      const Run run({"--port", port, "--loops", loops});
      CHECK(run.end.code == 1);
      CHECK(run.out == "");
      CHECK(run.err == "echo: bind 127.0.0.1:" + port + ": " +
                           support::text_of_error(EADDRINUSE) + "\n");
    }
  }
}

TEST_CASE("echo: what cannot be listened on is one line and exit code 2",
          "[echo]") {
  const Run nowhere({"--host", ""});
  CHECK(nowhere.end.code == 2);
  CHECK(nowhere.err ==
        "echo: option '--host' needs a value, ADDRESS; try --help\n");
  const Run shared({"--host", "unix:/tmp/x", "--loops", "2"});
  CHECK(shared.end.code == 2);
  CHECK(contains(shared.err, "--loops needs a TCP address"));
}

TEST_CASE("echo: a client that reads nothing is closed as a silent one is",
          "[echo]") {
  Echo server({"--idle-timeout", "200ms", "--max-connections", "1"});
  const Client hog(server.port, 4096);
  std::size_t sent = 0;
  const std::string bytes = noise(32 << 20);
  eventually("a server that takes no more", [&] {
    const std::size_t more = hog.fill(std::string_view(bytes).substr(sent));
    sent += more;
    return more == 0;
  });
  const Client next(server.port);
  CHECK(next.exchange("x") == "x");
}

TEST_CASE("echo: an address of another machine is one line and exit code 1",
          "[echo]") {
  const Run run({"--host", "192.0.2.1", "--port", "0"});
  CHECK(run.end.code == 1);
  CHECK(run.out == "");
  CHECK(run.err == "echo: bind 192.0.2.1:0: " +
                       support::text_of_error(EADDRNOTAVAIL) + "\n");
}

TEST_CASE("echo: a privileged port is one line and exit code 1", "[echo]") {
  const std::string first =
      contents("/proc/sys/net/ipv4/ip_unprivileged_port_start");
  if (::geteuid() == 0 || std::atoi(first.c_str()) < 2) return;
  const Run run({"--port", "1"});
  CHECK(run.end.code == 1);
  CHECK(run.out == "");
  CHECK(run.err == "echo: bind 127.0.0.1:1: Permission denied\n");
}

// ------------------------------------------------------- standard descriptors

TEST_CASE("echo: a closed stdout is not mistaken for a socket", "[echo]") {
  for (const bool all : {false, true}) {
    Setup setup;
    setup.out = Setup::kClosed;
    setup.all_closed = all;
    setup.errors_unread = all;
    Program server(command_for("echo", {"--port", "0"}), setup);
    std::uint16_t port = 0;
    eventually("a port to listen on",
               [&] { return (port = listening_port(server)) != 0; });
    const Client client(port);
    CHECK(client.exchange("not a line") == "not a line");
    for (const auto& [number, target] : descriptors_of(server)) {
      CAPTURE(number, target);
      if (number <= 2) CHECK(target.rfind("socket:", 0) != 0);
    }
    CHECK(server.stop().code == 0);
    if (!all) CHECK(server.err() == summary(1, 0));
  }
}

TEST_CASE("echo: a stdout that nobody reads ends it quietly", "[echo]") {
  for (const char* loops : {"1", "2"}) {
    Setup setup;
    setup.out = Setup::kBrokenPipe;
    const Run run({"--port", "0", "--loops", loops}, setup);
    CHECK(run.end.signal == 0);
    CHECK(run.end.code == 0);
    CHECK(run.err == "");
  }
}

TEST_CASE("echo: a stdout that is full is a failure", "[echo]") {
  for (const char* loops : {"1", "2"}) {
    Setup setup;
    setup.out = Setup::kFull;
    const Run run({"--port", "0", "--loops", loops}, setup);
    CHECK(run.end.code == 1);
    CHECK(run.err == "echo: write stdout: No space left on device\n");
  }
}

TEST_CASE("echo: SIGPIPE never ends it", "[echo]") {
  Setup setup;
  setup.errors_unread = true;
  Echo server({"--verbose"}, setup);
  Client client(server.port);
  REQUIRE(client.exchange("x") == "x");
  server.signal(SIGUSR1);  // a dump into a broken pipe
  REQUIRE(client.exchange("y") == "y");
  client.reset();  // a line into it
  for (int i = 0; i < 20; ++i) {
    Client rude(server.port);
    rude.send(noise(100'000));
    rude.reset();
  }
  CHECK(server.serves());
  CHECK(server.stop().code == 0);
}

// ------------------------------------------------------------------- troubles

TEST_CASE("echo: it can be started again on its port at once", "[echo]") {
  std::optional<Echo> first(std::in_place);
  const std::string port = std::to_string(first->port);
  std::vector<Client> clients;
  for (int i = 0; i < 5; ++i) {
    clients.emplace_back(first->port);
    REQUIRE(clients.back().exchange("x") == "x");
  }
  // The server closes first, so the waiting is on its side.
  REQUIRE(first->stop().code == 0);
  for (const Client& client : clients) CHECK(client.ended());
  clients.clear();
  for (const char* loops : {"1", "2", "1"}) {
    CAPTURE(loops);
    Program again(command_for("echo", {"--port=" + port, "--loops", loops}));
    CHECK(again.line() == "echo: listening on 127.0.0.1:" + port);
    const Client client(first->port);
    CHECK(client.exchange("y") == "y");
    CHECK(again.stop().code == 0);
    CHECK(client.ended());
  }
}

TEST_CASE("echo: it survives having no descriptors left", "[echo]") {
  const ManyDescriptors limit;
  // UBSan takes a pipe for some of its questions, and is wrong without one.
  if (support::kSanitized || !limit.at_least(300)) return;
  Setup setup;
  setup.descriptors = 64;
  Echo server({}, setup);
  std::list<Client> clients;
  for (int i = 0; i < 200; ++i) {
    clients.emplace_back(server.port);
    clients.back().send("x");
  }
  server.wait_for_error("accept: " + support::text_of_error(EMFILE));
  const auto cpu = server.cpu_time();
  const auto start = Clock::now();
  std::this_thread::sleep_for(1s);
  const auto used = server.cpu_time() - cpu;
  CHECK(used < (Clock::now() - start) / 2);
  std::size_t served = 0;
  eventually("service for all", [&] {
    for (auto client = clients.begin(); client != clients.end();) {
      if (!client->readable()) {
        ++client;
        continue;
      }
      if (client->receive(1) == "x") ++served;
      client = clients.erase(client);
    }
    return clients.empty();
  });
  CHECK(served == 200);
  CHECK(server.serves());
  CHECK(server.stop().code == 0);
  CHECK(count_of(server.err(), support::text_of_error(EMFILE)) == 1);
  CHECK(contains(server.err(), summary(201, 0)));
}

TEST_CASE("echo: a client may reset at any moment", "[echo]") {
  Echo server;
  const Client witness(server.port);
  const std::string large = noise(1 << 20);
  for (int round = 0; round < 20; ++round) {
    Client at_once(server.port);
    at_once.reset();
    Client after_sending(server.port);
    after_sending.send("x");
    after_sending.reset();
    Client after_an_echo(server.port);
    REQUIRE(after_an_echo.exchange("x") == "x");
    after_an_echo.reset();
    Client half_closed(server.port);
    half_closed.send("x");
    half_closed.finish_sending();
    half_closed.reset();
    Client in_the_middle(server.port);
    in_the_middle.fill(large);
    if (round % 2 == 0) in_the_middle.receive(1);
    in_the_middle.reset();
    Client unread(server.port);
    unread.fill(large);
    unread.close();  // with bytes unread, which resets
    REQUIRE(witness.exchange("and you?") == "and you?");
  }
  CHECK(server.stop().code == 0);
  CHECK(server.err() == summary(121, 0));
}

TEST_CASE("echo: clients may reset before they are accepted", "[echo]") {
  for (const char* loops : {"1", "2"}) {
    Echo server({"--loops", loops});
    server.freeze();
    for (int i = 0; i < 500; ++i) {
      Client client(server.port);
      if (i % 2 == 0) client.send("x");
      client.reset();
    }
    server.thaw();
    for (int i = 0; i < 10; ++i) CHECK(server.serves());
    CHECK(server.stop().code == 0);
    CHECK(is_one_line(server.err()));
    CHECK(contains(server.err(), " 0 cut\n"));
  }
}

// --------------------------------------------------------------------- thrift

TEST_CASE("echo: an idle server sleeps", "[echo]") {
  // ThreadSanitizer has a thread of its own that does not sleep.
  if (support::kSanitized || contents("/proc/self/status").empty()) return;
  for (const char* loops : {"1", "2"}) {
    CAPTURE(loops);
    Echo server({"--loops", loops});
    std::vector<Client> idle;
    for (int i = 0; i < 10; ++i) {
      idle.emplace_back(server.port);
      REQUIRE(idle.back().exchange("x") == "x");
    }
    // It is on its way to sleep.
    long before = -1;
    eventually("sleep", [&] {
      std::this_thread::sleep_for(50ms);
      return std::exchange(before, sleeps_of(server)) == before;
    });
    const auto cpu = server.cpu_time();
    std::this_thread::sleep_for(2s);
    CHECK(sleeps_of(server) == before);
    CHECK((server.cpu_time() - cpu).count() == 0);
  }
}

TEST_CASE("echo: an idle connection costs little memory", "[echo]") {
  const ManyDescriptors limit;
  if (support::kSanitized || !limit.at_least(2400)) return;
  Echo server;
  const auto resident = [&server] {
    const std::string text = contents(server.proc("smaps_rollup"));
    return std::strtol(Program::value_of(text, "Rss").c_str(), nullptr, 10) *
           1024;
  };
  std::vector<Client> clients;
  const auto connect = [&](int count) {
    for (int i = 0; i < count; ++i) {
      clients.emplace_back(server.port);
      REQUIRE(clients.back().exchange("x") == "x");
    }
  };
  connect(200);
  const long before = resident();
  if (before == 0) return;
  connect(2000);
  const long each = (resident() - before) / 2000;
  CAPTURE(each);
#if defined(__linux__) && defined(VIOLET_KQUEUE)
  CHECK(each < 1500);  // libkqueue keeps here what a kernel keeps
#else
  CHECK(each < 700);
#endif
}
