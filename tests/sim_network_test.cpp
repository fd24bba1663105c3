// sim_network_test.cpp - servers and clients on a network in memory.
// SPDX-License-Identifier: MIT
#include "../runtime/sim_network.hpp"

#include <poll.h>

#include <set>

#include "../net/net.hpp"
#include "../runtime/faults.hpp"
#include "catch.hpp"
#include "sockets.hpp"

using namespace violet;
using namespace sockets;
using support::now;
using support::Order;
using namespace std::chrono_literals;

namespace {

constexpr std::uint16_t kPort = 4915;

/// A network, and a loop in its time.
struct Simulated {
  SimNetwork network;
  Loop loop{options()};

  LoopOptions options() {
    LoopOptions result;
    result.poller = &network.poller();
    return result;
  }
};

/// Runs `body(network)` on a network of its own and checks that nothing is
/// left. Returns: the virtual time that passed.
template <class Body>
Duration simulate(Body body) {
  const Footprint before;
  Duration elapsed{};
  {
    Simulated world;
    const TimePoint start = world.network.now();
    world.loop.run(body(world.network));
    elapsed = world.network.now() - start;
    CHECK(world.network.open_descriptors() == 0);
    CHECK(world.loop.timers().empty());
  }
  CHECK(Footprint() == before);
  return elapsed;
}

ServerOptions quiet() {
  ServerOptions options;
  options.log = Log::kErrors;
  return options;
}

/// Sends a line and expects it back.
Task<> client(std::string text) {
  const Connection conn = co_await connect("127.0.0.1", kPort);
  const std::string answer = co_await ask(conn, text);
  CHECK(answer == text);
}

/// Serves echoes until `clients` of them, each a job, have ended.
Task<> serve_echo_to(int clients) {
  const Job<> serving =
      spawn([] { return server("127.0.0.1", kPort, echo, quiet()); });
  std::vector<Job<>> jobs;
  for (int i = 0; i < clients; ++i) {
    jobs.push_back(spawn(client, "hello " + std::to_string(i)));
  }
  for (const Job<>& job : jobs) co_await join(job);
  Loop::current().stop();
  co_await join(serving);
}

/// A connection, its listener gone.
Task<Ends> ends() {
  Listener listener("127.0.0.1", 0);
  Connection near = co_await connect(listener.address());
  Connection far = co_await listener.accept();
  co_return Ends(std::move(near), std::move(far));
}

/// What connecting to this port throws.
Task<std::string> refusal(std::uint16_t port = kPort) {
  const auto dial = [](std::uint16_t to) -> Task<> {
    const Connection conn = co_await connect("127.0.0.1", to);
  };
  std::string text = co_await error_of(dial(port));
  co_return text;
}

/// Has a closing of this socket reset the connection, through the seam.
void reset_at_close(int fd) {
  const linger at_once{1, 0};
  sys::calls->setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

const char kByte = 'x';

/// The socket calls as a program without a loop makes them.
ssize_t send_byte(int fd) {
  return sys::calls->send(fd, &kByte, 1, 0);
}
ssize_t recv_byte(int fd) {
  char byte;
  return sys::calls->recv(fd, &byte, 1, 0);
}

sockaddr_in ipv4(const char* host, std::uint16_t port) {
  sockaddr_in name{};
  const Address address = Address::parse(host, port);
  std::memcpy(&name, address.get(), sizeof name);
  return name;
}

int connect_to(int fd, std::uint16_t port) {
  const sockaddr_in name = ipv4("127.0.0.1", port);
  return sys::calls->connect(fd, reinterpret_cast<const sockaddr*>(&name),
                             sizeof name);
}

int bind_to(int fd, const char* host, std::uint16_t port) {
  const sockaddr_in name = ipv4(host, port);
  return sys::calls->bind(fd, reinterpret_cast<const sockaddr*>(&name),
                          sizeof name);
}

Fd stream_socket() {
  return Fd(sys::calls->socket(AF_INET, SOCK_STREAM, 0));
}

int error_at(int fd) {
  int error = -1;
  unsigned size = sizeof error;
  sys::calls->getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
  return error;
}

/// Lets pass what is due, without a loop.
std::size_t news_of(SimNetwork& network) {
  return network.poller().wait(TimePoint::min(), false).size();
}

}  // namespace

// ------------------------------------------------------------- whole programs

TEST_CASE("sim network: a thousand clients are served, in exact time",
          "[sim_network]") {
  const auto body = [](SimNetwork& network) -> Task<> {
    network.latency(20ms);
    co_await serve_echo_to(1000);
  };
  // Connecting, the request and the answer: 20 ms each.
  CHECK(simulate(body) == 60ms);
}

TEST_CASE("sim network: without latency no time passes", "[sim_network]") {
  const auto body = [](SimNetwork&) -> Task<> { co_await serve_echo_to(10); };
  CHECK(simulate(body) == 0ms);
}

TEST_CASE("sim network: the same program takes the same way every time",
          "[sim_network]") {
  const auto order_with = [](std::uint64_t seed) {
    Order order;
    const auto late_client = [&](int number) -> Task<> {
      co_await client(std::to_string(number));
      order.push_back(std::to_string(number));
    };
    const auto body = [&](SimNetwork& network) -> Task<> {
      network.latency(20ms);
      network.jitter(30ms, seed);
      const Job<> serving =
          spawn([] { return server("127.0.0.1", kPort, echo, quiet()); });
      std::vector<Job<>> jobs;
      for (int i = 0; i < 20; ++i) jobs.push_back(spawn(late_client, i));
      for (const Job<>& job : jobs) co_await join(job);
      Loop::current().stop();
      co_await join(serving);
    };
    const Duration took = simulate(body);
    CHECK(took >= 60ms);
    CHECK(took <= 150ms);
    return order;
  };
  const Order order = order_with(1);
  CHECK(order.size() == 20);
  CHECK(order_with(1) == order);
  CHECK(order_with(2) != order);
}

TEST_CASE("sim network: an hour of retries passes at once", "[sim_network]") {
  const TimePoint start = Clock::now();
  int tries = 0;
  const auto patient = [&]() -> Task<> {
    for (;;) {
      ++tries;
      std::error_code code;
      const Connection conn =
          co_await connect(Address::parse("127.0.0.1", kPort), code);
      if (!code) {
        const std::string answer = co_await ask(conn, "at last");
        CHECK(answer == "at last");
        co_return;
      }
      CHECK(code == std::errc::connection_refused);
      co_await sleep(1min);
    }
  };
  const auto body = [&](SimNetwork& network) -> Task<> {
    network.latency(50ms);
    const Job<> client = spawn(patient);
    co_await sleep(1h);
    const Job<> serving =
        spawn([] { return server("127.0.0.1", kPort, echo, quiet()); });
    co_await join(client);
    Loop::current().stop();
    co_await join(serving);
  };
  // Sixty refusals and pauses; then connecting, the request and the answer.
  CHECK(simulate(body) == 60 * (1min + 50ms) + 150ms);
  CHECK(tries == 61);
  CHECK(Clock::now() - start < 1s);  // some milliseconds, in truth
}

TEST_CASE("sim network: who waits for the network in vain gets a Deadlock",
          "[sim_network]") {
  const auto body = [](SimNetwork& network) -> Task<> {
    const Ends both = co_await ends();
    network.cut();
    co_await both.first.sendall("x");
    const Chunk never = co_await both.second.recv();
  };
  try {
    simulate(body);
    FAIL("it should have thrown");
  } catch (const Deadlock& e) {
    CHECK(contains(e.what(), "waiting for recv fd"));
  }
}

TEST_CASE("sim network: a server that nobody stops is a Deadlock, too",
          "[sim_network]") {
  const auto body = [](SimNetwork&) -> Task<> {
    const auto serve_all = [] {
      return server("127.0.0.1", kPort, echo, quiet());
    };
    const Job<> serving = spawn(serve_all);
    co_await yield_now();
    co_await client("x");
    co_await join(serving);
  };
  CHECK_THROWS_AS(simulate(body), Deadlock);
}

// ------------------------------------------------------------------ addresses

TEST_CASE("sim network: any address can be bound, and has one listener",
          "[sim_network]") {
  const auto body = [](SimNetwork& network) -> Task<> {
    const char* host = GENERATE("10.1.2.3", "2001:db8::7", "0.0.0.0", "::1");
    Listener listener(host, kPort);
    CHECK(listener.address() == Address::parse(host, kPort));
    const auto again = [=] { Listener second(host, kPort); };
    CHECK(contains(thrown<std::system_error>(again),
                   support::text_of_error(EADDRINUSE)));
    const Connection near = co_await connect(host, kPort);
    const Connection far = co_await listener.accept();
    CHECK(near.peer().port() == kPort);
    CHECK(far.peer() == near.local());
    CHECK(far.local().port() == kPort);
    listener.close();
    const Listener third(host, kPort);
    CHECK(network.open_descriptors() == 3);
  };
  simulate(body);
}

TEST_CASE("sim network: port 0 is a free one, the same host is one place",
          "[sim_network]") {
  const auto body = [](SimNetwork&) -> Task<> {
    const Listener a("127.0.0.1", 0);
    const Listener b("127.0.0.1", 0);
    const Listener c("10.0.0.1", a.address().port());
    CHECK(a.address().port() != 0);
    CHECK(a.address().port() != b.address().port());
    const Connection to_c = co_await connect(c.address());
    const Connection at_c = co_await c.accept();
    CHECK(at_c.local() == c.address());
    const auto everywhere = [&] { Listener d("", a.address().port()); };
    CHECK(thrown<std::system_error>(everywhere) != "nothing");
  };
  simulate(body);
}

TEST_CASE("sim network: who listens everywhere hears every host",
          "[sim_network]") {
  const auto body = [](SimNetwork&) -> Task<> {
    const Listener listener("", kPort);
    const Connection near = co_await connect("192.168.7.7", kPort);
    const Connection far = co_await listener.accept();
    CHECK(far.local() == Address::parse("192.168.7.7", kPort));
    const Connection here = co_await connect(Address::parse("", kPort));
    CHECK(here.peer() == Address::parse("", kPort));
    const Connection there = co_await listener.accept();
    CHECK(there.local() == Address::parse("127.0.0.1", kPort));
  };
  simulate(body);
}

TEST_CASE("sim network: several may share a port if all say so",
          "[sim_network]") {
  const auto body = [](SimNetwork&) -> Task<> {
    auto sockets = listen_sockets(Address::parse("127.0.0.1", 0), 2);
    const Listener a(std::move(sockets[0]));
    const Listener b(std::move(sockets[1]));
    CHECK(a.address() == b.address());
    const Connection one = co_await connect(a.address());
    const Connection two = co_await connect(a.address());
    const Connection at_a = co_await a.accept();
    const Connection at_b = co_await b.accept();
    CHECK(at_a.peer() != at_b.peer());
  };
  simulate(body);
}

TEST_CASE("sim network: unix names work without a file", "[sim_network]") {
  const auto body = [](SimNetwork&) -> Task<> {
    const Address address = Address::parse("unix:/nowhere/violet");
    Listener listener(address);
    const auto again = [&] { Listener second(address); };
    CHECK(thrown<std::system_error>(again) != "nothing");
    const Connection near = co_await connect(address);
    const Connection far = co_await listener.accept();
    const std::string text = "over there";
    co_await near.sendall(text);
    const std::string got = co_await receive(far, text.size());
    CHECK(got == text);
    CHECK(sys::calls->unlink("/nowhere/violet") == 0);
    const Listener third(address);
    CHECK(sys::calls->unlink("/nowhere/else") == -ENOENT);
  };
  simulate(body);
}

TEST_CASE("sim network: when every port is in use connecting fails",
          "[sim_network]") {
  const auto body = [](SimNetwork&) -> Task<> {
    std::vector<Fd> sockets;
    int error = 0;
    while (error == 0) {
      sockets.push_back(stream_socket());
      error = bind_to(sockets.back().get(), "127.0.0.1", 0);
    }
    CHECK(error == -EADDRINUSE);
    CHECK(sockets.size() == 60999 - 32768 + 2);
    const std::string text = co_await refusal();
    CHECK(contains(text, support::text_of_error(EADDRNOTAVAIL)));
    sockets.clear();
    const std::string after = co_await refusal();
    CHECK(contains(after, "Connection refused"));
  };
  simulate(body);
}

// ----------------------------------------------------------------- connecting

TEST_CASE("sim network: connecting to nobody is refused after one latency",
          "[sim_network]") {
  const auto body = [](SimNetwork& network) -> Task<> {
    network.latency(7ms);
    const std::string text = co_await refusal();
    CHECK(text == "connect 127.0.0.1:4915: Connection refused");
  };
  CHECK(simulate(body) == 7ms);
}

TEST_CASE("sim network: connecting takes one latency", "[sim_network]") {
  const auto body = [](SimNetwork& network) -> Task<> {
    network.latency(7ms);
    const Ends both = co_await ends();
  };
  CHECK(simulate(body) == 7ms);
}

TEST_CASE("sim network: a socket in the middle of connecting says so",
          "[sim_network]") {
  SimNetwork network;
  network.latency(5ms);
  const Fd listener = listen_socket(Address::parse("127.0.0.1", kPort));
  const Fd fd = stream_socket();
  CHECK(recv_byte(fd.get()) == -ENOTCONN);
  CHECK(send_byte(fd.get()) == -EPIPE);
  CHECK(sys::calls->getpeername(fd.get(), nullptr, nullptr) == -ENOTCONN);
  CHECK(connect_to(fd.get(), kPort) == -EINPROGRESS);
  CHECK(connect_to(fd.get(), kPort) == -EALREADY);
  CHECK(recv_byte(fd.get()) == -EAGAIN);
  CHECK(send_byte(fd.get()) == -EAGAIN);
  CHECK(sys::poll_now(fd.get(), POLLOUT) == 0);
  CHECK(sys::poll_now(listener.get(), POLLIN) == 0);
  CHECK(sys::calls->accept(listener.get(), nullptr, nullptr) == -EAGAIN);
  network.advance(5ms);
  news_of(network);
  CHECK(sys::poll_now(fd.get(), POLLOUT) == POLLOUT);
  CHECK(sys::poll_now(listener.get(), POLLIN) == POLLIN);
  CHECK(error_at(fd.get()) == 0);
  CHECK(connect_to(fd.get(), kPort) == -EISCONN);
}

TEST_CASE("sim network: a refused socket tells why once and can try again",
          "[sim_network]") {
  SimNetwork network;
  const Fd fd = stream_socket();
  CHECK(connect_to(fd.get(), kPort) == -EINPROGRESS);
  CHECK((sys::poll_now(fd.get(), POLLOUT) & POLLERR) != 0);
  CHECK(error_at(fd.get()) == ECONNREFUSED);
  CHECK(error_at(fd.get()) == 0);
  const Fd listener = listen_socket(Address::parse("127.0.0.1", kPort));
  CHECK(connect_to(fd.get(), kPort) == -EINPROGRESS);
  CHECK(sys::poll_now(fd.get(), POLLOUT) == POLLOUT);
}

TEST_CASE("sim network: a full backlog keeps others waiting", "[sim_network]") {
  const auto body = [](SimNetwork&) -> Task<> {
    ListenOptions options;
    options.backlog = 2;
    Listener listener("127.0.0.1", kPort, options);
    const auto dial = []() -> Task<> {
      const Connection conn = co_await connect("127.0.0.1", kPort);
    };
    const Job<> first = spawn(dial);
    const Job<> second = spawn(dial);
    const Job<> third = spawn(dial);
    const Job<> fourth = spawn(dial);
    co_await sleep(1h);
    CHECK(second.ended());
    CHECK_FALSE(third.ended());
    const Connection accepted = co_await listener.accept();
    co_await join(third);
    CHECK_FALSE(fourth.ended());
    listener.close();
    const auto outcome = [&]() -> Task<> { co_await join(fourth); };
    const std::string text = co_await error_of(outcome());
    CHECK(text == "connect 127.0.0.1:4915: Connection refused");
  };
  simulate(body);
}

TEST_CASE("sim network: a closing listener resets who waits there",
          "[sim_network]") {
  const auto body = [](SimNetwork&) -> Task<> {
    Listener listener("127.0.0.1", kPort);
    const Connection conn = co_await connect("127.0.0.1", kPort);
    listener.close();
    std::error_code code;
    const Chunk none = co_await conn.recv(code);
    CHECK(code == std::errc::connection_reset);
  };
  simulate(body);
}

TEST_CASE("sim network: who gives up connecting is never accepted",
          "[sim_network]") {
  const auto body = [](SimNetwork& network) -> Task<> {
    network.latency(10ms);
    Listener listener("127.0.0.1", kPort);
    const TimePoint start = now();
    const auto none = co_await within(4ms, connect("127.0.0.1", kPort));
    CHECK_FALSE(none);
    CHECK(now() - start == 4ms);
    const auto nobody = co_await within(1h, listener.accept());
    CHECK_FALSE(nobody);
  };
  simulate(body);
}

// -------------------------------------------------------------------- streams

TEST_CASE("sim network: bytes and their end arrive in one edge",
          "[sim_network]") {
  const auto body = [](SimNetwork& network) -> Task<> {
    network.latency(3ms);
    Ends both = co_await ends();
    const Job<std::string> reading = spawn(receive_all, std::ref(both.second));
    co_await sleep(1ms);
    co_await both.first.sendall("the last words");
    both.first.close();
    const std::string text = co_await join(reading);
    CHECK(text == "the last words");
  };
  simulate(body);
}

TEST_CASE("sim network: half of a connection can end", "[sim_network]") {
  const auto body = [](SimNetwork& network) -> Task<> {
    network.latency(3ms);
    const Ends both = co_await ends();
    co_await both.first.sendall("question");
    both.first.shutdown(Half::kSending);
    const std::string question = co_await receive_all(both.second);
    CHECK(question == "question");
    co_await both.second.sendall("answer");
    both.second.shutdown(Half::kSending);
    const std::string answer = co_await receive_all(both.first);
    CHECK(answer == "answer");
    std::error_code code;
    co_await both.first.send("more", code);
    CHECK(code == std::errc::broken_pipe);
  };
  CHECK(simulate(body) == 9ms);
}

TEST_CASE("sim network: who shuts down receiving reads the end",
          "[sim_network]") {
  const auto body = [](SimNetwork&) -> Task<> {
    const Ends both = co_await ends();
    const Job<std::string> reading = spawn(receive_all, std::ref(both.second));
    co_await sleep(1ms);
    both.second.shutdown(Half::kReceiving);
    const std::string text = co_await join(reading);
    CHECK(text.empty());
  };
  simulate(body);
}

TEST_CASE("sim network: a peer that never reads blocks the sender",
          "[sim_network]") {
  const auto body = [](SimNetwork& network) -> Task<> {
    network.limit_buffer(1000);
    const Ends both = co_await ends();
    const std::string much(10'000, 'm');
    const auto sent = co_await within(1h, both.first.sendall(much));
    CHECK_FALSE(sent);
    CHECK(both.first.sent_bytes() == 1000);
  };
  CHECK(simulate(body) == 1h);
}

TEST_CASE("sim network: a larger buffer lets the sender go on",
          "[sim_network]") {
  const auto body = [](SimNetwork& network) -> Task<> {
    network.limit_buffer(10);
    const Ends both = co_await ends();
    const std::string text(100, 't');
    const auto send_it = [&]() -> Task<> { co_await both.first.sendall(text); };
    const Job<> sending = spawn(send_it);
    co_await sleep(1s);
    CHECK_FALSE(sending.ended());
    network.limit_buffer(1000);
    co_await join(sending);
  };
  simulate(body);
}

TEST_CASE("sim network: a mebibyte goes through small buffers unharmed",
          "[sim_network]") {
  const std::string much = random_bytes(1 << 20);
  const auto body = [&](SimNetwork& network) -> Task<> {
    network.latency(1ms);
    network.limit_buffer(4096);
    const Ends both = co_await ends();
    const Job<std::string> reading = spawn(receive_all, std::ref(both.second));
    const auto send_it = [&]() -> Task<> {
      co_await both.first.sendall(much);
      both.first.shutdown(Half::kSending);
    };
    const Job<> sending = spawn(send_it);
    const std::string got = co_await join(reading);
    CHECK((got == much));
    co_await join(sending);
  };
  // Connecting; each buffer but the last there, and the news of it back; and
  // the last with the end.
  CHECK(simulate(body) == 1ms + 255 * 2ms + 1ms);
}

TEST_CASE("sim network: a socket closed with bytes unread resets its peer",
          "[sim_network]") {
  const auto body = [](SimNetwork& network) -> Task<> {
    network.latency(1ms);
    Ends both = co_await ends();
    co_await both.first.sendall("unwanted");
    co_await sleep(2ms);
    both.second.close();
    std::error_code code;
    const Chunk none = co_await both.first.recv(code);
    CHECK(code == std::errc::connection_reset);
    co_await both.first.send("x", code);
    CHECK(code == std::errc::broken_pipe);
    const Chunk end = co_await both.first.recv();
    CHECK_FALSE(end);
  };
  simulate(body);
}

TEST_CASE("sim network: sending to a closed socket works once",
          "[sim_network]") {
  const auto body = [](SimNetwork& network) -> Task<> {
    network.latency(1ms);
    Ends both = co_await ends();
    both.second.close();
    co_await sleep(10ms);
    co_await both.first.send("nobody reads this");
    co_await sleep(10ms);
    std::error_code code;
    co_await both.first.send("x", code);
    CHECK(code == std::errc::broken_pipe);
  };
  simulate(body);
}

TEST_CASE("sim network: what came before a reset can still be read",
          "[sim_network]") {
  const auto body = [](SimNetwork&) -> Task<> {
    Ends both = co_await ends();
    co_await both.first.sendall("last words");
    reset_at_close(both.first.fd());
    both.first.close();
    char buffer[64];
    const std::size_t count = co_await both.second.recv(buffer);
    CHECK(count == 10);
    std::error_code code;
    co_await both.second.recv(buffer, code);
    CHECK(code == std::errc::connection_reset);
  };
  simulate(body);
}

TEST_CASE("sim network: a pair is connected from the start", "[sim_network]") {
  const auto body = [](SimNetwork& network) -> Task<> {
    auto [a, b] = network.pair();
    const Connection near(std::move(a));
    const Connection far(std::move(b));
    CHECK(near.peer() == far.local());
    CHECK(far.peer() == near.local());
    const std::string answer = "hello";
    co_await far.sendall(answer);
    const std::string got = co_await receive(near, 5);
    CHECK(got == answer);
  };
  simulate(body);
}

TEST_CASE("sim network: connected_pair() is simulated, too", "[sim_network]") {
  const auto body = [](SimNetwork& network) -> Task<> {
    auto both = connected_pair();
    CHECK(network.open_descriptors() == 2);
    co_await both.first.sendall("x");
    both.first.close();
    const std::string got = co_await receive_all(both.second);
    CHECK(got == "x");
    // Unlike TCP, a unix socket knows at once that its peer is gone.
    std::error_code code;
    co_await both.second.send("x", code);
    CHECK(code == std::errc::broken_pipe);
  };
  simulate(body);
}

// -------------------------------------------------------------------- weather

TEST_CASE("sim network: what is sent while it is cut arrives after healing",
          "[sim_network]") {
  const auto body = [](SimNetwork& network) -> Task<> {
    network.latency(10ms);
    const Ends both = co_await ends();
    const TimePoint start = now();
    co_await both.first.sendall("one ");
    co_await sleep(5ms);
    network.cut();
    co_await both.first.sendall("two ");
    co_await sleep(1h);
    const auto nothing = co_await within(0s, both.second.recv());
    CHECK_FALSE(nothing);
    network.heal();
    co_await both.first.sendall("three");
    const std::string got = co_await receive(both.second, 13);
    CHECK(got == "one two three");
    CHECK(now() - start == 1h + 15ms);
  };
  simulate(body);
}

TEST_CASE("sim network: while it is cut, connecting hangs", "[sim_network]") {
  const auto body = [](SimNetwork& network) -> Task<> {
    Listener listener("127.0.0.1", kPort);
    network.cut();
    const auto none = co_await within(30s, connect("127.0.0.1", kPort));
    CHECK_FALSE(none);
    const auto dial = []() -> Task<> {
      const Connection conn = co_await connect("127.0.0.1", kPort);
    };
    const Job<> dialling = spawn(dial);
    co_await sleep(1min);
    CHECK_FALSE(dialling.ended());
    network.heal();
    co_await join(dialling);
  };
  CHECK(simulate(body) == 90s);
}

TEST_CASE("sim network: one port can be cut and the others work",
          "[sim_network]") {
  const auto body = [](SimNetwork& network) -> Task<> {
    Listener good("127.0.0.1", 0);
    Listener bad("127.0.0.1", kPort);
    const Connection before = co_await connect(bad.address());
    const Connection accepted = co_await bad.accept();
    network.cut_port(kPort);
    co_await before.sendall("x");
    const auto none = co_await within(1s, accepted.recv());
    CHECK_FALSE(none);
    const auto hangs = co_await within(1s, connect(bad.address()));
    CHECK_FALSE(hangs);
    const auto works = co_await within(1s, connect(good.address()));
    CHECK(works.has_value());
    network.heal();
    const Chunk late = co_await accepted.recv();
    CHECK(late.view() == "x");
  };
  simulate(body);
}

TEST_CASE(
    "sim network: nothing overtakes on a connection, whatever the "
    "weather",
    "[sim_network]") {
  const std::string text = random_bytes(5000);
  const auto body = [&](SimNetwork& network) -> Task<> {
    const Ends both = co_await ends();
    const Job<std::string> reading = spawn(receive_all, std::ref(both.second));
    for (std::size_t i = 0; i < text.size(); ++i) {
      network.latency(Duration(i * 7919 % 10'000));
      network.jitter(5us, i);
      if (i % 97 == 0) network.cut();
      if (i % 97 == 13) network.heal();
      co_await both.first.sendall(std::string_view(text).substr(i, 1));
      co_await sleep(1us);
    }
    network.heal();
    both.first.shutdown(Half::kSending);
    const std::string got = co_await join(reading);
    CHECK((got == text));
  };
  simulate(body);
}

TEST_CASE("sim network: a connection can be reset at either end",
          "[sim_network]") {
  const auto body = [](SimNetwork& network) -> Task<> {
    const bool near = GENERATE(true, false);
    const Ends both = co_await ends();
    const Ends others = co_await ends();
    CHECK(network.reset(near ? both.first.fd() : both.second.fd()));
    CHECK_FALSE(network.reset(both.first.fd()));
    CHECK_FALSE(network.reset(0));
    std::error_code code;
    const Chunk one = co_await both.first.recv(code);
    CHECK(code == std::errc::connection_reset);
    co_await both.second.send("x", code);
    CHECK(code == std::errc::connection_reset);
    co_await others.first.send("x");
    network.reset_all();
    const Chunk last = co_await others.second.recv();
    CHECK(last.view() == "x");
    const Chunk two = co_await others.second.recv(code);
    CHECK(code == std::errc::connection_reset);
  };
  simulate(body);
}

TEST_CASE("sim network: a reset at any moment harms one client only",
          "[sim_network]") {
  // The client's life takes 60 ms: connecting, asking, hearing.
  for (int step = 0; step <= 70; step += 5) {
    CAPTURE(step);
    std::string first;
    const auto body = [&](SimNetwork& network) -> Task<> {
      network.latency(20ms);
      const Job<> serving =
          spawn([] { return server("127.0.0.1", kPort, echo, quiet()); });
      const auto unlucky = [&]() -> Task<> {
        first = co_await error_of(client("unlucky"));
      };
      const Job<> job = spawn(unlucky);
      co_await sleep(std::chrono::milliseconds(step));
      network.reset_all();
      co_await join(job);
      co_await client("lucky");
      Loop::current().stop();
      co_await join(serving);
    };
    const std::string errors = errors_of([&] { simulate(body); });
    CHECK(errors == "");
    if (step <= 15 || step >= 60) {
      CHECK(first == "nothing");
    } else {
      CHECK(contains(first, "Connection reset by peer"));
    }
  }
}

// --------------------------------------------------------------------- faults

TEST_CASE("sim network: a server goes on whatever a plan does to its calls",
          "[sim_network]") {
  const auto body = [](SimNetwork& network) -> Task<> {
    const int kind = GENERATE(0, 1, 2, 3, 4, 5);
    FaultPlan plan;
    if (kind == 0 || kind == 5) plan.one_byte();
    if (kind == 1 || kind == 5) plan.interrupt_every(2);
    if (kind == 2 || kind == 5) plan.would_block_every(2);
    if (kind == 3) plan.would_block_every(1);
    if (kind == 4) plan.fail(Call::kAccept, EMFILE, 2, 5);
    network.latency(1ms);
    co_await serve_echo_to(30);
    CHECK((plan.shortened() > 0) == (kind == 0 || kind == 5));
    CHECK((plan.interrupted() > 0) == (kind == 1 || kind == 5));
    CHECK((plan.told_to_wait() > 0) == (kind == 2 || kind == 3 || kind == 5));
    CHECK(plan.failed(Call::kAccept) == (kind == 4 ? 5 : 0));
  };
  errors_of([&] { simulate(body); });  // accepting complains of EMFILE
}

// ---------------------------------------------------------------- descriptors

TEST_CASE("sim network: its numbers are far from the kernel's and reused",
          "[sim_network]") {
  SimNetwork network;
  Fd a = stream_socket();
  const Fd b = stream_socket();
  CHECK(a.get() >= 1 << 30);
  CHECK(b.get() == a.get() + 1);
  const int number = a.get();
  a.reset();
  CHECK(sys::calls->close(number) == -EBADF);
  a = stream_socket();
  CHECK(a.get() == number);
  CHECK(sys::calls->file_type(number) == S_IFSOCK);
  CHECK((sys::calls->get_flags(number) & O_NONBLOCK) != 0);
}

TEST_CASE("sim network: once it is gone its sockets are EBADF",
          "[sim_network]") {
  Fd fd;
  {
    SimNetwork network;
    fd = stream_socket();
  }
  CHECK(recv_byte(fd.get()) == -EBADF);
  SimNetwork network;
  const Fd other = stream_socket();
  CHECK(other.get() != fd.get());
  CHECK(recv_byte(fd.get()) == -EBADF);
  CHECK(network.poller().add(fd.get(), {1, 1}, kReadable) != 0);
}

TEST_CASE("sim network: a closed socket's edge is not its successor's",
          "[sim_network]") {
  SimNetwork network;
  Poller& poller = network.poller();
  auto [a, b] = network.pair();
  REQUIRE(poller.add(a.get(), {1, 1}, kReadable) == 0);
  CHECK(send_byte(b.get()) == 1);
  const int number = a.get();
  a.reset();
  const Fd successor = stream_socket();
  REQUIRE(successor.get() == number);
  CHECK(news_of(network) == 0);
}

TEST_CASE("sim network: what is real works beside it", "[sim_network]") {
  const auto body = [](SimNetwork& network) -> Task<> {
    network.latency(1h);
    Pair pipe = make_pipe();
    const Descriptor in = adopt(std::move(pipe[0]));
    const Descriptor out = adopt(std::move(pipe[1]));
    const auto relay = [&]() -> Task<> {
      const Ends both = co_await ends();
      co_await both.first.sendall("far and near");
      const std::string got = co_await receive(both.second, 12);
      co_await write(out, got);
    };
    const Job<> relaying = spawn(relay);
    char buffer[64];
    const std::size_t count = co_await read(in, buffer);
    CHECK(std::string_view(buffer, count) == "far and near");
    co_await join(relaying);
  };
  CHECK(simulate(body) == 2h);
}

TEST_CASE("sim network: poll() asks simulated and real ones together",
          "[sim_network]") {
  SimNetwork network;
  auto [a, b] = network.pair();
  Pair pipe = make_pipe();
  pollfd all[] = {{a.get(), POLLIN, 0},
                  {pipe[0].get(), POLLIN, 0},
                  {b.get(), POLLOUT, 0},
                  {-1, POLLIN, 0}};
  CHECK(sys::calls->poll(all, 4, 1000) == 1);
  CHECK(all[2].revents == POLLOUT);
  CHECK(send_byte(b.get()) == 1);
  support::put(pipe[1].get(), "x");
  CHECK(sys::calls->poll(all, 4, 1000) == 3);
  CHECK(all[0].revents == POLLIN);
  CHECK(all[1].revents == POLLIN);
}

TEST_CASE("sim network: options are remembered", "[sim_network]") {
  SimNetwork network;
  const Fd fd = stream_socket();
  int value = 1;
  unsigned size = sizeof value;
  CHECK(sys::calls->setsockopt(fd.get(), SOL_SOCKET, SO_KEEPALIVE, &value,
                               sizeof value) == 0);
  value = 0;
  CHECK(sys::calls->getsockopt(fd.get(), SOL_SOCKET, SO_KEEPALIVE, &value,
                               &size) == 0);
  CHECK(value == 1);
  CHECK(sys::calls->getsockopt(fd.get(), SOL_SOCKET, SO_TYPE, &value, &size) ==
        0);
  CHECK(value == SOCK_STREAM);
}

TEST_CASE("sim network: bytes can be looked at without taking them",
          "[sim_network]") {
  SimNetwork network;
  auto [a, b] = network.pair();
  CHECK(send_byte(a.get()) == 1);
  char byte = 0;
  CHECK(sys::calls->recv(b.get(), &byte, 1, MSG_PEEK) == 1);
  CHECK(byte == 'x');
  CHECK(recv_byte(b.get()) == 1);
  CHECK(recv_byte(b.get()) == -EAGAIN);
  CHECK(sys::calls->send(a.get(), &byte, 1, MSG_OOB) == -EOPNOTSUPP);
}

TEST_CASE("sim network: a buffer of nothing is refused", "[sim_network]") {
  SimNetwork network;
  const auto nothing = [&] { network.limit_buffer(0); };
  CHECK(thrown<Misuse>(nothing) ==
        "violet: a buffer of no bytes takes none: limit it to 1");
}

TEST_CASE("sim network: networks and plans go in the reverse order",
          "[sim_network]") {
  const support::ChildEnd end = in_child([] {
    auto network = std::make_unique<SimNetwork>();
    auto plan = std::make_unique<FaultPlan>();
    network.reset();
  });
  CHECK(end.signal == SIGABRT);
  CHECK(contains(end.errors, "whoever answers system calls goes in the"));
}
