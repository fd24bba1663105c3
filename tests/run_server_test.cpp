// run_server_test.cpp - several loops, one server.
// SPDX-License-Identifier: MIT
#include "../net/run_server.hpp"

#include <poll.h>

#include <atomic>
#include <deque>
#include <thread>

#include "catch.hpp"
#include "program.hpp"
#include "sockets.hpp"

using namespace programs;
using sockets::Directory;
using namespace violet;

namespace {

Task<> echo(Connection conn) {
  while (auto data = co_await conn.recv()) co_await conn.sendall(data);
}

/// A server of several loops in a process of its own.
class Server {
 public:
  template <class Handler>
  Server(Handler handler, int loops, ServerOptions options = ServerOptions(),
         std::string host = "127.0.0.1")
      : program{std::function<int()>(
            [=] { return run_server(host, 0, handler, options, loops); })} {
    where = program.line();
    if (host == "127.0.0.1") port = port_in(where);
  }

  /// After SIGTERM.
  End stop() {
    program.signal(SIGTERM);
    return program.wait();
  }

  Program program;
  std::string where;
  std::uint16_t port = 0;
};

void expect_echo(const Client& client) {
  CHECK(client.exchange("are you there?") == "are you there?");
}

}  // namespace

TEST_CASE("run_server: one loop is a whole program", "[run_server]") {
  Server server(echo, 1);
  CHECK(server.where.find(": listening on 127.0.0.1:") != std::string::npos);
  {
    const Client client(server.port);
    expect_echo(client);
  }
  CHECK(server.stop().code == 0);
  CHECK(server.program.err().find(": stopped: 1 served, 0 cut\n") !=
        std::string::npos);
}

TEST_CASE("run_server: several loops serve on one port, and sum up once",
          "[run_server][threads]") {
  Server server(echo, 4);
  for (int i = 0; i < 40; ++i) {
    const Client client(server.port);
    expect_echo(client);
  }
  CHECK(server.stop().code == 0);
  CHECK(count_of(server.program.err(), "stopped: 40 served, 0 cut\n") == 1);
  CHECK(count_of(server.program.err(), "stopped") == 1);
}

TEST_CASE("run_server: a stop of one loop stops all", "[run_server][threads]") {
  const auto handler = [](Connection conn) -> Task<> {
    while (const auto data = co_await conn.recv()) {
      co_await conn.sendall(data);
      if (data.view() == "stop") Loop::current().stop();
    }
  };
  Server server(handler, 4);
  std::deque<Client> clients;
  for (int i = 0; i < 20; ++i) {
    clients.emplace_back(server.port);
    expect_echo(clients.back());
  }
  CHECK(clients.front().exchange("stop") == "stop");
  for (const Client& client : clients) CHECK(client.receive_rest().empty());
  CHECK(server.program.wait().code == 0);
  CHECK(count_of(server.program.err(), "stopped: 20 served, 0 cut\n") == 1);
}

TEST_CASE("run_server: the first failure ends all loops",
          "[run_server][threads]") {
  // A failure of the server itself, not of a handler: of its loop.
  const auto fails = []() -> Task<> {
    co_await yield_now();
    throw std::runtime_error("no more");
  };
  const auto handler = [fails](Connection conn) -> Task<> {
    const Chunk data = co_await conn.recv();
    Loop::current().spawn(fails);
    co_await sleep(std::chrono::hours(1));
  };
  Server server(handler, 3);
  const Client idle(server.port);
  const Client client(server.port);
  client.send("x");
  CHECK(server.program.wait().code == 1);
  CHECK(server.program.err().find(": no more\n") != std::string::npos);
}

TEST_CASE("run_server: limits hold for all loops together",
          "[run_server][threads]") {
  static PeerLimit per_peer(6);
  ServerOptions options;
  options.max_connections = 3;
  options.when_full = turn_away;
  options.refused = [](Connection& conn) -> Task<> {
    co_await conn.sendall("full");
  };
  SECTION("of connections") {
    Server server(echo, 3, options);
    std::deque<Client> clients;
    for (int i = 0; i < 3; ++i) {
      clients.emplace_back(server.port);
      expect_echo(clients.back());
    }
    for (int i = 0; i < 10; ++i) {
      const Client one_too_many(server.port);
      CHECK(one_too_many.receive_rest() == "full");
    }
    clients.clear();
    CHECK(server.stop().code == 0);
    CHECK(count_of(server.program.err(),
                   "stopped: 3 served, 0 cut, 10 refused\n") == 1);
  }
  SECTION("of connections of one peer") {
    options.max_connections = 0;
    options.per_peer = &per_peer;
    Server server(echo, 3, options);
    std::deque<Client> clients;
    for (int i = 0; i < 6; ++i) {
      clients.emplace_back(server.port);
      expect_echo(clients.back());
    }
    for (int i = 0; i < 10; ++i) {
      const Client one_too_many(server.port);
      CHECK(one_too_many.receive_rest().empty());
    }
    clients.clear();
    CHECK(server.stop().code == 0);
    CHECK(count_of(server.program.err(),
                   "stopped: 6 served, 0 cut, 10 refused\n") == 1);
  }
}

TEST_CASE("run_server: a loop that looks for clients has nobody turned away",
          "[run_server][threads]") {
  ServerOptions options;
  options.max_connections = 2;
  options.when_full = turn_away;
  for (int round = 0; round < 50; ++round) {
    Server server(echo, 4, options);
    const Client one(server.port);
    const Client other(server.port);
    expect_echo(one);
    expect_echo(other);
    CHECK(server.stop().code == 0);
  }
}

TEST_CASE("run_server: short lines of several loops lose no place",
          "[run_server][threads]") {
  ServerOptions options;
  options.max_connections = 2;
  options.when_full = wait_in_line;
  options.max_waiting = GENERATE(1u, 4u);
  Server server(echo, 3, options);
  for (int round = 0; round < 20; ++round) {
    std::deque<Client> clients;
    for (int i = 0; i < 20; ++i) {
      clients.emplace_back(server.port);
      clients.back().send("x");
    }
    // Any two of them are served at a time; a poll finds who.
    while (!clients.empty()) {
      std::vector<pollfd> answers;
      for (const Client& one : clients)
        answers.push_back({one.fd(), POLLIN, 0});
      const auto count = static_cast<nfds_t>(answers.size());
      REQUIRE(::poll(answers.data(), count, 10'000) > 0);
      std::size_t who = 0;
      while (answers[who].revents == 0) ++who;
      clients.erase(clients.begin() + static_cast<std::ptrdiff_t>(who));
    }
  }
  CHECK(server.stop().code == 0);
  CHECK(count_of(server.program.err(), "stopped: 400 served, 0 cut\n") == 1);
}

TEST_CASE("run_server: each loop has a copy of the handler for itself",
          "[run_server][threads]") {
  // Loops in this process, so that we can count.
  std::atomic<int> copies = 0;
  std::atomic<std::uint64_t> served = 0;
  class Handler {
   public:
    Handler(std::atomic<int>& copies, std::atomic<std::uint64_t>& served)
        : copies_(copies), served_(served) {}
    Handler(const Handler& other)
        : copies_(other.copies_), served_(other.served_) {
      ++copies_;
    }
    Task<> operator()(Connection conn) const {
      ++served_;
      co_await conn.sendall("hello");
    }

   private:
    std::atomic<int>& copies_;
    std::atomic<std::uint64_t>& served_;
  };
  const Handler handler(copies, served);
  LoopsServer server(3, ServerOptions());
  server.listen(Address::parse("127.0.0.1"));
  const std::uint16_t port = server.address().port();
  support::Thread clients([port] {
    for (int i = 0; i < 30; ++i) {
      const Client client(port);
      if (client.receive_rest() != "hello") fail("no greeting");
    }
  });
  const auto watch = [&]() -> Task<> {
    while (served < 30) co_await sleep(std::chrono::milliseconds(1));
    Loop::current().stop();
  };
  run_loops(3, [&](int index) -> Task<> {
    if (index == 1) spawn(watch);
    co_await server.run<Handler>(index, handler);
  });
  CHECK(copies.load() >= 3);
  CHECK(server.summary().served == 30);
}

TEST_CASE("run_server: an address in use is one line and exit code 1",
          "[run_server]") {
  const Fd taken = listen_socket(Address::parse("127.0.0.1"));
  const Address address = local_address(taken.get());
  const int loops = GENERATE(1, 3);
  Program program{std::function<int()>([&] {
    return run_server("127.0.0.1", address.port(), echo, ServerOptions(),
                      loops);
  })};
  CHECK(program.wait().code == 1);
  CHECK(program.out().empty());
  CHECK(program.err().find("bind " + address.text() + ": ") !=
        std::string::npos);
}

TEST_CASE("run_server: a unix socket is for one loop", "[run_server]") {
  const Directory directory;
  const std::string host = "unix:" + directory.file();
  {
    Server server(echo, 1, ServerOptions(), host);
    CHECK(server.where.find("listening on " + host) != std::string::npos);
    CHECK(::access(directory.file().c_str(), F_OK) == 0);
    CHECK(server.stop().code == 0);
    CHECK(::access(directory.file().c_str(), F_OK) != 0);
  }
  Program program{std::function<int()>(
      [&] { return run_server(host, 0, echo, ServerOptions(), 2); })};
  CHECK(program.wait().code == 1);
  CHECK(program.err().find("cannot share a unix socket") != std::string::npos);
}
