// connect_test.cpp - connecting to whichever of several addresses answers.
//
// Nearly all of it in a simulated network, where it is known to the
// millisecond who is tried when.
// SPDX-License-Identifier: MIT
#include "../net/connect.hpp"

#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "../runtime/group.hpp"
#include "../runtime/testing.hpp"
#include "catch.hpp"
#include "names.hpp"

using namespace names;

namespace {

using Addresses = std::vector<Address>;

constexpr std::uint16_t kPort = 80;
constexpr std::uint16_t kHolePort = 9;  // nothing arrives there

/// Not an initializer_list, which g++ 12 does not take inside a co_await.
template <class... Host>
Addresses addresses(Host... hosts) {
  return {Address::parse(hosts, kPort)...};
}

/// What the way to some hosts is like, and when each was tried.
class Ways final : public sys::Layer {
 public:
  static constexpr int kHole = -1;

  /// `host` cannot be connected: `error` says why, or nobody says anything.
  void block(const char* host, int error) {
    blocked_[Address::parse(host, kPort).text()] = error;
  }
  void block_all(const Addresses& all, int error) {
    for (const Address& one : all) blocked_[one.text()] = error;
  }

  int connect(int fd, const sockaddr* name, unsigned size) noexcept override {
    Address to = Address::from(name, size);
    tries += to.text() + "@" + ms_text(now() - began) + " ";
    const auto found = blocked_.find(to.text());
    if (found == blocked_.end()) return Layer::connect(fd, name, size);
    if (found->second != kHole) return -found->second;
    to.set_port(kHolePort);
    return Layer::connect(fd, to.get(), to.size());
  }

  static std::string ms_text(Duration duration) {
    return std::to_string(
        std::chrono::duration_cast<std::chrono::milliseconds>(duration)
            .count());
  }

  static TimePoint now() { return Loop::current().now(); }

  std::string tries;  // "10.0.0.1:80@250 ", in ms
  TimePoint began = now();

 private:
  std::map<std::string, int> blocked_;
};

testing::Options with_network() {
  testing::Options options;
  options.network = true;
  return options;
}

/// Plays a body in a simulated network where nothing arrives at kHolePort.
/// Returns: the virtual time that it took.
template <class Body>
Duration play_in_network(Body body) {
  testing::World world(with_network());
  const int before = open_descriptors();
  world.play([&]() -> Task<> {
    testing::network().cut_port(kHolePort);
    co_await body();
    CHECK(testing::network().open_descriptors() == 0);
  });
  CHECK(open_descriptors() == before);
  return world.elapsed();
}

Task<> connect_to_any(Addresses to) {
  const Connection conn = co_await connect(to);
}

Task<> connect_to(std::string host, std::uint16_t port) {
  const Connection conn = co_await connect(host, port);
}

std::string said(int error) {
  return support::text_of_error(error);
}

}  // namespace

// ------------------------------------------------------------- which is taken

TEST_CASE("connect: the families take turns, beginning with the first",
          "[connect]") {
  const auto order = [](Addresses all) {
    std::string text;
    for (const Address& one : in_turns(std::move(all)))
      text += one.text() + " ";
    return text;
  };
  CHECK(order({}) == "");
  CHECK(order(addresses("1.1.1.1")) == "1.1.1.1:80 ");
  CHECK(order(addresses("::1", "::2", "::3", "1.1.1.1", "1.1.1.2")) ==
        "[::1]:80 1.1.1.1:80 [::2]:80 1.1.1.2:80 [::3]:80 ");
  CHECK(order(addresses("1.1.1.1", "1.1.1.2", "1.1.1.3", "::1")) ==
        "1.1.1.1:80 [::1]:80 1.1.1.2:80 1.1.1.3:80 ");
}

TEST_CASE("connect: the first address that answers is taken", "[connect]") {
  const Duration elapsed = play_in_network([]() -> Task<> {
    Ways ways;
    const Listener one("10.0.0.1", kPort);
    const Listener two("10.0.0.2", kPort);
    const Connection conn = co_await connect(addresses("10.0.0.1", "10.0.0.2"));
    CHECK(conn.peer() == one.address());
    CHECK(ways.tries == "10.0.0.1:80@0 ");
  });
  CHECK(elapsed == 0ms);
}

TEST_CASE("connect: one that fails gives way to the next at once",
          "[connect]") {
  const Duration elapsed = play_in_network([]() -> Task<> {
    Ways ways;
    ways.block("2001:db8::1", ENETUNREACH);
    const Listener good("10.0.0.2", kPort);
    // The second is refused by its host: nobody listens there.
    const Connection conn =
        co_await connect(addresses("2001:db8::1", "10.0.0.1", "10.0.0.2"));
    CHECK(conn.peer() == good.address());
    CHECK(ways.tries == "[2001:db8::1]:80@0 10.0.0.1:80@0 10.0.0.2:80@0 ");
  });
  CHECK(elapsed == 0ms);
}

TEST_CASE("connect: where nobody answers, another is begun every 250 ms",
          "[connect]") {
  const Duration elapsed = play_in_network([]() -> Task<> {
    Ways ways;
    const Addresses all =
        addresses("2001:db8::1", "2001:db8::2", "10.0.0.1", "10.0.0.2");
    ways.block_all(all, Ways::kHole);
    const auto none = co_await within(10s, connect(all));
    CHECK_FALSE(none);
    CHECK(ways.tries ==
          "[2001:db8::1]:80@0 10.0.0.1:80@250 [2001:db8::2]:80@500 "
          "10.0.0.2:80@750 ");
  });
  CHECK(elapsed == 10s);
}

TEST_CASE("connect: a black hole costs 250 ms, or what is asked for",
          "[connect]") {
  for (const Duration delay : {Duration(250ms), Duration(40ms)}) {
    const Duration elapsed = play_in_network([=]() -> Task<> {
      Ways ways;
      ways.block("2001:db8::1", Ways::kHole);
      const Listener good("10.0.0.1", kPort);
      ConnectOptions options;
      options.attempt_delay = delay;
      std::error_code code;
      const Connection conn =
          co_await connect(addresses("2001:db8::1", "10.0.0.1"), options, code);
      CHECK_FALSE(code);
      CHECK(conn.peer() == good.address());
    });
    CHECK(elapsed == delay);
  }
}

TEST_CASE("connect: an attempt that was slow can still be the first",
          "[connect]") {
  const Duration elapsed = play_in_network([]() -> Task<> {
    Ways ways;
    testing::network().latency(600ms);
    const Listener slow("10.0.0.1", kPort);
    ways.block("10.0.0.2", Ways::kHole);
    ways.block("10.0.0.3", EHOSTUNREACH);
    const Connection conn =
        co_await connect(addresses("10.0.0.1", "10.0.0.2", "10.0.0.3"));
    CHECK(conn.peer() == slow.address());
    CHECK(ways.tries == "10.0.0.1:80@0 10.0.0.2:80@250 10.0.0.3:80@500 ");
  });
  CHECK(elapsed == 600ms);
}

TEST_CASE("connect: of two that answer in one turn one is closed",
          "[connect]") {
  play_in_network([]() -> Task<> {
    testing::network().latency(250ms);
    Listener one("10.0.0.1", kPort);
    Listener two("10.0.0.2", kPort);
    ConnectOptions options;
    options.attempt_delay = 0ms;
    {
      // Both knock at the same time, so both are answered at the same time.
      const Connection conn =
          co_await connect(addresses("10.0.0.1", "10.0.0.2"), options);
      CHECK(conn.peer() == one.address());
      CHECK(testing::network().open_descriptors() == 3);
      Connection loser = co_await two.accept();
      const auto end = co_await loser.recv();
      CHECK(end.size() == 0);
    }
  });
}

TEST_CASE("connect: if all fail each cause is told", "[connect]") {
  play_in_network([]() -> Task<> {
    Ways ways;
    ways.block("2001:db8::1", ENETUNREACH);
    const Addresses all = addresses("2001:db8::1", "10.0.0.1");
    const std::string error = co_await error_of(connect_to_any(all));
    CHECK(error == "connect: [2001:db8::1]:80: " + said(ENETUNREACH) +
                       "; 10.0.0.1:80: " + said(ECONNREFUSED));
    std::error_code code;
    const Connection none = co_await connect(all, code);
    CHECK_FALSE(none);
    CHECK(code == std::errc::connection_refused);
    CHECK(testing::network().open_descriptors() == 0);
  });
}

TEST_CASE("connect: the last may fail before an earlier one answers",
          "[connect]") {
  const Duration elapsed = play_in_network([]() -> Task<> {
    Ways ways;
    testing::network().latency(1s);
    ways.block("10.0.0.2", ECONNREFUSED);
    // Refused after a second, by its host.
    const std::string error =
        co_await error_of(connect_to_any(addresses("10.0.0.1", "10.0.0.2")));
    CHECK(error == "connect: 10.0.0.1:80: " + said(ECONNREFUSED) +
                       "; 10.0.0.2:80: " + said(ECONNREFUSED));
  });
  CHECK(elapsed == 1s);
}

TEST_CASE("connect: to no address at all is a mistake", "[connect]") {
  CHECK_THROWS_AS(connect(Addresses()), Misuse);
}

// --------------------------------------------------------------- what is lost

TEST_CASE("connect: without descriptors the attempts that there are go on",
          "[connect]") {
  const Duration elapsed = play_in_network([]() -> Task<> {
    Ways ways;
    testing::network().latency(400ms);
    const Listener good("10.0.0.1", kPort);
    FaultPlan plan;
    plan.fail(Call::kSocket, EMFILE, 2, FaultPlan::kForEver);
    const Connection conn =
        co_await connect(addresses("10.0.0.1", "10.0.0.2", "10.0.0.3"));
    CHECK(conn.peer() == good.address());
    CHECK(plan.failed(Call::kSocket) == 2);
    plan.relent();
    plan.fail(Call::kSocket, EMFILE, 1, FaultPlan::kForEver);
    const std::string error =
        co_await error_of(connect_to_any(addresses("10.0.0.1", "10.0.0.2")));
    CHECK(error == "connect: 10.0.0.1:80: " + said(EMFILE) +
                       "; 10.0.0.2:80: " + said(EMFILE));
  });
  CHECK(elapsed == 400ms);
}

TEST_CASE("connect: kill everywhere leaves no socket behind",
          "[connect][kill]") {
  testing::Options options = with_network();
  options.seeds = 200;
  struct State {
    int connected = 0;
  };
  const auto counts = testing::kill_everywhere<State>(
      [](State& state) -> Task<> {
        testing::network().cut_port(kHolePort);
        testing::network().latency(300ms);
        Ways ways;
        ways.block("10.0.0.1", Ways::kHole);
        ways.block("10.0.0.2", EHOSTUNREACH);
        const auto connects = [&]() -> Task<> {
          const Listener good("10.0.0.3", kPort);
          const Connection conn = co_await connect(
              addresses("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"));
          ++state.connected;
        };
        {
          TaskGroup group;
          group.spawn(connects);
          co_await group.join();
        }
        if (testing::network().open_descriptors() != 0) {
          throw std::logic_error("a socket is left");
        }
      },
      [](State&) {}, options);
  CHECK(counts.waits >= 2);
  CHECK(counts.kills >= counts.waits);
}

TEST_CASE("connect: while nobody answers the loop ticks", "[connect]") {
  play_in_network([]() -> Task<> {
    Ways ways;
    const Addresses all = addresses("10.0.0.1", "10.0.0.2");
    ways.block_all(all, Ways::kHole);
    int ticks = 0;
    const auto ticker = [&]() -> Task<> {
      for (;; ++ticks) co_await violet::sleep(1ms);
    };
    TaskGroup group;
    group.spawn(ticker);
    const auto none = co_await within(1s, connect(all));
    CHECK_FALSE(none);
    CHECK(ticks >= 999);
  });
}

TEST_CASE("connect: a dump says which addresses are tried", "[connect]") {
  play_in_network([]() -> Task<> {
    Ways ways;
    const Addresses all = addresses("10.0.0.1", "10.0.0.2", "10.0.0.3");
    ways.block_all(all, Ways::kHole);
    ways.block("10.0.0.2", EHOSTUNREACH);
    TaskGroup group;
    group.spawn(connect_to_any, all);
    co_await violet::sleep(300ms);
    CHECK(contains(Loop::current().dump(),
                   "connect, trying 10.0.0.1:80, 10.0.0.3:80"));
  });
}

TEST_CASE("connect: over the loopback, whichever of two families listens",
          "[connect][libkqueue:so_error]") {
  const MaybeShortIo io;
  if (!has_ipv6()) return;
  for (const char* host : {"::1", "127.0.0.1"}) {
    play([=]() -> Task<> {
      const Listener listener(host, 0);
      const std::uint16_t port = listener.address().port();
      const Addresses both = {Address::parse("::1", port),
                              Address::parse("127.0.0.1", port)};
      const Connection conn = co_await connect(both);
      CHECK(conn.peer() == listener.address());
    });
  }
}

// ------------------------------------------------------------------ by a name

TEST_CASE("connect: a name is connected at whichever address answers",
          "[connect]") {
  const Duration elapsed = play_in_network([]() -> Task<> {
    FakeDns dns;
    dns.at_once(true);
    dns.answer("example.org", {"2001:db8::1", "2001:db8::2", "10.0.0.1"});
    Ways ways;
    ways.block("2001:db8::1", Ways::kHole);
    ways.block("2001:db8::2", ENETUNREACH);
    const Listener good("10.0.0.1", kPort);
    const Connection conn = co_await connect("example.org", kPort);
    CHECK(conn.peer() == good.address());
    CHECK(ways.tries == "[2001:db8::1]:80@0 10.0.0.1:80@250 ");
    CHECK(dns.asked() == "example.org ");
  });
  CHECK(elapsed == 250ms);
}

TEST_CASE("connect: if all addresses of a name fail each cause is told",
          "[connect]") {
  play_in_network([]() -> Task<> {
    FakeDns dns;
    dns.at_once(true);
    dns.answer("example.org", {"2001:db8::1", "192.0.2.1"});
    dns.answer("one.example", {"192.0.2.1"});
    dns.fail("again.example", EAI_AGAIN);
    Ways ways;
    ways.block("2001:db8::1", ENETUNREACH);
    std::string error = co_await error_of(connect_to("example.org", kPort));
    CHECK(error == "connect example.org:80: 2001:db8::1: " + said(ENETUNREACH) +
                       "; 192.0.2.1: " + said(ECONNREFUSED));
    error = co_await error_of(connect_to("one.example", kPort));
    CHECK(error == "connect one.example:80: 192.0.2.1: " + said(ECONNREFUSED));
    error = co_await error_of(connect_to("192.0.2.1", kPort));
    CHECK(error == "connect 192.0.2.1:80: " + said(ECONNREFUSED));
    error = co_await error_of(connect_to("again.example", kPort));
    CHECK(error ==
          std::string("resolve again.example: ") + ::gai_strerror(EAI_AGAIN));
    error = co_await error_of(connect_to("a..b", kPort));
    CHECK(error ==
          "resolve 'a..b' (a part of the name is missing): " + said(EINVAL));
    error = co_await error_of(connect_to("", kPort));
    CHECK(error == "resolve '' (a name is missing): " + said(EINVAL));
    error = co_await error_of(connect_to("1:2", kPort));
    CHECK(contains(error, "resolve address '1:2' (an address and its port"));

    std::error_code code;
    Connection conn = co_await connect("example.org", kPort, code);
    CHECK_FALSE(conn);
    CHECK(code == std::errc::connection_refused);
    conn = co_await connect("again.example", kPort, code);
    CHECK_FALSE(conn);
    CHECK(code == std::error_code(EAI_AGAIN, resolve_category()));
    conn = co_await connect("192.0.2.1", kPort, code);
    CHECK_FALSE(conn);
    CHECK(code == std::errc::connection_refused);
    const Listener good("192.0.2.1", kPort);
    conn = co_await connect("example.org", kPort, code);
    CHECK(conn);
    CHECK_FALSE(code);
    conn = co_await connect("192.0.2.1", kPort, ConnectOptions(), code);
    CHECK(conn.peer() == good.address());
    CHECK_FALSE(code);
  });
}

TEST_CASE("connect: a number is never looked up", "[connect]") {
  play_in_network([]() -> Task<> {
    FakeDns dns;
    dns.fail_all(EAI_FAIL);
    const Listener listener("10.0.0.1", kPort);
    const Connection conn = co_await connect("10.0.0.1", kPort);
    CHECK(conn.peer() == listener.address());
    CHECK(dns.asked() == "");
  });
}

TEST_CASE("connect: a name is looked up beside the loop",
          "[connect][threads]") {
  FakeDns dns;
  dns.answer("server.example", {"127.0.0.1"});
  dns.hold();
  play([&]() -> Task<> {
    Listener listener("127.0.0.1", 0);
    const std::uint16_t port = listener.address().port();
    // A limit counts while it is looked up.
    const auto none = co_await within(5ms, connect("server.example", port));
    CHECK_FALSE(none);
    TaskGroup group;
    std::string peer;
    const auto connects = [&]() -> Task<> {
      const Connection conn = co_await connect("server.example", port);
      peer = conn.peer().text();
    };
    group.spawn(connects);
    co_await dns.until_asked(2);
    CHECK(contains(Loop::current().dump(), "resolve server.example"));
    dns.let_go();
    co_await group.join();
    CHECK(peer == listener.address().text());
  });
  dns.until_answered();
}

TEST_CASE("connect: localhost is whichever of the two listens",
          "[connect][libkqueue:so_error]") {
  const MaybeShortIo io;
  FakeDns dns;
  dns.fail_all(EAI_FAIL);
  for (const char* host : {"127.0.0.1", "::1"}) {
    if (*host == ':' && !has_ipv6()) continue;
    play([=]() -> Task<> {
      const Listener listener(host, 0);
      const Connection conn =
          co_await connect("localhost", listener.address().port());
      CHECK(conn.peer() == listener.address());
    });
  }
}

TEST_CASE("connect: without descriptors in the middle of a name", "[connect]") {
  play_in_network([]() -> Task<> {
    FakeDns dns;
    dns.at_once(true);
    dns.answer("example.org", {"10.0.0.1", "10.0.0.2"});
    Ways ways;
    ways.block("10.0.0.1", Ways::kHole);
    FaultPlan plan;
    plan.fail(Call::kSocket, EMFILE, 2);
    std::error_code code;
    const auto none = co_await within(1s, connect("example.org", kPort, code));
    CHECK_FALSE(none);  // the one that there is goes on
    CHECK(plan.failed(Call::kSocket) == 1);
    CHECK(testing::network().open_descriptors() == 0);
  });
}

TEST_CASE("connect: kill everywhere over a name leaves nothing",
          "[connect][kill]") {
  testing::Options options = with_network();
  options.seeds = 200;
  struct State {
    int connected = 0;
  };
  const auto counts = testing::kill_everywhere<State>(
      [](State& state) -> Task<> {
        FakeDns dns;
        dns.at_once(true);
        dns.answer("example.org",
                   {"2001:db8::1", "2001:db8::2", "10.0.0.2", "10.0.0.3"});
        testing::network().cut_port(kHolePort);
        testing::network().latency(300ms);
        Ways ways;
        ways.block("2001:db8::1", Ways::kHole);
        ways.block("10.0.0.2", EHOSTUNREACH);
        const auto connects = [&]() -> Task<> {
          const Listener good("10.0.0.3", kPort);
          const Connection conn = co_await connect("example.org", kPort);
          ++state.connected;
        };
        {
          TaskGroup group;
          group.spawn(connects);
          co_await group.join();
        }
        if (testing::network().open_descriptors() != 0) {
          throw std::logic_error("a socket is left");
        }
      },
      [](State& state) {
        if (state.connected > 1) throw std::logic_error("connected twice");
      },
      options);
  CHECK(counts.waits >= 3);
  CHECK(counts.kills >= counts.waits);
}
