// server_test.cpp - one job for each client, isolated; stops in good order.
// SPDX-License-Identifier: MIT
#include "../net/server.hpp"

#include <algorithm>
#include <deque>
#include <optional>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "../runtime/testing.hpp"
#include "catch.hpp"
#include "sockets.hpp"

using namespace sockets;

namespace {

/// A server in a loop of its own, and a scenario beside it that is given its
/// address. The server is asked to stop when the scenario has ended.
class Served {
 public:
  explicit Served(ServerOptions server_options = ServerOptions())
      : options(server_options) {}

  /// What the server wrote to stderr is in `log`, what it did in `summary`.
  template <class Handler, class Scenario>
  void run(Handler handler, Scenario scenario) {
    const Footprint before;
    {
      World world;
      auto whole = [&]() -> Task<> {
        Listener listener("127.0.0.1", 0);
        address = listener.address();
        auto body = [&](Listener own) -> Task<ServerSummary> {
          ServerSummary result =
              co_await serve(std::move(own), handler, options);
          co_return result;
        };
        server = spawn(body, std::move(listener));
        co_await scenario(*this);
        Loop::current().stop();
        if (!server.killed()) summary = co_await join(server);
        server = Job<ServerSummary>();
      };
      log = errors_of([&] { world.run(whole()); });
      hung = world.time.hung;
      elapsed = world.elapsed();
    }
    CHECK_FALSE(hung);
    CHECK(Footprint() == before);
  }

  ServerOptions options;
  Address address;
  Job<ServerSummary> server;
  ServerSummary summary;
  std::string log;
  Duration elapsed{};
  bool hung = false;
};

ServerOptions with_log(Log log) {
  ServerOptions options;
  options.log = log;
  return options;
}

/// Asks, and expects the same back.
Task<bool> is_echoed(const Connection& conn, std::string text) {
  const std::string answer = co_await ask(conn, text);
  co_return answer == text;
}

Task<> expect_echo(const Connection& conn) {
  const bool right = co_await is_echoed(conn, "are you there?");
  CHECK(right);
}

/// One whole client, from connecting to the end of the stream.
Task<> expect_service(const Address& address) {
  Connection conn = co_await connect(address);
  co_await expect_echo(conn);
  conn.shutdown(Half::kSending);
  const std::string rest = co_await receive_all(conn);
  CHECK(rest.empty());
}

/// Whatever comes until the end or an error.
Task<std::string> receive_rest(const Connection& conn) {
  std::string text;
  for (;;) {
    std::error_code code;
    const Chunk chunk = co_await conn.recv(code);
    if (!chunk) co_return text;
    text.append(chunk.view());
  }
}

/// Whether `text` comes. While servers share a limit time flows naturally,
/// so this ends although nobody would serve us.
Task<bool> comes_soon(const Connection& conn, std::string_view text) {
  for (const char expected : text) {
    char byte = 0;
    const std::optional<std::size_t> got =
        co_await within(10s, conn.recv(std::span<char>(&byte, 1)));
    if (!got || *got != 1 || byte != expected) co_return false;
  }
  co_return true;
}

Task<bool> is_served_soon(const Address& address) {
  const Connection conn = co_await connect(address);
  co_await conn.sendall("hello");
  const bool served = co_await comes_soon(conn, "hello");
  co_return served;
}

/// A handler that answers, or throws when it is told to.
Task<> moody(Connection conn) {
  while (auto data = co_await conn.recv()) {
    const std::string text(data.view());
    if (contains(text, "!")) throw std::runtime_error("told to");
    co_await conn.sendall(text);
  }
}
constexpr int kMoodyLine = __LINE__ - 6;  // of its recv

}  // namespace

// ------------------------------------------------------------------- serving

TEST_CASE("server: it serves one client after the other", "[server]") {
  const MaybeShortIo io;
  Served served;
  served.run(echo, [](Served& s) -> Task<> {
    for (int i = 0; i < 10; ++i) co_await expect_service(s.address);
  });
  CHECK(served.summary.served == 10);
  CHECK(served.summary.cut == 0);
  CHECK(served.summary.text() == "stopped: 10 served, 0 cut");
  CHECK(served.log.empty());
}

TEST_CASE("server: it serves many clients at a time", "[server]") {
  const MaybeShortIo io;
  Served served;
  served.run(echo, [](Served& s) -> Task<> {
    std::deque<Connection> clients;
    for (int i = 0; i < 50; ++i) clients.push_back(co_await connect(s.address));
    for (const Connection& client : clients) co_await expect_echo(client);
    for (const Connection& client : clients) co_await expect_echo(client);
  });
  CHECK(served.summary.served == 50);
}

TEST_CASE("server: a handler may be a lambda that captures", "[server]") {
  const MaybeShortIo io;
  auto greeting = std::make_shared<std::string>("welcome");
  {
    auto handler = [greeting](Connection conn) -> Task<> {
      co_await conn.sendall(*greeting);
    };
    Served served;
    served.run(handler, [](Served& s) -> Task<> {
      for (int i = 0; i < 3; ++i) {
        const Connection conn = co_await connect(s.address);
        const std::string text = co_await receive_all(conn);
        CHECK(text == "welcome");
      }
    });
    CHECK(served.summary.served == 3);
  }
  CHECK(greeting.use_count() == 1);
}

TEST_CASE("server: a handler may take its client by reference", "[server]") {
  const MaybeShortIo io;
  auto handler = [](Connection&& conn) -> Task<> {
    const std::string request = co_await receive(conn, 5);
    co_await conn.sendall(request);
  };
  Served served;
  served.run(handler, [](Served& s) -> Task<> {
    const Connection conn = co_await connect(s.address);
    co_await conn.sendall("hello");
    const std::string text = co_await receive_all(conn);
    CHECK(text == "hello");
  });
}

TEST_CASE("server: server() is a whole program", "[server]") {
  const MaybeShortIo io;
  World world;
  const std::string log = errors_of([&] {
    auto whole = []() -> Task<> {
      auto body = []() -> Task<> { co_await server("127.0.0.1", 0, echo); };
      spawn(body);
      co_await settle();
      Loop::current().stop();
    };
    world.run(whole());
  });
  CHECK(log == "violet: stopped: 0 served, 0 cut\n");
}

TEST_CASE("server: an address in use is thrown", "[server]") {
  const Listener taken("127.0.0.1", 0);
  World world;
  const std::string error = thrown<std::system_error>(
      [&] { world.run(server("127.0.0.1", taken.address().port(), echo)); });
  CHECK(error == "bind " + taken.address().text() + ": " +
                     support::text_of_error(EADDRINUSE));
}

// ------------------------------------------------------------------- failures

TEST_CASE("server: a handler that throws concerns nobody else", "[server]") {
  const MaybeShortIo io;
  std::string peer;
  Served served;
  served.run(moody, [&](Served& s) -> Task<> {
    const Connection other = co_await connect(s.address);
    co_await expect_echo(other);
    const Connection bad = co_await connect(s.address);
    peer = bad.local().text();
    co_await bad.sendall("!");
    const std::string rest = co_await receive_rest(bad);
    CHECK(rest.empty());
    co_await expect_echo(other);
    co_await expect_service(s.address);
  });
  CHECK(served.summary.served == 3);
  CHECK(served.log == "violet: " + peer +
                          ": handler failed at server_test.cpp:" +
                          std::to_string(kMoodyLine) + ": told to\n");
}

TEST_CASE("server: errors of handlers are logged at every level", "[server]") {
  const MaybeShortIo io;
  const Log level = GENERATE(Log::kErrors, Log::kNormal, Log::kVerbose);
  Served served(with_log(level));
  served.run(moody, [](Served& s) -> Task<> {
    const Connection bad = co_await connect(s.address);
    co_await bad.sendall("!");
    const std::string rest = co_await receive_rest(bad);
  });
  CHECK(contains(served.log, "handler failed"));
}

TEST_CASE("server: a peer that resets is logged only on request",
          "[server][libkqueue:so_error]") {
  const MaybeShortIo io;
  const Log level = GENERATE(Log::kErrors, Log::kNormal, Log::kVerbose);
  Served served(with_log(level));
  std::string peer;
  served.run(echo, [&](Served& s) -> Task<> {
    Connection bad = co_await connect(s.address);
    peer = bad.local().text();
    co_await expect_echo(bad);
    reset(bad);
    co_await settle();
    co_await expect_service(s.address);
  });
  if (level == Log::kVerbose) {
    CHECK(served.log.find("violet: " + peer + ": handler failed at ") == 0);
    CHECK(contains(served.log, "recv " + peer + ": Connection reset by peer"));
    CHECK(std::count(served.log.begin(), served.log.end(), '\n') == 1);
  } else {
    CHECK(served.log.empty());
  }
}

TEST_CASE("server: a peer that does not take our answer is silent, too",
          "[server]") {
  const MaybeShortIo io;
  auto handler = [](Connection conn) -> Task<> {
    const std::string block(100'000, 'b');
    for (;;) co_await conn.sendall(block);
  };
  Served served;
  served.run(handler, [](Served& s) -> Task<> {
    Connection bad = co_await connect(s.address);
    co_await receive(bad, 10);
    bad.close();
    co_await settle();
    co_await settle();
  });
  CHECK(served.summary.served == 1);
  CHECK(served.summary.cut == 0);
  CHECK(served.log.empty());
}

TEST_CASE("server: shutting down what the peer has reset is silent, too",
          "[server]") {
  const MaybeShortIo io;
  const Log level = GENERATE(Log::kErrors, Log::kVerbose);
  const bool by_stream = GENERATE(false, true);
  const auto handler = [&](Connection conn) -> Task<> {
    char byte = 0;
    co_await conn.recv(std::span<char>(&byte, 1));
    co_await sleep(1s);
    if (!by_stream) {
      conn.shutdown(Half::kSending);
    } else {
      Stream stream(std::move(conn));
      co_await stream.shutdown();
    }
  };
  Served served(with_log(level));
  served.run(handler, [](Served& s) -> Task<> {
    Connection bad = co_await connect(s.address);
    co_await bad.sendall("x");
    co_await settle();
    reset(bad);
    co_await sleep(2s);
  });
  CHECK(served.summary.served == 1);
  CHECK(contains(served.log, "shutdown") == (level == Log::kVerbose));
  CHECK(served.log.empty() == (level == Log::kErrors));
}

TEST_CASE("server: a failed handler's peer is known without its connection",
          "[server]") {
  const MaybeShortIo io;
  std::optional<Connection> stolen;
  std::string peer;
  SECTION("moved to another variable and closed") {
    auto handler = [](Connection conn) -> Task<> {
      {
        Connection mine = std::move(conn);
        const Chunk chunk = co_await mine.recv();
      }
      throw std::runtime_error("late");
    };
    Served served;
    served.run(handler, [&](Served& s) -> Task<> {
      const Connection conn = co_await connect(s.address);
      peer = conn.local().text();
      co_await conn.sendall("x");
      const std::string rest = co_await receive_rest(conn);
    });
    CHECK(served.log.find("violet: " + peer + ": handler failed at ") == 0);
    CHECK(contains(served.log, ": late\n"));
  }
  SECTION("moved out of the job") {
    auto handler = [&](Connection conn) -> Task<> {
      const Chunk chunk = co_await conn.recv();
      stolen = std::move(conn);
      throw std::runtime_error("stolen");
    };
    Served served;
    served.run(handler, [&](Served& s) -> Task<> {
      const Connection conn = co_await connect(s.address);
      peer = conn.local().text();
      co_await conn.sendall("x");
      while (!stolen) co_await yield_now();
      co_await settle();
      stolen.reset();
    });
    CHECK(served.log.find("violet: " + peer + ": handler failed at ") == 0);
  }
  SECTION("by a function that is no coroutine") {
    auto handler = [](Connection) -> Task<> {
      throw std::runtime_error("at once");
    };
    Served served;
    served.run(handler, [&](Served& s) -> Task<> {
      const Connection conn = co_await connect(s.address);
      peer = conn.local().text();
      const std::string rest = co_await receive_rest(conn);
    });
    CHECK(served.log.find("violet: " + peer + ": handler failed at ") == 0);
    CHECK(contains(served.log, ": at once\n"));
  }
}

TEST_CASE("server: a handler that fails before its first wait has a line",
          "[server]") {
  const MaybeShortIo io;
  auto handler = [](Connection conn) -> Task<> {
    if (conn) throw std::runtime_error("no wait");
    co_await conn.sendall("never");
  };
  Served served;
  served.run(handler, [](Served& s) -> Task<> {
    const Connection conn = co_await connect(s.address);
    const std::string rest = co_await receive_rest(conn);
  });
  CHECK(contains(served.log, "handler failed at server_test.cpp:"));
  CHECK(contains(served.log, ": no wait\n"));
}

TEST_CASE("server: what a handler throws need be no std::exception",
          "[server]") {
  const MaybeShortIo io;
  auto handler = [](Connection conn) -> Task<> {
    const Chunk chunk = co_await conn.recv();
    throw 42;
  };
  Served served;
  served.run(handler, [](Served& s) -> Task<> {
    const Connection conn = co_await connect(s.address);
    co_await conn.sendall("x");
    const std::string rest = co_await receive_rest(conn);
  });
  CHECK(contains(served.log, "an exception that is no std::exception"));
}

TEST_CASE("server: a client that goes at any step harms nobody", "[server]") {
  const MaybeShortIo io;
  const bool resets = GENERATE(false, true);
  Served served;
  served.run(echo, [resets](Served& s) -> Task<> {
    const std::string text = random_bytes(5000);
    for (int steps = 0; steps < 6; ++steps) {
      Connection conn = co_await connect(s.address);
      if (steps > 0) co_await conn.sendall(text.substr(0, 2500));
      if (steps > 1) co_await conn.sendall(text.substr(2500));
      if (steps > 2) co_await receive(conn, 1000);
      if (steps > 3) conn.shutdown(Half::kSending);
      if (steps > 4) {
        const std::string rest = co_await receive_all(conn);
        CHECK((rest == text.substr(1000)));
      }
      if (resets) reset(conn);
      conn.close();
      co_await expect_service(s.address);
    }
  });
  CHECK(served.summary.served == 12);
  CHECK(served.summary.cut == 0);
  CHECK(served.log.empty());
}

TEST_CASE("server: connects that reset before accept do not stop it",
          "[server]") {
  const MaybeShortIo io;
  Served served;
  served.run(echo, [](Served& s) -> Task<> {
    for (int i = 0; i < 500; ++i) {
      const Fd client = dial(s.address);
      reset_on_close(client.get());
    }
    co_await expect_service(s.address);
  });
  CHECK(served.summary.served >= 1);
  CHECK(served.summary.served <= 501);
  CHECK(served.summary.cut == 0);
  CHECK(served.log.empty());
}

// --------------------------------------------------------------------- limits

TEST_CASE("server: no more clients at a time than allowed", "[server]") {
  const MaybeShortIo io;
  const bool resets = GENERATE(false, true);
  ServerOptions options;
  options.max_connections = 2;
  Served served(options);
  served.run(echo, [resets](Served& s) -> Task<> {
    Connection first = co_await connect(s.address);
    Connection second = co_await connect(s.address);
    co_await expect_echo(first);
    co_await expect_echo(second);
    // The third one is connected, since it stands in the backlog.
    Connection third = co_await connect(s.address);
    co_await third.sendall("hello");
    char byte;
    auto got = co_await within(1s, third.recv(std::span<char>(&byte, 1)));
    CHECK_FALSE(got);
    CHECK(contains(Loop::current().dump(), "room for one more connection"));
    co_await expect_echo(first);
    if (resets) {
      reset(first);
    } else {
      first.close();
    }
    const std::string answer = co_await receive(third, 5);
    CHECK(answer == "hello");
    second.close();
    co_await expect_service(s.address);
    co_await expect_service(s.address);
  });
  CHECK(served.summary.served == 5);
}

TEST_CASE("server: a place comes back from a handler that fails", "[server]") {
  const MaybeShortIo io;
  ServerOptions options;
  options.max_connections = 1;
  Served served(options);
  served.run(moody, [](Served& s) -> Task<> {
    for (int i = 0; i < 5; ++i) {
      const Connection conn = co_await connect(s.address);
      co_await expect_echo(conn);
      co_await conn.sendall("!");
      const std::string rest = co_await receive_rest(conn);
    }
  });
  CHECK(served.summary.served == 5);
}

namespace {

/// Two servers in one loop that share a limit, and a scenario beside them.
template <class Scenario>
void serve_two(std::size_t most, Scenario scenario) {
  const Footprint before;
  {
    ConnectionLimit limit(most);
    ServerOptions options;
    options.shared_limit = &limit;
    World world;
    auto whole = [&]() -> Task<> {
      auto body = [&](Listener own) -> Task<> {
        co_await serve(std::move(own), echo, options);
      };
      Listener one("127.0.0.1", 0);
      Listener two("127.0.0.1", 0);
      const Address at_one = one.address();
      const Address at_two = two.address();
      spawn(body, std::move(one));
      spawn(body, std::move(two));
      co_await scenario(at_one, at_two);
      Loop::current().stop();
    };
    world.run(whole());
  }
  CHECK(Footprint() == before);
}

}  // namespace

TEST_CASE("server: two servers share one limit", "[server]") {
  const MaybeShortIo io;
  serve_two(2, [](Address at_one, Address at_two) -> Task<> {
    Connection a = co_await connect(at_one);
    co_await a.sendall("hello");
    bool served = co_await comes_soon(a, "hello");
    CHECK(served);
    Connection b = co_await connect(at_two);
    co_await b.sendall("hello");
    served = co_await comes_soon(b, "hello");
    CHECK(served);
    Connection c = co_await connect(at_two);
    co_await c.sendall("hello");
    for (int i = 0; i < 100; ++i) co_await yield_now();
    char byte;
    CHECK(::recv(c.fd(), &byte, 1, MSG_DONTWAIT | MSG_PEEK) == -1);
    // The place that one server gives back is for the other.
    a.close();
    served = co_await comes_soon(c, "hello");
    CHECK(served);
  });
}

TEST_CASE("server: one without clients keeps no shared place", "[server]") {
  const MaybeShortIo io;
  serve_two(1, [](Address at_one, Address at_two) -> Task<> {
    for (int i = 0; i < 3; ++i) {
      bool served = co_await is_served_soon(at_one);
      CHECK(served);
      if (!served) break;
      served = co_await is_served_soon(at_two);
      CHECK(served);
      if (!served) break;
    }
  });
}

TEST_CASE("server: limits of 0 are none", "[server]") {
  const MaybeShortIo io;
  ConnectionLimit no_limit(0);
  PeerLimit any_number(0);
  ServerOptions options;
  options.shared_limit = &no_limit;
  options.per_peer = &any_number;
  World world;
  auto whole = [&]() -> Task<> {
    Listener listener("127.0.0.1", 0);
    const Address address = listener.address();
    const auto body = [&](Listener own) -> Task<> {
      const ServerSummary done = co_await serve(std::move(own), echo, options);
      CHECK(done.served == 3);
    };
    spawn(body, std::move(listener));
    std::deque<Connection> clients;
    for (int i = 0; i < 3; ++i) {
      clients.push_back(co_await connect(address));
      co_await clients.back().sendall("hello");
      const bool served = co_await comes_soon(clients.back(), "hello");
      CHECK(served);
    }
    Loop::current().stop();
  };
  world.run(whole());
}

TEST_CASE("server: two loops share one limit", "[server][threads]") {
  ConnectionLimit limit(1);
  Fd sockets[2] = {listen_socket(Address::parse("127.0.0.1")),
                   listen_socket(Address::parse("127.0.0.1"))};
  const Address addresses[2] = {local_address(sockets[0].get()),
                                local_address(sockets[1].get())};
  std::optional<Remote> remotes[2];
  std::atomic<int> up = 0;
  std::atomic<bool> failed = false;
  bool right = true;
  std::uint64_t counts[2] = {};
  {
    std::deque<support::Thread> threads;
    for (std::size_t i = 0; i < 2; ++i) {
      threads.emplace_back([&, i] {
        auto body = [&, i]() -> Task<> {
          ServerOptions options;
          options.shared_limit = &limit;
          Listener listener(std::move(sockets[i]));
          remotes[i].emplace(Loop::current().remote());
          ++up;
          up.notify_all();
          const ServerSummary summary =
              co_await serve(std::move(listener), echo, options);
          counts[i] = summary.served;
        };
        try {
          violet::run(body());
        } catch (...) {
          failed = true;
        }
      });
    }
    while (up < 2) up.wait(up.load());
    auto clients = [&]() -> Task<> {
      for (int i = 0; i < 20 && right; ++i) {
        right = co_await is_served_soon(addresses[i % 2]);
      }
    };
    violet::run(clients());
    CHECK(right);
    for (auto& remote : remotes) {
      const bool posted = remote->post([] { Loop::current().stop(); });
      CHECK(posted);
      remote.reset();
    }
  }
  CHECK_FALSE(failed.load());
  CHECK(counts[0] == 10);
  CHECK(counts[1] == 10);
}

TEST_CASE("server: one that fails gives its place back", "[server]") {
  // accept(2) fails for good on one of two servers that share a limit.
  class Broken final : public sys::Calls {
   public:
    int accept(int fd, sockaddr* peer, unsigned* size) noexcept override {
      return fd == broken ? -EINVAL : Calls::accept(fd, peer, size);
    }
    int broken = -1;
  };
  Broken calls;
  const support::ScopedCalls installed(calls);
  ConnectionLimit limit(1);
  ServerOptions options;
  options.shared_limit = &limit;
  World world;
  auto whole = [&]() -> Task<> {
    Fd socket = listen_socket(Address::parse("127.0.0.1"));
    calls.broken = socket.get();
    Listener broken(std::move(socket));
    std::string error;
    try {
      co_await serve(std::move(broken), echo, options);
    } catch (const std::system_error& e) {
      error = e.what();
    }
    CHECK(contains(error, "Invalid argument"));
    calls.broken = -1;  // its number is free for the next one
    Listener listener("127.0.0.1", 0);
    const Address address = listener.address();
    auto body = [&](Listener own) -> Task<> {
      co_await serve(std::move(own), echo, options);
    };
    spawn(body, std::move(listener));
    const bool served = co_await is_served_soon(address);
    CHECK(served);
    Loop::current().stop();
  };
  world.run(whole());
}

// ------------------------------------------------------------------- stopping

TEST_CASE("server: a stop ends idle handlers at once", "[server]") {
  const MaybeShortIo io;
  Served served;
  std::deque<Connection> clients;
  served.run(echo, [&](Served& s) -> Task<> {
    for (int i = 0; i < 5; ++i) {
      clients.push_back(co_await connect(s.address));
      co_await expect_echo(clients.back());
    }
    // One that has not asked for anything yet.
    clients.push_back(co_await connect(s.address));
    co_await settle();
    Loop::current().stop();
    const Duration before = s.elapsed;
    co_await wait(s.server);
    CHECK(s.elapsed == before);
    for (const Connection& client : clients) {
      const std::string rest = co_await receive_rest(client);
      CHECK(rest.empty());
    }
    clients.clear();
  });
  CHECK(served.elapsed < 1s);
  CHECK(served.summary.served == 6);
  CHECK(served.summary.cut == 0);
}

TEST_CASE("server: a stop accepts what the backlog holds", "[server]") {
  const MaybeShortIo io;
  Served served;
  std::deque<Fd> clients;
  served.run(echo, [&](Served& s) -> Task<> {
    for (int i = 0; i < 5; ++i) clients.push_back(dial(s.address));
    Loop::current().stop();
    co_await wait(s.server);
    for (const Fd& client : clients) {
      CHECK(support::arrives(client.get(), POLLIN));
      char byte;
      CHECK(::recv(client.get(), &byte, 1, 0) == 0);  // no reset
    }
    clients.clear();
  });
  CHECK(served.summary.served == 5);
  CHECK(served.summary.cut == 0);
}

TEST_CASE("server: a steady crowd does not keep a server from stopping",
          "[server]") {
  const MaybeShortIo io;
  Served served;
  std::size_t came = 0;
  std::size_t came_until_stop = 0;
  served.run(echo, [&](Served& s) -> Task<> {
    while (!s.server.ended() && came < 4000) {
      // More than it can accept in one turn, so that somebody always waits.
      for (int i = 0; i < 40; ++i) {
        try {
          const Fd client = dial(s.address);
          ++came;
        } catch (const std::system_error&) {  // nobody listens any more
        }
      }
      if (came_until_stop == 0 && came >= 200) {
        came_until_stop = came;
        Loop::current().stop();
      }
      co_await yield_now();
    }
    co_await wait(s.server);
  });
  CHECK(came_until_stop == 200);
  CHECK(served.summary.served <= came_until_stop);
  CHECK(came < 4000);
}

TEST_CASE("server: a request in the backlog is answered before a stop",
          "[server]") {
  const MaybeShortIo io;
  Served served;
  std::deque<Fd> clients;
  served.run(echo, [&](Served& s) -> Task<> {
    for (int i = 0; i < 3; ++i) {
      clients.push_back(dial(s.address));
      CHECK(support::put(clients.back().get(), "x"));
    }
    Loop::current().stop();
    co_await wait(s.server);
    for (const Fd& client : clients) {
      CHECK(support::arrives(client.get(), POLLIN));
      char byte = '-';
      CHECK(::recv(client.get(), &byte, 1, 0) == 1);
      CHECK(byte == 'x');
    }
    clients.clear();
  });
  CHECK(served.summary.served == 3);
  CHECK(served.summary.cut == 0);
}

TEST_CASE("server: after a stop nobody can connect",
          "[server][libkqueue:so_error]") {
  const MaybeShortIo io;
  Served served;
  served.run(echo, [](Served& s) -> Task<> {
    Loop::current().stop();
    co_await wait(s.server);
    std::error_code code;
    const Connection none = co_await connect(s.address, code);
    CHECK(code == std::errc::connection_refused);
  });
}

TEST_CASE("server: a busy handler is cut when the grace is over", "[server]") {
  const MaybeShortIo io;
  auto handler = [](Connection conn) -> Task<> {
    const Chunk request = co_await conn.recv();
    co_await sleep(24h);
    co_await conn.sendall("never");
  };
  ServerOptions options;
  options.grace = 7s;
  Served served(options);
  served.run(handler, [](Served& s) -> Task<> {
    const Connection busy = co_await connect(s.address);
    co_await busy.sendall("x");
    const Connection idle = co_await connect(s.address);
    co_await settle();
    const TimePoint stopped = support::now();
    Loop::current().stop();
    std::string rest = co_await receive_rest(idle);
    CHECK(support::now() - stopped < 1s);
    co_await wait(s.server);
    CHECK(support::now() - stopped == 7s);
    rest = co_await receive_rest(busy);
    CHECK(rest.empty());
  });
  CHECK(served.summary.served == 2);
  CHECK(served.summary.cut == 1);
  CHECK(served.summary.text() == "stopped: 2 served, 1 cut");
  CHECK(served.log.empty());
}

TEST_CASE("server: a shield does not outlive the grace, nor the server",
          "[server]") {
  const MaybeShortIo io;
  bool ended = false;
  const auto last_words = [](Connection& conn) -> Task<> {
    co_await sleep(1h);
    co_await conn.sendall("never");
  };
  const auto handler = [&](Connection conn) -> Task<> {
    const AtEnd end([&] { ended = true; });
    (void)co_await conn.recv();
    co_await shield(last_words(conn));
  };
  ServerOptions options;
  options.grace = 3s;
  Served served(options);
  served.run(handler, [&](Served& s) -> Task<> {
    const Connection conn = co_await connect(s.address);
    co_await conn.sendall("x");
    co_await settle();
    const TimePoint stopped = support::now();
    Loop::current().stop();
    co_await wait(s.server);
    CHECK(ended);
    CHECK(support::now() - stopped == 3s);
  });
  CHECK(served.summary.cut == 1);
}

TEST_CASE("server: a grace of nothing cuts at once", "[server]") {
  const MaybeShortIo io;
  auto handler = [](Connection conn) -> Task<> {
    const Chunk request = co_await conn.recv();
    co_await sleep(24h);
  };
  ServerOptions options;
  options.grace = 0s;
  Served served(options);
  served.run(handler, [](Served& s) -> Task<> {
    const Connection busy = co_await connect(s.address);
    co_await busy.sendall("x");
    co_await settle();
    const TimePoint stopped = support::now();
    Loop::current().stop();
    co_await wait(s.server);
    CHECK(support::now() == stopped);
  });
  CHECK(served.summary.cut == 1);
}

TEST_CASE("server: a busy handler may answer during the grace", "[server]") {
  const MaybeShortIo io;
  // Answers after a second, and then awaits the next request for ever.
  auto handler = [](Connection conn) -> Task<> {
    for (;;) {
      const Chunk request = co_await conn.recv();
      if (!request) co_return;
      co_await sleep(1s);
      co_await conn.sendall(request);
    }
  };
  Served served;
  served.run(handler, [](Served& s) -> Task<> {
    const Connection conn = co_await connect(s.address);
    co_await conn.sendall("x");
    co_await settle();
    const TimePoint stopped = support::now();
    Loop::current().stop();
    co_await wait(s.server);
    CHECK(support::now() - stopped <= 1s);
    const std::string rest = co_await receive_rest(conn);
    CHECK(rest == "x");
  });
  CHECK(served.summary.served == 1);
  CHECK(served.summary.cut == 0);
}

TEST_CASE("server: a limit around recv does not hide who is idle", "[server]") {
  const MaybeShortIo io;
  auto handler = [](Connection conn) -> Task<> {
    for (;;) {
      const std::optional<Chunk> data = co_await within(1h, conn.recv());
      if (!data || !*data) co_return;
      co_await conn.sendall(*data);
    }
  };
  Served served;
  served.run(handler, [](Served& s) -> Task<> {
    const Connection conn = co_await connect(s.address);
    co_await expect_echo(conn);
    co_await settle();
    const TimePoint stopped = support::now();
    Loop::current().stop();
    co_await wait(s.server);
    CHECK(support::now() - stopped < 1s);
  });
  CHECK(served.summary.cut == 0);
}

TEST_CASE("server: half a request keeps its handler for the grace",
          "[server]") {
  const MaybeShortIo io;
  auto handler = [](Connection conn) -> Task<> {
    for (;;) {
      const std::string request = co_await receive(conn, 10);
      if (request.size() < 10) co_return;
      co_await conn.sendall(request);
    }
  };
  const bool completes = GENERATE(false, true);
  Served served;
  served.run(handler, [completes](Served& s) -> Task<> {
    const Connection conn = co_await connect(s.address);
    co_await conn.sendall("12345");
    co_await settle();
    Loop::current().stop();
    const TimePoint stopped = support::now();
    co_await sleep(2s);
    CHECK_FALSE(s.server.ended());
    if (completes) co_await conn.sendall("67890");
    co_await wait(s.server);
    const std::string rest = co_await receive_rest(conn);
    CHECK(rest == (completes ? "1234567890" : ""));
    CHECK(support::now() - stopped == (completes ? 2s : 5s));
  });
  CHECK(served.summary.cut == (completes ? 0 : 1));
}

TEST_CASE("server: a stop finds a server that has no room", "[server]") {
  const MaybeShortIo io;
  ServerOptions options;
  options.max_connections = 1;
  Served served(options);
  served.run(echo, [](Served& s) -> Task<> {
    const Connection conn = co_await connect(s.address);
    co_await expect_echo(conn);
    co_await settle();
    Loop::current().stop();
    co_await wait(s.server);
  });
  CHECK(served.summary.served == 1);
}

TEST_CASE("server: a stop serves who waits behind its limit", "[server]") {
  const MaybeShortIo io;
  ServerOptions options;
  options.max_connections = 1;
  Served served(options);
  std::deque<Fd> clients;
  served.run(echo, [&](Served& s) -> Task<> {
    const Connection conn = co_await connect(s.address);
    co_await expect_echo(conn);
    for (int i = 0; i < 3; ++i) {
      clients.push_back(dial(s.address));
      CHECK(support::put(clients.back().get(), "x"));
    }
    co_await settle();
    Loop::current().stop();
    co_await wait(s.server);
    for (const Fd& client : clients) {
      CHECK(support::arrives(client.get(), POLLIN));
      CHECK(support::get(client.get()) == "x");
    }
    clients.clear();
  });
  CHECK(served.summary.served == 4);
  CHECK(served.summary.cut == 0);
}

TEST_CASE("server: who waits behind its limit is not waited for without end",
          "[server]") {
  const MaybeShortIo io;
  ServerOptions options;
  options.max_connections = 1;
  options.grace = 2s;
  Served served(options);
  std::deque<Fd> clients;
  const auto busy = [](Connection conn) -> Task<> {
    co_await conn.recv();
    co_await sleep(1h);
  };
  served.run(busy, [&](Served& s) -> Task<> {
    const Connection conn = co_await connect(s.address);
    co_await conn.sendall("x");
    co_await settle();
    clients.push_back(dial(s.address));
    CHECK(support::put(clients.back().get(), "x"));
    const TimePoint begin = Loop::current().now();
    Loop::current().stop();
    co_await wait(s.server);
    const Duration elapsed = Loop::current().now() - begin;
    CHECK(elapsed >= 2s);
    CHECK(elapsed < 3s);
    clients.clear();
  });
  CHECK(served.summary.served == 1);
  CHECK(served.summary.cut == 1);
}

TEST_CASE("server: a stop takes who has not been announced yet", "[server]") {
  const MaybeShortIo io;
  Served served;
  std::deque<Fd> clients;
  served.run(echo, [&](Served& s) -> Task<> {
    co_await settle();  // it waits for an edge now
    clients.push_back(dial(s.address));
    CHECK(support::put(clients.back().get(), "x"));
    Loop::current().stop();
    co_await wait(s.server);
    CHECK(support::arrives(clients.back().get(), POLLIN));
    CHECK(support::get(clients.back().get()) == "x");
    clients.clear();
  });
  CHECK(served.summary.served == 1);
}

TEST_CASE("server: a limit around a task does not hide who is idle",
          "[server]") {
  const MaybeShortIo io;
  const auto answer_one = [](Connection& conn) -> Task<bool> {
    const Chunk data = co_await conn.recv();
    if (!data) co_return false;
    co_await sleep(100ms);
    co_await conn.sendall(data);
    co_return true;
  };
  const auto handler = [&](Connection conn) -> Task<> {
    for (;;) {
      const auto served = co_await within(1h, answer_one(conn));
      if (!served || !*served) co_return;
    }
  };
  Served served;
  served.run(handler, [](Served& s) -> Task<> {
    const Connection idle = co_await connect(s.address);
    co_await expect_echo(idle);
    const Connection busy = co_await connect(s.address);
    co_await busy.sendall("x");
    co_await settle();
    const TimePoint stopped = support::now();
    Loop::current().stop();
    const std::string none = co_await receive_rest(idle);
    CHECK(none.empty());
    CHECK(support::now() - stopped < 50ms);
    const std::string answer = co_await receive_rest(busy);
    CHECK(answer == "x");
    co_await wait(s.server);
    CHECK(support::now() - stopped < 1s);
  });
  CHECK(served.summary.cut == 0);
}

TEST_CASE("server: a handler that awaits another server's answer is not idle",
          "[server]") {
  const MaybeShortIo io;
  Served served;
  Listener upstream("127.0.0.1", 0);
  const auto proxy = [&](Connection conn) -> Task<> {
    const std::string request = co_await receive(conn, 3);
    const Connection other = co_await connect(upstream.address());
    const std::string answer = co_await ask(other, request);
    co_await conn.sendall(answer);
  };
  served.run(proxy, [&](Served& s) -> Task<> {
    const Connection conn = co_await connect(s.address);
    co_await conn.sendall("abc");
    const Connection asked = co_await upstream.accept();
    const std::string request = co_await receive(asked, 3);
    co_await settle();
    Loop::current().stop();
    co_await sleep(1s);
    co_await asked.sendall(request);
    const std::string answer = co_await receive_rest(conn);
    CHECK(answer == "abc");
  });
  CHECK(served.summary.cut == 0);
}

TEST_CASE("server: the failure of a job that a handler spawned is logged",
          "[server]") {
  const MaybeShortIo io;
  Served served;
  const auto fails = [](std::string text) -> Task<> {
    co_await yield_now();
    throw std::runtime_error(text);
  };
  const auto handler = [&](Connection conn) -> Task<> {
    spawn(fails, std::string(200, 'z'));
    co_await conn.recv();
  };
  served.run(handler, [](Served& s) -> Task<> {
    const Connection conn = co_await connect(s.address);
    co_await settle();
  });
  CHECK(contains(served.log, "job #"));
  CHECK(contains(served.log, "zzz"));
}

TEST_CASE("server: jobs that handlers spawn take no places", "[server]") {
  const MaybeShortIo io;
  ServerOptions options;
  options.max_connections = 2;
  options.grace = 1s;
  ConnectionLimit limit(2);
  if (GENERATE(false, true)) options.shared_limit = &limit;
  Served served(options);
  int now = 0;
  int most = 0;
  const auto linger = [](Duration time) -> Task<> { co_await sleep(time); };
  const auto handler = [&](Connection conn) -> Task<> {
    most = std::max(most, ++now);
    spawn(linger, Duration(1ms));
    spawn(linger, Duration(1h));
    co_await conn.recv();
    --now;
  };
  served.run(handler, [](Served& s) -> Task<> {
    std::deque<Connection> clients;
    for (int i = 0; i < 4; ++i) {
      clients.push_back(co_await connect(s.address));
    }
    co_await sleep(100ms);
    for (const Connection& client : clients) {
      co_await client.sendall("x");
      co_await sleep(10ms);
    }
  });
  CHECK(most == 2);
  CHECK(served.summary.served == 4);
  CHECK(served.summary.cut == 0);
}

TEST_CASE("server: a dying handler may kill the next", "[server]") {
  const MaybeShortIo io;
  Served served;
  const auto handler = [](Connection conn) -> Task<> {
    const Job<> pump = spawn(forever);
    const AtEnd kills([&] { pump.kill(); });
    while (auto data = co_await conn.recv()) co_await conn.sendall(data);
  };
  served.run(handler, [](Served& s) -> Task<> {
    const Connection one = co_await connect(s.address);
    const Connection two = co_await connect(s.address);
    co_await settle();
    Loop::current().stop();
    co_await wait(s.server);
  });
  CHECK(served.summary.served == 2);
  CHECK(served.summary.cut == 0);
}

TEST_CASE("server: a result that kills it ends it in good order", "[server]") {
  const MaybeShortIo io;
  Served served;
  class Killer {
   public:
    explicit Killer(Served& s) noexcept : served_(&s) {}
    Killer(Killer&& other) noexcept
        : served_(std::exchange(other.served_, nullptr)) {}
    ~Killer() {
      if (served_ != nullptr) served_->server.kill("by a result");
    }

   private:
    Served* served_;
  };
  const auto helper = [&]() -> Task<Killer> {
    co_await sleep(1ms);
    co_return Killer(served);
  };
  const auto handler = [&](Connection conn) -> Task<> {
    spawn(helper);
    co_await conn.recv();
  };
  served.run(handler, [](Served& s) -> Task<> {
    const Connection conn = co_await connect(s.address);
    co_await wait(s.server);
    CHECK(s.server.killed());
  });
}

TEST_CASE("server: one that starts after the stop serves the backlog only",
          "[server]") {
  const MaybeShortIo io;
  World world;
  auto whole = []() -> Task<> {
    Loop::current().stop();
    Listener listener("127.0.0.1", 0);
    const Fd client = dial(listener.address());
    const ServerSummary summary = co_await serve(std::move(listener), echo);
    CHECK(summary.served == 1);
    CHECK(summary.cut == 0);
  };
  world.run(whole());
}

TEST_CASE("server: its handlers die with it", "[server]") {
  const MaybeShortIo io;
  const int alive = support::Tracked::alive();
  auto handler = [](Connection conn) -> Task<> {
    const support::Tracked local(1);
    co_await sleep(24h);
    co_await conn.sendall("never");
  };
  Served served;
  served.run(handler, [&](Served& s) -> Task<> {
    const Connection one = co_await connect(s.address);
    const Connection two = co_await connect(s.address);
    co_await settle();
    CHECK(support::Tracked::alive() == alive + 2);
    CHECK(s.server.kill());
    CHECK(support::Tracked::alive() == alive);
    std::string rest = co_await receive_rest(one);
    CHECK(rest.empty());
    rest = co_await receive_rest(two);
    CHECK(rest.empty());
    // The port is free.
    const Listener again(s.address);
  });
  CHECK(served.elapsed < 1s);
}

TEST_CASE("server: one that is killed gives its shared places back",
          "[server]") {
  const MaybeShortIo io;
  ConnectionLimit limit(2);
  ServerOptions options;
  options.shared_limit = &limit;
  for (int i = 0; i < 3; ++i) {
    World world;
    auto whole = [&]() -> Task<> {
      Listener listener("127.0.0.1", 0);
      const Address address = listener.address();
      auto body = [&](Listener own) -> Task<> {
        co_await serve(std::move(own), echo, options);
      };
      auto server = spawn(body, std::move(listener));
      const Connection one = co_await connect(address);
      co_await expect_echo(one);
      const Connection two = co_await connect(address);
      co_await expect_echo(two);
      CHECK(server.kill());
    };
    world.run(whole());
    CHECK_FALSE(world.time.hung);
  }
}

namespace {

/// Kills a server after so many rounds of everybody, while a client comes.
/// Returns: true if the client had been served before that.
bool served_before_kill(int rounds) {
  bool ended = false;
  const Footprint before;
  {
    World world(0);
    auto whole = [&]() -> Task<> {
      Listener listener("127.0.0.1", 0);
      const Address address = listener.address();
      auto body = [](Listener own) -> Task<> {
        co_await serve(std::move(own), echo);
      };
      auto server = spawn(body, std::move(listener));
      auto client = [&]() -> Task<> {
        std::error_code code;  // refused, if the server was gone before
        const Connection conn = co_await connect(address, code);
        co_await conn.sendall("x", code);
        char byte;
        co_await conn.recv(std::span<char>(&byte, 1), code);
      };
      auto visitor = spawn(client);
      for (int i = 0; i < rounds && !visitor.ended(); ++i) {
        co_await yield_now();
      }
      ended = visitor.ended();
      CHECK(server.kill());
      co_await join(visitor);
    };
    world.run(whole());
    CHECK_FALSE(world.time.hung);
  }
  CHECK(Footprint() == before);
  return ended;
}

}  // namespace

TEST_CASE("server: it can be killed at any moment", "[server]") {
  const MaybeShortIo io;
  int rounds = 0;
  while (!served_before_kill(rounds)) {
    ++rounds;
    REQUIRE(rounds < 10'000);
  }
  CHECK(rounds > 5);
}

#ifndef VIOLET_NEEDS_DESCRIPTORS
TEST_CASE("server: without descriptors it waits and serves again", "[server]") {
  const MaybeShortIo io;
  Served served;
  served.run(echo, [](Served& s) -> Task<> {
    Connection first = co_await connect(s.address);
    co_await expect_echo(first);
    std::deque<Fd> clients;
    for (int i = 0; i < 3; ++i) {
      clients.push_back(dial(s.address));
      CHECK(support::put(clients.back().get(), "x"));
    }
    int next;
    {
      const Fd probe(::dup(0));
      next = probe.get();
    }
    const DescriptorLimit limit(static_cast<rlim_t>(next));
    co_await sleep(1s);
    char byte;
    for (const Fd& client : clients)
      CHECK(::recv(client.get(), &byte, 1, 0) < 0);
    co_await expect_echo(first);  // whoever is served goes on
    // The server closes its end of the first, which makes room for another.
    first.close();
    co_await sleep(1s);
    int answered = 0;
    for (const Fd& client : clients) {
      if (::recv(client.get(), &byte, 1, 0) == 1) ++answered;
    }
    CHECK(answered >= 1);
    clients.clear();
    co_await sleep(1s);
  });
  CHECK(contains(served.log, support::text_of_error(EMFILE)));
  CHECK(std::count(served.log.begin(), served.log.end(), '\n') == 1);
}
#endif

// ----------------------------------------------------------------------- time

namespace {

ServerOptions timed(Duration idle, Duration total = Duration::zero()) {
  ServerOptions options;
  options.idle_timeout = idle;
  options.total_timeout = total;
  return options;
}

/// How long it takes until the server ends a connection, from `begin`.
Task<Duration> time_to_end(const Connection& conn, TimePoint begin) {
  const std::string rest = co_await receive_rest(conn);
  co_return support::now() - begin;
}

/// Not before the limit, and not more than an eighth later.
void expect_about(Duration limit, Duration elapsed) {
  CHECK(elapsed >= limit);
  CHECK(elapsed <= limit + limit / 8 + 40ms);
}

}  // namespace

TEST_CASE("server: who says nothing for too long is ended", "[server]") {
  const MaybeShortIo io;
  Served served(timed(8s));
  served.run(echo, [](Served& s) -> Task<> {
    const Connection talks = co_await connect(s.address);
    const Connection silent = co_await connect(s.address);
    const TimePoint begin = support::now();
    const auto waits = spawn(time_to_end, std::cref(silent), begin);
    for (int i = 0; i < 20; ++i) {
      co_await sleep(7s);
      co_await expect_echo(talks);
    }
    expect_about(8s, co_await join(waits));
    const TimePoint last = support::now();
    expect_about(8s, co_await time_to_end(talks, last));
  });
  CHECK(served.summary.served == 2);
  CHECK(served.summary.timed_out == 2);
  CHECK(served.summary.text() == "stopped: 2 served, 0 cut, 2 timed out");
  CHECK(served.log.empty());
}

TEST_CASE("server: who reads nothing for too long is ended", "[server]") {
  const auto handler = [](Connection conn) -> Task<> {
    const std::string block(100'000, 'b');
    for (;;) co_await conn.sendall(block);
  };
  Served served(timed(8s));
  served.run(handler, [](Served& s) -> Task<> {
    const Connection conn = co_await connect(s.address);
    co_await sleep(7s);
    // What it reads now makes room, and so keeps it alive.
    char bytes[1000];
    while (::recv(conn.fd(), bytes, sizeof bytes, MSG_DONTWAIT) > 0) {
    }
    co_await sleep(7s);
    CHECK(Slots::here().in_use() > 2);
    co_await sleep(10s);
    co_await receive_rest(conn);
  });
  CHECK(served.summary.timed_out == 1);
}

TEST_CASE("server: nobody may stay for longer than allowed", "[server]") {
  const MaybeShortIo io;
  Served served(timed(0s, 16s));
  served.run(echo, [](Served& s) -> Task<> {
    const TimePoint begin = support::now();
    const Connection conn = co_await connect(s.address);
    std::error_code code;
    while (!code) {
      co_await sleep(100ms);
      co_await conn.sendall("x", code);
      char byte = 0;
      if (!code) {
        const std::size_t got =
            co_await conn.recv(std::span<char>(&byte, 1), code);
        if (got == 0) break;
      }
    }
    expect_about(16s, support::now() - begin - 100ms);
  });
  CHECK(served.summary.timed_out == 1);
}

TEST_CASE("server: limits of time without end end nobody", "[server]") {
  const MaybeShortIo io;
  const Duration longest = Duration::max();
  const Duration limits[][2] = {{Duration(0), longest},
                                {longest, Duration(0)},
                                {longest, longest},
                                {1h, longest},
                                {longest, longest - 1ns},
                                {-1s, -1s},
                                {Duration::min(), Duration::min()}};
  const int which = GENERATE(range(0, 7));
  ServerOptions options = timed(limits[which][0], limits[which][1]);
  options.grace = which % 2 == 0 ? longest : Duration(5s);
  Served served(options);
  served.run(echo, [](Served& s) -> Task<> {
    const Connection conn = co_await connect(s.address);
    for (int i = 0; i < 100; ++i) {
      co_await expect_echo(conn);
      co_await sleep(1min);
    }
  });
  CHECK(served.summary.timed_out == 0);
  CHECK(served.summary.cut == 0);
}

TEST_CASE("server: no grace is too long or too short to reckon with",
          "[server]") {
  const MaybeShortIo io;
  const auto [grace, answered] = GENERATE(std::pair(Duration::max(), true),
                                          std::pair(Duration::min(), false),
                                          std::pair(Duration(-1), false));
  const auto handler = [](Connection conn) -> Task<> {
    char byte = 0;
    co_await conn.recv(std::span<char>(&byte, 1));
    co_await sleep(1min);
    co_await conn.sendall("x");
  };
  ServerOptions options;
  options.grace = grace;
  options.max_connections = 1;
  Served served(options);
  served.run(handler, [expected = answered](Served& s) -> Task<> {
    std::deque<Connection> clients;
    for (int i = 0; i < 2; ++i) {
      clients.push_back(co_await connect(s.address));
      co_await clients.back().sendall("x");
    }
    co_await settle();
    Loop::current().stop();
    const std::string first = co_await receive_rest(clients[0]);
    CHECK(first == (expected ? "x" : ""));
    const std::string second = co_await receive_rest(clients[1]);
    CHECK(second == (expected ? "x" : ""));
  });
  CHECK(served.summary.cut == (answered ? 0 : 1));
}

TEST_CASE("server: the shorter of the two times counts", "[server]") {
  const MaybeShortIo io;
  const auto [idle, total, first] =
      GENERATE(std::tuple(8s, 100s, 8s), std::tuple(100s, 8s, 8s),
               std::tuple(8s, 8s, 8s), std::tuple(1s, 8000s, 1s));
  Served served(timed(idle, total));
  const Duration limit = first;
  served.run(echo, [limit](Served& s) -> Task<> {
    const Connection conn = co_await connect(s.address);
    expect_about(limit, co_await time_to_end(conn, support::now()));
  });
  CHECK(served.summary.timed_out == 1);
}

TEST_CASE("server: a handler that has closed its connection is not idle",
          "[server]") {
  const MaybeShortIo io;
  bool done = false;
  const auto handler = [&](Connection conn) -> Task<> {
    conn.close();
    co_await sleep(1min);
    done = true;
  };
  Served served(timed(8s));
  served.run(handler, [](Served& s) -> Task<> {
    const Connection conn = co_await connect(s.address);
    co_await sleep(2min);
  });
  CHECK(done);
  CHECK(served.summary.timed_out == 0);
}

TEST_CASE("server: a shield holds the end of its time, once", "[server]") {
  const MaybeShortIo io;
  bool done = false;
  const auto work = []() -> Task<> { co_await sleep(1min); };
  const auto handler = [&](Connection conn) -> Task<> {
    co_await shield(work());
    done = true;
    co_await conn.recv();
    done = false;
  };
  ServerOptions options = timed(8s);
  options.log = Log::kVerbose;
  Served served(options);
  served.run(handler, [](Served& s) -> Task<> {
    const Connection conn = co_await connect(s.address);
    co_await time_to_end(conn, support::now());
  });
  CHECK(done);
  CHECK(served.summary.timed_out == 1);
  CHECK(contains(served.log, ": it was idle\n"));
  CHECK(std::count(served.log.begin(), served.log.end(), '\n') == 1);
}

TEST_CASE("server: time goes on for clients while it drains", "[server]") {
  const MaybeShortIo io;
  const auto handler = [](Connection conn) -> Task<> {
    co_await conn.recv();
    co_await sleep(24h);
  };
  ServerOptions options = timed(8s);
  options.grace = 1h;
  Served served(options);
  served.run(handler, [](Served& s) -> Task<> {
    const Connection conn = co_await connect(s.address);
    co_await conn.sendall("x");
    co_await settle();
    const TimePoint begin = support::now();
    Loop::current().stop();
    co_await wait(s.server);
    CHECK(support::now() - begin <= 10s);
  });
  CHECK(served.summary.timed_out == 1);
  CHECK(served.summary.cut == 0);
}

TEST_CASE("server: a crowd is looked at in several steps", "[server]") {
  // More than one step looks at, in each of which some leave.
  testing::Options in_memory;
  in_memory.network = true;
  ServerSummary summary;
  const auto whole = [&]() -> Task<> {
    const auto serving = [&](Listener own) -> Task<> {
      summary = co_await serve(std::move(own), echo, timed(8s));
    };
    Listener listener("10.0.0.1", 80);
    const Address address = listener.address();
    const Job<> server = spawn(serving, std::move(listener));
    std::deque<Connection> clients;
    for (int i = 0; i < 1500; ++i) clients.push_back(co_await connect(address));
    for (int round = 0; round < 20; ++round) {
      co_await sleep(2s);
      for (std::size_t i = 0; i < clients.size(); i += 2) {
        co_await expect_echo(clients[i]);
      }
      for (int i = 0; i < 10; ++i) clients.pop_front();
    }
    Loop::current().stop();
    co_await wait(server);
  };
  testing::play(whole, in_memory);
  CHECK(summary.served == 1500);
  // The odd ones, without those that had gone before their time was over.
  CHECK(summary.timed_out >= 720);
  CHECK(summary.timed_out <= 750);
}

TEST_CASE("server: who is ended may end others, and nobody is looked at twice",
          "[server]") {
  const MaybeShortIo io;
  std::vector<JobBlock*> jobs;  // counted
  const auto handler = [&](Connection conn) -> Task<> {
    const std::size_t own = jobs.size();
    jobs.push_back(Loop::current().current_job());
    jobs.back()->hold();
    // Every other takes the next with it, just as the search comes there.
    const AtEnd end([&jobs, own] {
      if (own % 2 == 1) kill_job(*jobs[own + 1], "by its neighbour", {});
    });
    while (auto data = co_await conn.recv()) co_await conn.sendall(data);
  };
  Served served(timed(8s));
  served.run(handler, [&](Served& s) -> Task<> {
    const Connection talks = co_await connect(s.address);
    co_await expect_echo(talks);
    std::deque<Connection> silent;
    for (int i = 0; i < 20; ++i) silent.push_back(co_await connect(s.address));
    for (int i = 0; i < 4; ++i) {
      co_await sleep(5s);
      co_await expect_echo(talks);
    }
    for (JobBlock* job : jobs) job->drop();
  });
  CHECK(jobs.size() == 21);
  CHECK(served.summary.timed_out == 10);
}

TEST_CASE("server: limits of time cost no timer for each client or message",
          "[server]") {
  testing::Options in_memory;
  in_memory.network = true;
  std::size_t most = 0;
  const auto whole = [&]() -> Task<> {
    const auto serving = [&](Listener own) -> Task<> {
      co_await serve(std::move(own), echo, timed(8s, 1h));
    };
    Listener listener("10.0.0.1", 80);
    const Address address = listener.address();
    const Job<> server = spawn(serving, std::move(listener));
    std::deque<Connection> clients;
    for (int i = 0; i < 100; ++i) clients.push_back(co_await connect(address));
    for (const Connection& client : clients) {
      co_await expect_echo(client);
      most = std::max(most, Loop::current().timers().size());
    }
    Loop::current().stop();
    co_await wait(server);
  };
  testing::play(whole, in_memory);
  CHECK(most == 1);
}

// ------------------------------------------------------- several, and whatever

TEST_CASE("server: several listeners have one handler and one limit",
          "[server]") {
  const MaybeShortIo io;
  ServerOptions options;
  options.max_connections = 2;
  World world;
  ServerSummary summary;
  auto whole = [&]() -> Task<> {
    sockets::Directory directory;
    std::vector<Listener> listeners;
    listeners.emplace_back("127.0.0.1", 0);
    if (has_ipv6()) listeners.emplace_back("::1", 0);
    listeners.emplace_back(directory.address());
    std::vector<Address> addresses;
    for (const Listener& one : listeners) addresses.push_back(one.address());
    const auto body = [&](std::vector<Listener> all) -> Task<> {
      summary = co_await serve(std::move(all), echo, options);
    };
    const Job<> server = spawn(body, std::move(listeners));
    for (int i = 0; i < 3; ++i) {
      for (const Address& address : addresses) co_await expect_service(address);
    }
    Connection first = co_await connect(addresses.front());
    co_await expect_echo(first);
    const Connection second = co_await connect(addresses.back());
    co_await expect_echo(second);
    // Full for all of them.
    const Connection third = co_await connect(addresses.front());
    co_await third.sendall("hello");
    const Connection fourth = co_await connect(addresses.back());
    co_await fourth.sendall("hello");
    co_await settle();
    char byte;
    CHECK(::recv(third.fd(), &byte, 1, MSG_DONTWAIT) < 0);
    CHECK(::recv(fourth.fd(), &byte, 1, MSG_DONTWAIT) < 0);
    first.close();
    // Both stand in a backlog when it stops, and are still served.
    Loop::current().stop();
    std::string answer = co_await receive(third, 5);
    CHECK(answer == "hello");
    answer = co_await receive(fourth, 5);
    CHECK(answer == "hello");
    co_await wait(server);
    CHECK_FALSE(::access(directory.file().c_str(), F_OK) == 0);
    CHECK(summary.served == 3 * addresses.size() + 4);
  };
  world.run(whole());
  CHECK_FALSE(world.time.hung);
}

TEST_CASE("server: without a listener it says so at once", "[server]") {
  World world;
  auto whole = []() -> Task<> {
    std::string said;
    try {
      co_await serve(std::vector<Listener>(), echo);
    } catch (const Misuse& misuse) {
      said = misuse.what();
    }
    CHECK(contains(said, "give at least one"));
    CHECK_THROWS_AS(serve(std::vector<Listener>(), echo), Misuse);
  };
  world.run(whole());
}

TEST_CASE("server: no listener is starved by another", "[server]") {
  testing::Options in_memory;
  in_memory.network = true;
  const auto whole = []() -> Task<> {
    std::vector<Listener> listeners;
    listeners.emplace_back("10.0.0.1", 80);
    listeners.emplace_back("10.0.0.2", 80);
    const Address busy = listeners[0].address();
    const Address quiet = listeners[1].address();
    const auto serving = [](std::vector<Listener> all) -> Task<> {
      co_await serve(std::move(all), echo);
    };
    const Job<> server = spawn(serving, std::move(listeners));
    bool over = false;
    const auto knock = [&]() -> Task<> {
      while (!over) {
        const Connection conn = co_await connect(busy);
        co_await yield_now();
      }
    };
    TaskGroup crowd;
    for (int i = 0; i < 100; ++i) crowd.spawn(knock);
    for (int i = 0; i < 20; ++i) co_await expect_service(quiet);
    over = true;
    co_await crowd.join();
    Loop::current().stop();
    co_await wait(server);
  };
  testing::play(whole, in_memory);
}

TEST_CASE("server: it serves on a socket that it was given", "[server]") {
  // As an inherited one: blocking, not close-on-exec, and shared.
  const MaybeShortIo io;
  Fd given = listen_socket(Address::parse("127.0.0.1"));
  const Fd shared(::dup(given.get()));
  ::fcntl(given.get(), F_SETFL, ::fcntl(given.get(), F_GETFL) & ~O_NONBLOCK);
  const Address address = local_address(given.get());
  World world;
  auto whole = [&]() -> Task<> {
    const auto body = [&](Listener own) -> Task<> {
      const ServerSummary done = co_await serve(std::move(own), echo);
      CHECK(done.served == 3);
    };
    const Job<> server = spawn(body, Listener(std::move(given)));
    for (int i = 0; i < 3; ++i) co_await expect_service(address);
    // Whom another process takes is no loss and no stop.
    co_await settle();
    const Fd other = dial(address);
    const Fd taken(::accept(shared.get(), nullptr, nullptr));
    CHECK(bool(taken));
    co_await settle();
    Loop::current().stop();
    co_await wait(server);
  };
  world.run(whole());
  CHECK_FALSE(world.time.hung);
  // It is closed here, and still listens there.
  const Fd client = dial(address);
}

TEST_CASE("server: it stops although a crowd keeps coming to a unix socket",
          "[server]") {
  const MaybeShortIo io;
  const std::string name = GENERATE("path", "simulated");
  sockets::Directory directory;
  const bool simulated = name == "simulated";
  std::size_t came = 0;
  std::size_t until_stop = 0;
  ServerSummary summary;
  const auto whole = [&]() -> Task<> {
    Listener listener(simulated ? Address::parse("10.0.0.1", 80)
                                : directory.address());
    const Address address = listener.address();
    const auto serving = [&](Listener own) -> Task<> {
      summary = co_await serve(std::move(own), echo);
    };
    const Job<> server = spawn(serving, std::move(listener));
    while (!server.ended() && came < 4000) {
      for (int i = 0; i < 40; ++i) {
        std::error_code code;
        const Connection client = co_await connect(address, code);
        if (!code) ++came;
      }
      if (until_stop == 0 && came >= 200) {
        until_stop = came;
        Loop::current().stop();
      }
      co_await yield_now();
    }
    co_await wait(server);
  };
  testing::Options options;
  options.network = simulated;
  testing::play(whole, options);
  CHECK(came < 4000);
  CHECK(summary.served <= until_stop);
}

// -------------------------------------------------------------------- leaks

#ifdef __GLIBC__
TEST_CASE("server: ten thousand clients leave no descriptor and no byte",
          "[server][libkqueue:crowd]") {
  // Every kind of end, on every kind of server.
  const MaybeShortIo io;
  PeerLimit per_peer(1000);
  ServerOptions options = timed(1h, 2h);
  options.max_connections = 2;
  options.when_full = wait_in_line;
  options.per_peer = &per_peer;
  Served served(options);
  served.run(moody, [](Served& s) -> Task<> {
    const auto cycle = [&](int how) -> Task<> {
      std::error_code code;
      Connection conn = co_await connect(s.address, code);
      if (code) co_return;
      if (how % 4 != 0) co_await conn.sendall("x", code);
      char byte;
      if (how % 4 == 2) co_await conn.recv(std::span<char>(&byte, 1), code);
      if (how % 4 == 3) reset(conn);
    };
    const auto cycles = [&](int count) -> Task<> {
      for (int i = 0; i < count; ++i) {
        TaskGroup three;
        for (int k = 0; k < 3; ++k) three.spawn(cycle, i + k);
        co_await three.join();
      }
      co_await settle();
      while (live_frames() > 20) co_await settle();
    };
    co_await cycles(100);
    const int descriptors = open_descriptors();
    const std::size_t slots = Slots::here().in_use();
    const std::size_t blocks = frame_pool.live();
    const std::size_t bytes = ::mallinfo2().uordblks;
    co_await cycles(3400);
    CHECK(open_descriptors() == descriptors);
    CHECK(Slots::here().in_use() == slots);
    CHECK(frame_pool.live() == blocks);
    if (!support::kSanitized) CHECK(::mallinfo2().uordblks == bytes);
  });
  CHECK(served.summary.served + served.summary.refused <= 10'500);
  CHECK(served.summary.served > 7000);
}
#endif

// ------------------------------------------------------------ who was cut, and

TEST_CASE("server: it tells who was cut, and where", "[server]") {
  static int line = 0;
  const auto inner = [](Connection& conn) -> Task<> {
    const std::string block(50'000'000, 'b');
    line = __LINE__ + 1;
    co_await conn.sendall(block);
  };
  const auto handler = [&](Connection conn) -> Task<> {
    co_await conn.recv();
    co_await within(1h, inner(conn));
  };
  Served served;
  std::string peer;
  served.run(handler, [&](Served& s) -> Task<> {
    std::deque<Connection> clients;
    for (int i = 0; i < 12; ++i) {
      clients.push_back(co_await connect(s.address));
      co_await clients.back().sendall("x");
    }
    peer = clients.front().local().text();
    co_await sleep(10s);
    Loop::current().stop();
    co_await wait(s.server);
  });
  CHECK(served.summary.cut == 12);
  const std::string& told = served.summary.told;
  CHECK(std::count(told.begin(), told.end(), '\n') == 10);
  const std::string first = told.substr(0, told.find('\n'));
  CHECK(first.find(peer + " after 1") == 0);  // 14.9 or 15.0
  CHECK(contains(
      first, " s, at server_test.cpp:" + std::to_string(line) + ": sendall"));
}

TEST_CASE("server: closing its listener ends it with an error, and no client",
          "[server]") {
  // Its owner is the server, so only somebody past the library can do it.
  const MaybeShortIo io;
  World world;
  auto whole = []() -> Task<> {
    Listener listener("127.0.0.1", 0);
    const int fd = listener.descriptor().fd();
    const auto serving = [](Listener own) -> Task<> {
      co_await serve(std::move(own), echo);
    };
    const auto server = spawn(serving, std::move(listener));
    co_await settle();
    // What shutdown(2) does to a listening socket on Linux: accept(2) fails.
    ::shutdown(fd, SHUT_RDWR);
    const std::string error =
        co_await error_of([&]() -> Task<> { co_await join(server); }());
    CHECK(contains(error, "accept fd"));
  };
  world.run(whole());
}
