// listener_test.cpp - bind, listen, accept.
// SPDX-License-Identifier: MIT
#include "../net/listener.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <optional>

#include "catch.hpp"
#include "script.hpp"
#include "sockets.hpp"

using namespace sockets;

namespace {

/// Runs the scenario in a world of its own; nothing is left of it.
template <class F>
void in_world(F scenario) {
  const Footprint before;
  {
    World world;
    world.run(scenario());
    CHECK_FALSE(world.time.hung);
  }
  CHECK(Footprint() == before);
}

Task<> accept_into(const Listener& listener, Connection& conn) {
  conn = co_await listener.accept();
}

[[maybe_unused]] Task<> accept_all(const Listener& listener,
                                   std::deque<Connection>& conns) {
  for (;;) conns.push_back(co_await listener.accept());
}

/// A kernel whose accept(2) fails as often as told, in a given way.
class FailingAccept : public CountedCalls {
 public:
  int accept(int fd, sockaddr* peer, unsigned* size) noexcept override {
    if (times == 0) return CountedCalls::accept(fd, peer, size);
    --times;
    ++failed;
    return -error;
  }
  int error = 0;
  int times = 0;
  int failed = 0;
};

/// The number that the next descriptor of this process will have.
[[maybe_unused]] int next_descriptor() {
  const Fd probe(::dup(0));
  return probe.get();
}

}  // namespace

TEST_CASE("listener: port 0 becomes a real port", "[listener]") {
  const Listener listener("127.0.0.1", 0);
  CHECK(listener);
  CHECK(listener.address().port() != 0);
  CHECK(listener.address().text() ==
        "127.0.0.1:" + std::to_string(listener.address().port()));
}

TEST_CASE("listener: clients come in order", "[listener]") {
  const MaybeShortIo io;
  in_world([]() -> Task<> {
    Listener listener("127.0.0.1", 0);
    std::deque<Fd> clients;
    for (int i = 0; i < 20; ++i) clients.push_back(dial(listener.address()));
    for (const Fd& client : clients) {
      const Connection conn = co_await listener.accept();
      CHECK(conn.peer() == local_address(client.get()));
      CHECK(conn.local() == listener.address());
    }
  });
}

TEST_CASE("listener: accept waits for a client", "[listener]") {
  const MaybeShortIo io;
  in_world([]() -> Task<> {
    Listener listener("127.0.0.1", 0);
    Connection conn;
    auto job = spawn(accept_into, std::cref(listener), std::ref(conn));
    co_await settle();
    CHECK(is_waiting(job));
    CHECK(contains(Loop::current().dump(), "accept fd "));
    const Fd client = dial(listener.address());
    co_await join(job);
    CHECK(conn.peer() == local_address(client.get()));
  });
}

TEST_CASE("listener: it serves IPv6 and unix paths", "[listener]") {
  const MaybeShortIo io;
  const Directory directory;
  std::vector<Address> addresses = {directory.address()};
  if (has_ipv6()) addresses.push_back(Address::parse("::1"));
  for (const Address& address : addresses) {
    in_world([&]() -> Task<> {
      Listener listener(address);
      Connection near = co_await connect(listener.address());
      Connection far = co_await listener.accept();
      spawn(echo, std::move(far));
      const std::string answer = co_await ask(near, "hello");
      CHECK(answer == "hello");
    });
  }
}

TEST_CASE("listener: the port is free again at once", "[listener]") {
  const MaybeShortIo io;
  in_world([]() -> Task<> {
    Address address = Address::parse("127.0.0.1");
    for (int i = 0; i < 5; ++i) {
      Listener listener(address);
      address = listener.address();
      Connection near = co_await connect(address);
      Connection far = co_await listener.accept();
      far.close();  // the server's end waits in TIME_WAIT
      const std::string rest = co_await receive_all(near);
      CHECK(rest.empty());
    }
  });
}

TEST_CASE("listener: a second acceptor is told to stay away", "[listener]") {
  const MaybeShortIo io;
  in_world([]() -> Task<> {
    Listener listener("127.0.0.1", 0);
    Connection conn;
    auto first = spawn(accept_into, std::cref(listener), std::ref(conn));
    co_await settle();
    Connection none;
    auto second = spawn(accept_into, std::cref(listener), std::ref(none));
    co_await wait(second);
    const std::exception_ptr error = second.error();
    REQUIRE(error);
    CHECK_THROWS_AS(std::rethrow_exception(error), Misuse);
    CHECK(contains(text_of(error), "another job waits for the same already"));
    CHECK(is_waiting(first));
    const Fd client = dial(listener.address());
    co_await join(first);
    CHECK(conn);
  });
}

TEST_CASE("listener: a killed accept has lost no client", "[listener]") {
  const MaybeShortIo io;
  in_world([]() -> Task<> {
    Listener listener("127.0.0.1", 0);
    Ends trigger = connected_pair();
    Connection conn;
    auto job = spawn(accept_into, std::cref(listener), std::ref(conn));
    bool was_ready = false;
    // Its news comes just before the acceptor's, in the same turn.
    auto kills = [&]() -> Task<> {
      const Chunk go = co_await trigger.first.recv();
      was_ready = is_ready(job);
      CHECK(job.kill());
    };
    auto killer = spawn(kills);
    co_await settle();
    CHECK(is_waiting(job));
    CHECK(support::put(trigger.second.fd(), "!"));
    const Fd client = dial(listener.address());
    co_await join(killer);
    CHECK(was_ready);
    CHECK_FALSE(conn);
    conn = co_await listener.accept();
    CHECK(conn.peer() == local_address(client.get()));
  });
}

TEST_CASE("listener: a limit that is up has lost no client", "[listener]") {
  const MaybeShortIo io;
  in_world([]() -> Task<> {
    Listener listener("127.0.0.1", 0);
    std::optional<Connection> none = co_await within(1s, listener.accept());
    CHECK_FALSE(none);
    const Fd client = dial(listener.address());
    std::optional<Connection> some = co_await within(1s, listener.accept());
    REQUIRE(some);
    CHECK(some->peer() == local_address(client.get()));
  });
}

TEST_CASE("listener: closing it ends a pending accept", "[listener]") {
  const MaybeShortIo io;
  in_world([]() -> Task<> {
    Listener listener("127.0.0.1", 0);
    const Address address = listener.address();
    Connection conn;
    std::error_code code;
    auto accepts = [&]() -> Task<> { conn = co_await listener.accept(code); };
    auto job = spawn(accepts);
    co_await settle();
    listener.close();
    CHECK_FALSE(listener);
    co_await join(job);
    CHECK(code == std::errc::bad_file_descriptor);
    CHECK_FALSE(conn);
    CHECK(listener.address() == address);
    const std::string error = co_await error_of(accept_into(listener, conn));
    CHECK(error.find("accept") == 0);
    CHECK(contains(error, ": Bad file descriptor"));
    listener.close();
    const Listener again(address);
  });
}

TEST_CASE("listener: its owner may die during an accept", "[listener]") {
  const MaybeShortIo io;
  in_world([]() -> Task<> {
    std::optional<Listener> listener(std::in_place, "127.0.0.1",
                                     std::uint16_t{0});
    Connection conn;
    auto job = spawn(accept_into, std::cref(*listener), std::ref(conn));
    co_await settle();
    listener.reset();
    co_await wait(job);
    CHECK(contains(text_of(job.error()), ": Bad file descriptor"));
  });
}

TEST_CASE("listener: one that is closed resets its backlog",
          "[listener][libkqueue:so_error]") {
  const MaybeShortIo io;
  in_world([]() -> Task<> {
    Listener listener("127.0.0.1", 0);
    Connection near = co_await connect(listener.address());
    listener.close();
    std::error_code code;
    const Chunk chunk = co_await near.recv(code);
    CHECK(code == std::errc::connection_reset);
  });
}

TEST_CASE("listener: clients that reset before accept do no harm",
          "[listener][libkqueue:so_error]") {
  const MaybeShortIo io;
  in_world([]() -> Task<> {
    Listener listener("127.0.0.1", 0);
    for (int i = 0; i < 500; ++i) {
      const Fd client = dial(listener.address());
      reset_on_close(client.get());
    }
    const Fd good = dial(listener.address());
    const Address wanted = local_address(good.get());
    for (int accepted = 0; accepted <= 500; ++accepted) {
      const Connection conn = co_await listener.accept();
      if (conn.peer() == wanted) co_return;
      std::error_code code;
      const Chunk chunk = co_await conn.recv(code);
      CHECK(code == std::errc::connection_reset);
    }
    FAIL("the good client was lost");
  });
}

TEST_CASE("listener: errors of one client are skipped", "[listener]") {
  in_world([]() -> Task<> {
    for (const int error :
         {ECONNABORTED, ENETDOWN, EPROTO, ENOPROTOOPT, EHOSTDOWN, ENONET,
          EHOSTUNREACH, EOPNOTSUPP, ENETUNREACH, EPERM, EINTR}) {
      FailingAccept calls;
      const support::ScopedCalls installed(calls);
      Listener listener("127.0.0.1", 0);
      const Fd client = dial(listener.address());
      calls.error = error;
      calls.times = 3;
      const Connection conn = co_await listener.accept();
      INFO(error);
      CHECK(conn.peer() == local_address(client.get()));
      CHECK(calls.failed == 3);
    }
  });
}

TEST_CASE("listener: its own errors are told", "[listener]") {
  in_world([]() -> Task<> {
    FailingAccept calls;
    const support::ScopedCalls installed(calls);
    Listener listener("127.0.0.1", 0);
    const Fd client = dial(listener.address());
    calls.error = EINVAL;
    calls.times = 1;
    Connection conn;
    const std::string error = co_await error_of(accept_into(listener, conn));
    CHECK(error.find("accept") == 0);
    CHECK(contains(error, ": Invalid argument"));
    conn = co_await listener.accept();
    CHECK(conn);
  });
}

// --------------------------------------------------- when descriptors run out

TEST_CASE("listener: without descriptors it pauses", "[listener]") {
  const int error = GENERATE(EMFILE, ENFILE, ENOBUFS, ENOMEM);
  FailingAccept calls;
  const support::ScopedCalls installed(calls);
  const Footprint before;
  std::string log;
  {
    World world;
    auto scenario = [&]() -> Task<> {
      Listener listener("127.0.0.1", 0);
      const Fd client = dial(listener.address());
      calls.error = error;
      calls.times = 10;
      const Connection conn = co_await listener.accept();
      CHECK(conn.peer() == local_address(client.get()));
    };
    log = errors_of([&] { world.run(scenario()); });
    CHECK(calls.failed == 10);
    // One attempt for each pause, and one more when the poller gets to know
    // the listener. Nobody spins meanwhile.
    CHECK(world.elapsed() >= 900ms);
    CHECK(world.elapsed() <= 1s);
  }
  CHECK(Footprint() == before);
  // Said once.
  CHECK(log.find("violet: accept") == 0);
  CHECK(contains(log, std::system_category().message(error)));
  CHECK(std::count(log.begin(), log.end(), '\n') == 1);
}

TEST_CASE("listener: a descriptor that is closed ends the pause",
          "[listener]") {
  FailingAccept calls;
  const support::ScopedCalls installed(calls);
  World world;
  auto scenario = [&]() -> Task<> {
    Listener listener("127.0.0.1", 0);
    Ends some = connected_pair();
    const Fd client = dial(listener.address());
    calls.error = EMFILE;
    calls.times = 1000;
    Connection conn;
    auto job = spawn(accept_into, std::cref(listener), std::ref(conn));
    co_await sleep(10ms);
    CHECK(calls.failed >= 1);
    CHECK(calls.failed <= 2);
    CHECK_FALSE(job.ended());
    calls.times = 0;
    some.first.close();
    co_await join(job);
    CHECK(conn.peer() == local_address(client.get()));
  };
  errors_of([&] { world.run(scenario()); });
  CHECK(world.elapsed() < 100ms);
}

TEST_CASE("listener: a pause can be killed", "[listener]") {
  FailingAccept calls;
  const support::ScopedCalls installed(calls);
  const Footprint before;
  {
    World world;
    auto scenario = [&]() -> Task<> {
      Listener listener("127.0.0.1", 0);
      const Fd client = dial(listener.address());
      calls.error = EMFILE;
      calls.times = 1000;
      Connection conn;
      auto job = spawn(accept_into, std::cref(listener), std::ref(conn));
      co_await sleep(10ms);
      CHECK(job.kill());
      CHECK(world.loop.timers().size() == 0);
      calls.times = 0;
      // The client is not lost.
      conn = co_await listener.accept();
      CHECK(conn.peer() == local_address(client.get()));
    };
    errors_of([&] { world.run(scenario()); });
    CHECK(world.elapsed() < 100ms);
  }
  CHECK(Footprint() == before);
}

TEST_CASE("listener: it can be closed during a pause", "[listener]") {
  FailingAccept calls;
  const support::ScopedCalls installed(calls);
  World world;
  auto scenario = [&]() -> Task<> {
    Listener listener("127.0.0.1", 0);
    const Fd client = dial(listener.address());
    calls.error = EMFILE;
    calls.times = 1000;
    Connection conn;
    auto job = spawn(accept_into, std::cref(listener), std::ref(conn));
    co_await sleep(10ms);
    listener.close();
    co_await wait(job);
    CHECK(contains(text_of(job.error()), ": Bad file descriptor"));
    CHECK(world.loop.timers().size() == 0);
  };
  errors_of([&] { world.run(scenario()); });
  CHECK(world.elapsed() < 100ms);
}

#ifndef VIOLET_NEEDS_DESCRIPTORS
TEST_CASE("listener: it accepts again when a real limit allows it",
          "[listener]") {
  const MaybeShortIo io;
  World world;
  auto scenario = [&]() -> Task<> {
    Listener listener("127.0.0.1", 0);
    Ends some = connected_pair();
    std::deque<Fd> clients;
    for (int i = 0; i < 3; ++i) clients.push_back(dial(listener.address()));
    std::deque<Connection> conns;
    auto job = spawn(accept_all, std::cref(listener), std::ref(conns));
    const DescriptorLimit limit(static_cast<rlim_t>(next_descriptor()) + 1);
    co_await sleep(10ms);
    CHECK(conns.size() == 1);
    some.first.close();
    some.second.close();
    co_await sleep(10ms);
    CHECK(conns.size() == 3);
    // None is left again; the loop goes on.
    clients.pop_back();
    co_await sleep(10ms);
    CHECK(conns.size() == 3);
    job.kill();
  };
  errors_of([&] { world.run(scenario()); });
  CHECK_FALSE(world.time.hung);
}
#endif

TEST_CASE("listener: no memory for a slot is waited for", "[listener]") {
  // As long as accept(2) has not been called, the client is in the backlog.
  FailingAccept calls;
  const support::ScopedCalls installed(calls);
  World world;
  auto scenario = [&]() -> Task<> {
    Listener listener("127.0.0.1", 0);
    const Fd client = dial(listener.address());
    calls.error = ENOMEM;
    calls.times = 2;
    std::error_code code;
    const Connection conn = co_await listener.accept(code);
    CHECK_FALSE(code);
    CHECK(conn);
  };
  errors_of([&] { world.run(scenario()); });
  CHECK(world.elapsed() >= 100ms);
  CHECK(world.elapsed() <= 200ms);
}

// ------------------------------------------------------------------------ many

TEST_CASE("listener: a thousand connections in one process",
          "[listener][libkqueue:crowd]") {
  const MaybeShortIo io;
  const DescriptorLimit limit(4096);
  if (!limit.enough()) {
    WARN("the system does not allow 4096 descriptors: not tested");
    return;
  }
  in_world([]() -> Task<> {
    Listener listener("127.0.0.1", 0);
    std::deque<Connection> clients;
    for (int i = 0; i < 1000; ++i) {
      clients.push_back(co_await connect(listener.address()));
      Connection conn = co_await listener.accept();
      spawn(echo, std::move(conn));
    }
    CHECK(clients.back().fd() > 1024);
    for (const Connection& client : clients) {
      co_await client.sendall("hello");
    }
    std::size_t right = 0;
    for (const Connection& client : clients) {
      const std::string answer = co_await receive(client, 5);
      if (answer == "hello") ++right;
    }
    CHECK(right == 1000);
  });
}

TEST_CASE("listener: what is ready is accepted without a wait", "[listener]") {
  CountedCalls calls;
  const support::ScopedCalls installed(calls);
  in_world([&]() -> Task<> {
    Listener listener("127.0.0.1", 0);
    std::deque<Fd> clients;
    for (int i = 0; i < 10; ++i) clients.push_back(dial(listener.address()));
    for (int i = 0; i < 10; ++i) {
      const Connection conn = co_await listener.accept();
    }
    CHECK(calls.accepts == 10);
    CHECK(calls.failures == 0);
  });
}

TEST_CASE("listener: it works in one run after the other", "[listener]") {
  const MaybeShortIo io;
  Listener listener("127.0.0.1", 0);
  for (int i = 0; i < 3; ++i) {
    auto scenario = [&]() -> Task<std::string> {
      Connection conn;
      auto job = spawn(accept_into, std::cref(listener), std::ref(conn));
      co_await yield_now();
      const Fd client = dial(listener.address());
      co_await join(job);
      CHECK(support::put(client.get(), "hello"));
      std::string text = co_await receive(conn, 5);
      co_return text;
    };
    CHECK(violet::run(scenario()) == "hello");
  }
}

TEST_CASE("listener: who accepts is gone when a kill of it returns",
          "[listener]") {
  const MaybeShortIo io;
  in_world([]() -> Task<> {
    std::string log;
    const Listener listener("127.0.0.1", 0);
    const auto accepts = [&]() -> Task<> {
      const script::Witness witness(log, "accepts");
      const Connection never = co_await listener.accept();
      log += "never ";
    };
    const Job<> job = spawn(accepts);
    co_await settle();
    co_await kill(job);
    log += "| ";
    CHECK(log == "+accepts -accepts | ");
    CHECK(Slots::here().waiting() == 0);
  });
}

// ------------------------------------------------------------------ inherited

namespace {

/// In a child that was started with a listening socket as its number 3.
/// Returns: its exit code.
template <class Body>
int started_with_a_socket(Body body) {
  const Fd listening = listen_socket(Address::parse("127.0.0.1"));
  ::fcntl(listening.get(), F_SETFL, 0);  // blocking, as most are
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(listening.get(), 3);
    ::fcntl(3, F_SETFD, 0);
    ::setenv("LISTEN_FDS", "1", 1);
    ::setenv("LISTEN_PID", std::to_string(::getpid()).c_str(), 1);
    ::_exit(body());
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace

TEST_CASE("listener: what the process was started with is taken over",
          "[listener]") {
  const int code = started_with_a_socket([] {
    std::vector<Fd> sockets = inherited_sockets();
    if (sockets.size() != 1 || sockets[0].get() != 3) return 1;
    if (!is_close_on_exec(3)) return 2;
    if (!inherited_sockets().empty()) return 3;  // only once
    if (::getenv("LISTEN_FDS") != nullptr) return 4;
    int served = 0;
    auto whole = [&]() -> Task<> {
      const Listener listener(std::move(sockets[0]));
      if (!is_non_blocking(3)) co_return;
      const Connection client = co_await connect(listener.address());
      const Connection accepted = co_await listener.accept();
      ++served;
    };
    violet::run(whole());
    return served == 1 ? 7 : 5;
  });
  CHECK(code == 7);
}

TEST_CASE("listener: what is meant for another process is left alone",
          "[listener]") {
  const int code = started_with_a_socket([] {
    ::setenv("LISTEN_PID", "1", 1);
    if (!inherited_sockets().empty()) return 1;
    ::unsetenv("LISTEN_PID");
    if (!inherited_sockets().empty()) return 2;
    return is_close_on_exec(3) ? 3 : 7;
  });
  CHECK(code == 7);
}

TEST_CASE("listener: a socket that does not listen is not taken over",
          "[listener]") {
  const int before = open_descriptors();
  CHECK(contains(thrown<std::system_error>([] {
                   const Listener none(
                       Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)));
                 }),
                 ": " + support::text_of_error(EINVAL)));
  CHECK(open_descriptors() == before);
}
