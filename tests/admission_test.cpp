// admission_test.cpp - who is served, who waits, who is refused.
// SPDX-License-Identifier: MIT
#include "../net/admission.hpp"

#include <algorithm>
#include <deque>
#include <optional>

#include "../runtime/random.hpp"
#include "../runtime/testing.hpp"
#include "catch.hpp"
#include "sockets.hpp"

using namespace sockets;
using testing::network;

namespace {

/// A server on a simulated network, and a scenario beside it.
class Served {
 public:
  explicit Served(ServerOptions server_options) : options(server_options) {}

  template <class Handler, class Scenario>
  void run(Handler handler, Scenario scenario) {
    auto whole = [&]() -> Task<> {
      Listener listener("10.0.0.1", 80);
      address = listener.address();
      auto body = [&](Listener own) -> Task<> {
        summary = co_await serve(std::move(own), handler, options);
      };
      server = spawn(body, std::move(listener));
      co_await scenario(*this);
      Loop::current().stop();
      co_await wait(server);
      server = Job<>();
    };
    testing::Options in_memory;
    in_memory.network = true;
    log = errors_of([&] { testing::play(whole, in_memory); });
  }

  ServerOptions options;
  Address address;
  Job<> server;
  ServerSummary summary;
  std::string log;
};

ServerOptions full_at(std::size_t most, WhenFull when_full) {
  ServerOptions options;
  options.max_connections = most;
  options.when_full = when_full;
  return options;
}

Task<> say_busy(Connection& conn) {
  co_await conn.sendall("503\n");
}

/// Whatever comes until the end; " reset" follows if that is no clean one.
Task<std::string> hear_out(const Connection& conn) {
  std::string text;
  for (;;) {
    std::error_code code;
    const Chunk chunk = co_await conn.recv(code);
    if (code) co_return text + " reset";
    if (!chunk) co_return text;
    text.append(chunk.view());
  }
}

/// As a peer that vanishes; on a simulated network.
void break_off(Connection& conn) {
  network().reset(conn.fd());
  conn.close();
}

/// True if an answer comes before anything else can happen.
Task<bool> is_served(const Connection& conn) {
  std::error_code code;
  co_await conn.sendall("x", code);
  char byte = 0;
  const auto got =
      co_await within(10ms, conn.recv(std::span<char>(&byte, 1), code));
  co_return got.has_value() && *got == 1 && byte == 'x';
}

Task<> expect_served(const Connection& conn, bool expected = true) {
  const bool served = co_await is_served(conn);
  CHECK(served == expected);
}

}  // namespace

// -------------------------------------------------------------------- waiting

TEST_CASE("admission: who waits in line is served in order", "[admission]") {
  Served served(full_at(1, wait_in_line));
  served.run(echo, [](Served& s) -> Task<> {
    std::deque<Connection> clients;
    for (int i = 0; i < 4; ++i) clients.push_back(co_await connect(s.address));
    co_await expect_served(clients[0]);
    for (std::size_t i = 1; i < 4; ++i) {
      co_await expect_served(clients[i], false);
    }
    CHECK(contains(Loop::current().dump(), "a place"));
    for (std::size_t i = 0; i < 3; ++i) {
      clients[i].close();
      const std::string answer = co_await receive(clients[i + 1], 1);
      CHECK(answer == "x");  // what was asked in line
      if (i < 2) co_await expect_served(clients[3], false);
    }
  });
  CHECK(served.summary.served == 4);
  CHECK(served.summary.refused == 0);
  CHECK(served.log.empty());
}

TEST_CASE("admission: the line has an end, and the backlog goes on from there",
          "[admission]") {
  ServerOptions options = full_at(1, wait_in_line);
  options.max_waiting = 2;
  Served served(options);
  served.run(echo, [](Served& s) -> Task<> {
    std::deque<Connection> clients;
    for (int i = 0; i < 6; ++i) clients.push_back(co_await connect(s.address));
    co_await expect_served(clients[0]);
    co_await sleep(1s);
    // The server, its client, the two in line, and us.
    CHECK(contains(Loop::current().dump(), "5 jobs"));
    for (std::size_t i = 1; i < 6; ++i) {
      co_await expect_served(clients[i], false);
      clients[i - 1].close();
      const std::string answer = co_await receive(clients[i], 1);
      CHECK(answer == "x");
    }
  });
  CHECK(served.summary.served == 6);
  CHECK(served.summary.refused == 0);
}

TEST_CASE("admission: nobody waits in line for longer than allowed",
          "[admission]") {
  ServerOptions options = full_at(1, wait_in_line);
  options.max_wait = 5s;
  options.refused = say_busy;
  Served served(options);
  std::string peer;
  served.run(echo, [&](Served& s) -> Task<> {
    const Connection first = co_await connect(s.address);
    co_await expect_served(first);
    const Connection second = co_await connect(s.address);
    peer = second.local().text();
    const TimePoint begin = support::now();
    const std::string told = co_await hear_out(second);
    CHECK(told == "503\n");
    CHECK(support::now() - begin == 5s);
    co_await expect_served(first);
  });
  CHECK(served.summary.served == 1);
  CHECK(served.summary.refused == 1);
  CHECK(served.summary.text() == "stopped: 1 served, 0 cut, 1 refused");
  CHECK(served.log == "violet: " + peer + ": no place came free in time\n");
}

TEST_CASE("admission: who has gone meanwhile takes no place", "[admission]") {
  Served served(full_at(1, wait_in_line));
  served.run(echo, [](Served& s) -> Task<> {
    Connection first = co_await connect(s.address);
    co_await expect_served(first);
    Connection resets = co_await connect(s.address);
    co_await settle();
    const Connection third = co_await connect(s.address);
    co_await settle();
    break_off(resets);
    co_await settle();
    first.close();
    co_await expect_served(third);
  });
  CHECK(served.summary.served == 2);
  CHECK(served.summary.refused == 1);
  CHECK(served.log.empty());
}

TEST_CASE("admission: one who is killed in line hands the place on",
          "[admission]") {
  // In the turn in which a place comes free, its first in line is killed.
  Served served(full_at(1, wait_in_line));
  served.run(echo, [](Served& s) -> Task<> {
    const Connection first = co_await connect(s.address);
    co_await expect_served(first);
    const Connection second = co_await connect(s.address);
    const Connection third = co_await connect(s.address);
    co_await settle();
    std::deque<const JobBlock*> clients;
    Loop::current().each_job([&](const JobBlock& job) {
      if (job.marked()) clients.push_back(&job);
    });
    REQUIRE(clients.size() == 3);
    kill_job(const_cast<JobBlock&>(*clients[0]), "served", {});
    kill_job(const_cast<JobBlock&>(*clients[1]), "in line", {});
    co_await expect_served(third);
  });
  CHECK(served.summary.served == 2);
  CHECK(served.summary.refused == 1);
}

TEST_CASE("admission: a stop serves who waits in line, as far as it can",
          "[admission]") {
  Served served(full_at(1, wait_in_line));
  const auto slow = [](Connection conn) -> Task<> {
    const Chunk request = co_await conn.recv();
    co_await sleep(2s);
    co_await conn.sendall(request);
  };
  served.run(slow, [](Served& s) -> Task<> {
    std::deque<Connection> clients;
    for (int i = 0; i < 4; ++i) {
      clients.push_back(co_await connect(s.address));
      co_await clients.back().sendall("x");
    }
    co_await settle();
    Loop::current().stop();
    const TimePoint begin = support::now();
    co_await wait(s.server);
    CHECK(support::now() - begin <= 5s);
    std::string answers;
    for (const Connection& client : clients) {
      const std::string answer = co_await hear_out(client);
      answers += answer.substr(0, 1);
    }
    CHECK(answers.substr(0, 2) == "xx");
  });
  CHECK(served.summary.served == 3);
  CHECK(served.summary.cut == 1);
  CHECK(served.summary.refused == 1);
}

// ------------------------------------------------ a line that fills in a burst

namespace {

/// A server with a short line, and clients that all come at once.
struct Burst {
  Burst(std::size_t places, std::size_t waiting, int clients)
      : most(places), line(waiting), count(clients) {}

  std::string text() const {
    return concat({most, " places, ", line, " in line, ", count, " clients"});
  }

  ServerOptions options() const {
    ServerOptions how = full_at(most, wait_in_line);
    how.max_waiting = line;
    how.log = Log::kErrors;
    return how;
  }

  std::size_t most;
  std::size_t line;
  int count;
};

/// Calls visit(burst) for each that is small.
template <class Visit>
void each_burst(Visit visit) {
  for (std::size_t most = 1; most <= 3; ++most) {
    for (std::size_t line = 0; line <= 4; ++line) {
      for (int count = 1; count <= 8; ++count) visit(Burst(most, line, count));
    }
  }
}

/// What clients may do; those that are served and those that wait alike.
enum class Does { kAsks, kAsksAndStays, kLeaves, kResets, kWaitsAndResets };

Task<> behave(Address address, Does does, Duration pause, int& answered) {
  Connection conn = co_await connect(address);
  if (does == Does::kLeaves) co_return;
  if (does == Does::kWaitsAndResets) co_await sleep(pause);
  if (does == Does::kResets || does == Does::kWaitsAndResets) {
    break_off(conn);
    co_return;
  }
  std::error_code code;
  co_await conn.sendall("x", code);
  char byte = 0;
  const std::size_t got = co_await conn.recv(std::span<char>(&byte, 1), code);
  if (got == 1 && byte == 'x') ++answered;
  if (does == Does::kAsksAndStays) co_await sleep(pause);
}

void require(bool right, const std::string& what) {
  if (!right) throw std::logic_error(what);
}

/// As many as there are places come again, and all of them are served.
Task<> expect_all_places(const Address& address, std::size_t most) {
  std::deque<Connection> clients;
  for (std::size_t i = 0; i < most; ++i) {
    clients.push_back(co_await connect(address));
    const bool served = co_await is_served(clients.back());
    require(served, "a place has got lost");
  }
}

}  // namespace

TEST_CASE("admission: a line that fills in a burst moves on, in order",
          "[admission]") {
  each_burst([](const Burst& burst) {
    CAPTURE(burst.text());
    Served served(burst.options());
    std::vector<std::string> came;
    std::vector<std::string> had_a_place;
    const auto handler = [&](Connection conn) -> Task<> {
      had_a_place.push_back(conn.peer().text());
      co_await echo(std::move(conn));
    };
    served.run(handler, [&](Served& s) -> Task<> {
      const auto client = [&]() -> Task<> {
        const Connection conn = co_await connect(s.address);
        came.push_back(conn.local().text());
        co_await conn.sendall("x");
        const std::string answer = co_await receive(conn, 1);
        CHECK(answer == "x");
        co_await sleep(1ms);
      };
      TaskGroup clients;
      for (int i = 0; i < burst.count; ++i) clients.spawn(client);
      co_await clients.join();
      co_await settle();
    });
    CHECK(had_a_place == came);
    CHECK(served.summary.served == static_cast<std::uint64_t>(burst.count));
    CHECK(served.summary.refused == 0);
  });
}

TEST_CASE("admission: both who is served and who waits leave, and others come",
          "[admission]") {
  Served served(Burst(1, 1, 2).options());
  served.run(echo, [](Served& s) -> Task<> {
    for (int i = 0; i < 3; ++i) {
      {
        const Connection first = co_await connect(s.address);
        const Connection second = co_await connect(s.address);
        co_await expect_served(first);
      }
      co_await sleep(1s);
      co_await expect_all_places(s.address, 1);
    }
  });
  CHECK(served.summary.refused == 0);
}

TEST_CASE("admission: no place is lost, whatever clients do while they wait",
          "[admission]") {
  int run = 0;
  testing::Options options;
  options.network = true;
  testing::for_seeds(
      600,
      [&run]() -> Task<> {
        violet::internal::Random random(static_cast<std::uint64_t>(++run));
        const Burst burst(1 + random.below(3), random.below(4),
                          1 + static_cast<int>(random.below(8)));
        ServerOptions how = burst.options();
        if (random.below(3) == 0) how.max_wait = 5ms;
        Listener listener("10.0.0.1", 80);
        const Address address = listener.address();
        ServerSummary summary;
        const auto body = [&](Listener own) -> Task<> {
          summary = co_await serve(std::move(own), echo, how);
        };
        const Job<> server = spawn(body, std::move(listener));
        int answered = 0;
        int asked = 0;
        {
          TaskGroup clients;
          for (int i = 0; i < burst.count; ++i) {
            const auto does = static_cast<Does>(random.below(5));
            if (does <= Does::kAsksAndStays) ++asked;
            const Duration pause = 1ms * static_cast<int>(random.below(4));
            clients.spawn(behave, address, does, pause, std::ref(answered));
          }
          co_await clients.join();
        }
        co_await sleep(1s);
        co_await expect_all_places(address, burst.most);
        Loop::current().stop();
        co_await wait(server);
        require(how.max_wait != Duration::zero() || answered == asked,
                burst.text() + ": somebody was not answered");
        require(summary.served + summary.refused ==
                    static_cast<std::size_t>(burst.count) + burst.most,
                burst.text() + ": " + summary.text());
      },
      options);
}

TEST_CASE("admission: a short line moves on in every order", "[admission]") {
  testing::Options options;
  options.network = true;
  options.runs = 1000;
  options.partial = true;
  const auto when_full = GENERATE(wait_in_line, turn_away);
  testing::explore(
      [when_full]() -> Task<> {
        ServerOptions how = Burst(1, 1, 3).options();
        how.when_full = when_full;
        Listener listener("10.0.0.1", 80);
        const Address address = listener.address();
        const auto body = [&](Listener own) -> Task<> {
          co_await serve(std::move(own), echo, how);
        };
        const Job<> server = spawn(body, std::move(listener));
        int answered = 0;
        {
          TaskGroup clients;
          for (int i = 0; i < 3; ++i) {
            clients.spawn(behave, address, Does::kAsks, 0ms,
                          std::ref(answered));
          }
          co_await clients.join();
        }
        require(answered == 3 || how.when_full == turn_away, "not all served");
        require(answered > 0, "nobody was served");
        co_await testing::wait_all_blocked();
        co_await expect_all_places(address, 1);
        Loop::current().stop();
        co_await wait(server);
      },
      options);
}

TEST_CASE("admission: a stop in each state counts everyone once",
          "[admission]") {
  // The handlers take 2 ms for each client, so a stop that comes after any
  // number of those finds clients served, in line and in the backlog.
  const auto slow = [](Connection conn) -> Task<> {
    const Chunk request = co_await conn.recv();
    co_await sleep(2ms);
    co_await conn.sendall(request);
  };
  each_burst([&](const Burst& burst) {
    for (const Duration grace : {Duration(5s), Duration(3ms), Duration(0)}) {
      for (int when = -1; when <= 3; ++when) {
        CAPTURE(burst.text(), grace.count(), when);
        ServerOptions how = burst.options();
        how.grace = grace;
        Served served(how);
        int answered = 0;
        int reset = 0;
        served.run(slow, [&](Served& s) -> Task<> {
          const auto client = [&]() -> Task<> {
            std::error_code code;
            const Connection conn = co_await connect(s.address, code);
            co_await conn.sendall("x", code);
            const std::string answer = co_await hear_out(conn);
            ++(answer.starts_with("x") ? answered : reset);
          };
          TaskGroup clients;
          for (int i = 0; i < burst.count; ++i) clients.spawn(client);
          co_await yield_now();
          if (when >= 0) co_await sleep(1ms * when);
          Loop::current().stop();
          co_await wait(s.server);
          co_await clients.join();
        });
        const ServerSummary& summary = served.summary;
        const auto all = static_cast<std::size_t>(burst.count);
        CHECK(answered + reset == burst.count);
        CHECK(summary.served + summary.refused <= all);
        // Who has not asked yet is idle, and ended by the stop.
        const std::size_t done = static_cast<std::size_t>(answered);
        CHECK(done + summary.cut <= summary.served);
        if (when > 0) CHECK(done + summary.cut == summary.served);
        if (grace == 5s) CHECK(summary.served == all);
      }
    }
  });
}

TEST_CASE("admission: a burst may be killed at each of its waits",
          "[admission][kill]") {
  testing::Options options;
  options.network = true;
  options.seeds = 200;
  options.victims = testing::Victims::kOthers;
  const std::size_t line = GENERATE(1u, 2u);
  const testing::KillCounts counts = testing::kill_everywhere(
      [line]() -> Task<> {
        const ServerOptions how = Burst(1, line, 4).options();
        Listener listener("10.0.0.1", 80);
        const Address address = listener.address();
        const auto body = [&](Listener own) -> Task<> {
          co_await serve(std::move(own), echo, how);
        };
        TaskGroup group;
        const Job<> server = group.spawn(body, std::move(listener));
        const auto client = [&]() -> Task<> {
          std::error_code code;
          const Connection conn = co_await connect(address, code);
          if (!code) co_await conn.sendall("x", code);
          if (!code) co_await conn.recv(code);
        };
        {
          TaskGroup clients;
          for (int i = 0; i < 4; ++i) clients.spawn(client);
          co_await clients.join();
        }
        co_await testing::wait_all_blocked();
        // One of two at least, should the other be who is killed.
        bool served = false;
        for (int i = 0; i < 2 && !served; ++i) {
          std::error_code code;
          const Connection last = co_await connect(address, code);
          if (!code) served = co_await is_served(last);
        }
        require(served || server.killed(), "a place has got lost");
        Loop::current().stop();
        co_await group.join();
      },
      options);
  CHECK(counts.kills > 50);
}

// ------------------------------------------------------------------- refusing

TEST_CASE("admission: one too many is refused at once", "[admission]") {
  Served served(full_at(1, turn_away));
  served.run(echo, [](Served& s) -> Task<> {
    Connection first = co_await connect(s.address);
    co_await expect_served(first);
    for (int i = 0; i < 3; ++i) {
      const Connection other = co_await connect(s.address);
      const TimePoint begin = support::now();
      const std::string told = co_await hear_out(other);
      CHECK(told.empty());
      CHECK(support::now() == begin);
    }
    co_await expect_served(first);
    break_off(first);
    co_await settle();
    const Connection next = co_await connect(s.address);
    co_await expect_served(next);
  });
  CHECK(served.summary.served == 2);
  CHECK(served.summary.refused == 3);
  CHECK(served.log.empty());
}

TEST_CASE("admission: who is refused reads why, although it was talking",
          "[admission]") {
  ServerOptions options = full_at(1, turn_away);
  options.refused = say_busy;
  Served served(options);
  served.run(echo, [](Served& s) -> Task<> {
    const Connection first = co_await connect(s.address);
    co_await expect_served(first);
    network().latency(10ms);
    const Connection other = co_await connect(s.address);
    // It sends before, while and after it is told.
    std::error_code code;
    for (int i = 0; i < 5; ++i) {
      co_await other.sendall("GET / HTTP/1.1\r\n", code);
      co_await sleep(5ms);
    }
    other.shutdown(Half::kSending);
    const std::string told = co_await hear_out(other);
    CHECK(told == "503\n");
  });
  CHECK(served.summary.refused == 1);
}

TEST_CASE("admission: who is refused and stays is dropped after a while",
          "[admission]") {
  ServerOptions options = full_at(1, turn_away);
  options.refused = say_busy;
  options.max_waiting = 1;
  Served served(options);
  served.run(echo, [](Served& s) -> Task<> {
    Connection first = co_await connect(s.address);
    co_await expect_served(first);
    const Connection stays = co_await connect(s.address);
    co_await settle();
    // A place that comes free goes to the next, although one more cannot be
    // refused now.
    const Connection next = co_await connect(s.address);
    co_await expect_served(next, false);
    first.close();
    const std::string answer = co_await receive(next, 1);
    CHECK(answer == "x");
    co_await sleep(2s);
    const std::string told = co_await hear_out(stays);
    CHECK(told == "503\n");
    CHECK_FALSE(contains(Loop::current().dump(), "admission.cpp"));
  });
  CHECK(served.summary.served == 2);
  CHECK(served.summary.refused == 1);
}

TEST_CASE("admission: a refused client may reset at any step", "[admission]") {
  ServerOptions options = full_at(1, turn_away);
  options.refused = [](Connection& conn) -> Task<> {
    for (int i = 0; i < 100; ++i) co_await conn.sendall(std::string(5000, 'n'));
  };
  Served served(options);
  served.run(echo, [](Served& s) -> Task<> {
    const Connection first = co_await connect(s.address);
    co_await expect_served(first);
    for (int steps = 0; steps < 20; ++steps) {
      Connection other = co_await connect(s.address);
      for (int i = 0; i < steps; ++i) co_await yield_now();
      break_off(other);
    }
    co_await sleep(2s);
    co_await expect_served(first);
  });
  CHECK(served.summary.served == 1);
  CHECK(served.summary.refused == 20);
  CHECK(served.log.empty());
}

TEST_CASE("admission: who vanishes while it is refused is not logged",
          "[admission]") {
  ServerOptions options = full_at(1, turn_away);
  options.log = GENERATE(Log::kErrors, Log::kNormal, Log::kVerbose);
  options.refused = [](Connection&) -> Task<> { co_await sleep(100ms); };
  Served served(options);
  served.run(echo, [](Served& s) -> Task<> {
    const Connection first = co_await connect(s.address);
    co_await expect_served(first);
    for (int i = 0; i < 3; ++i) {
      Connection other = co_await connect(s.address);
      co_await settle();
      break_off(other);
      co_await sleep(1s);
    }
  });
  CHECK(served.summary.refused == 3);
  const auto lines = std::count(served.log.begin(), served.log.end(), '\n');
  CHECK(lines == (options.log == Log::kVerbose ? 3 : 0));
}

TEST_CASE("admission: a refusal that fails is not called a handler",
          "[admission]") {
  ServerOptions options = full_at(1, turn_away);
  options.refused = [](Connection& conn) -> Task<> {
    co_await conn.sendall("no\n");
    throw std::runtime_error("out of words");
  };
  Served served(options);
  std::string peer;
  served.run(echo, [&](Served& s) -> Task<> {
    const Connection first = co_await connect(s.address);
    co_await expect_served(first);
    const Connection other = co_await connect(s.address);
    peer = other.local().text();
    const std::string told = co_await hear_out(other);
    CHECK(told == "no\n");
  });
  CHECK(served.log.find("violet: " + peer + ": when_full failed") == 0);
  CHECK(contains(served.log, "out of words"));
  CHECK_FALSE(contains(served.log, "handler"));
}

TEST_CASE("admission: a refused crowd does not starve who is served",
          "[admission]") {
  ServerOptions options = full_at(1, turn_away);
  options.refused = say_busy;
  options.max_waiting = 16;
  Served served(options);
  served.run(echo, [](Served& s) -> Task<> {
    const Connection first = co_await connect(s.address);
    co_await expect_served(first);
    int refused = 0;
    bool over = false;
    const auto knock = [&]() -> Task<> {
      while (!over) {
        std::error_code code;
        const Connection other = co_await connect(s.address, code);
        if (code) continue;
        const std::string told = co_await hear_out(other);
        if (contains(told, "503")) ++refused;
      }
    };
    TaskGroup crowd;
    for (int i = 0; i < 200; ++i) crowd.spawn(knock);
    for (int i = 0; i < 50; ++i) {
      co_await first.sendall("x");
      const std::string answer = co_await receive(first, 1);
      CHECK(answer == "x");
    }
    // Fifty answers came while the crowd, of which each has a turn as often
    // as we have, went through the door.
    CHECK(refused > 50);
    CHECK(refused < 50 * 200);
    over = true;
    co_await crowd.join();
  });
  CHECK(served.summary.served == 1);
}

TEST_CASE("admission: a function of one's own may deal with who is too many",
          "[admission]") {
  Served served(full_at(1, [](Visitor& client) -> Task<> {
    // Whoever says the word may wait.
    char byte = 0;
    co_await client.connection().recv(std::span<char>(&byte, 1));
    if (byte != '!') co_return;
    co_await client.place();
    co_await client.serve();
  }));
  served.run(echo, [](Served& s) -> Task<> {
    Connection first = co_await connect(s.address);
    co_await expect_served(first);
    const Connection polite = co_await connect(s.address);
    co_await polite.sendall("!");
    const Connection rude = co_await connect(s.address);
    co_await rude.sendall("?");
    const std::string told = co_await hear_out(rude);
    CHECK(told.empty());
    first.close();
    co_await expect_served(polite);
  });
  CHECK(served.summary.served == 2);
  CHECK(served.summary.refused == 1);
}

TEST_CASE("admission: without a place nobody is served", "[admission]") {
  Served served(
      full_at(1, [](Visitor& client) -> Task<> { co_await client.serve(); }));
  served.run(echo, [](Served& s) -> Task<> {
    const Connection first = co_await connect(s.address);
    co_await expect_served(first);
    const Connection other = co_await connect(s.address);
    const std::string told = co_await hear_out(other);
    CHECK(told.empty());
  });
  CHECK(contains(served.log, "await client.place() first"));
  CHECK(served.summary.served == 1);
}

// ------------------------------------------------------------------- per peer

namespace {

/// A client from another address. The simulated network binds any.
Connection from(const std::string& host, const Address& to) {
  const Address own = Address::parse(host, 0);
  Fd socket(sys::calls->socket(own.family(), SOCK_STREAM, 0));
  sys::calls->bind(socket.get(), own.get(), own.size());
  sys::calls->connect(socket.get(), to.get(), to.size());
  return Connection(std::move(socket));
}

}  // namespace

TEST_CASE("admission: one peer has no more places than allowed",
          "[admission]") {
  PeerLimit two(2);
  ServerOptions options;
  options.per_peer = &two;
  Served served(options);
  served.run(echo, [](Served& s) -> Task<> {
    Connection a1 = from("10.0.0.7", s.address);
    const Connection a2 = from("10.0.0.7", s.address);
    const Connection b1 = from("10.0.0.8", s.address);
    co_await expect_served(a1);
    co_await expect_served(a2);
    co_await expect_served(b1);
    const Connection a3 = from("10.0.0.7", s.address);
    const std::string told = co_await hear_out(a3);
    CHECK(told.empty());
    const Connection b2 = from("10.0.0.8", s.address);
    co_await expect_served(b2);
    break_off(a1);
    co_await settle();
    const Connection a4 = from("10.0.0.7", s.address);
    co_await expect_served(a4);
  });
  CHECK(served.summary.served == 5);
  CHECK(served.summary.refused == 1);
}

TEST_CASE("admission: a peer's places come back from whatever becomes of them",
          "[admission]") {
  PeerLimit one(1);
  ServerOptions options;
  options.per_peer = &one;
  options.max_connections = 1;
  options.when_full = wait_in_line;
  const int how = GENERATE(0, 1, 2, 3, 4);
  std::optional<Connection> kept;
  const auto handler = [&](Connection conn) -> Task<> {
    const Chunk request = co_await conn.recv();
    co_await conn.sendall(request);
    switch (how) {
      case 0: co_return;
      case 1: throw std::runtime_error("failed");
      case 2: kept = std::move(conn); co_return;
      case 3: {
        // Its slot is used again while the handler goes on.
        conn.close();
        const auto pair = connected_pair();
        co_await sleep(1ms);
        co_return;
      }
      default: kill_job(*Loop::current().current_job(), "itself", {});
    }
  };
  Served served(options);
  served.run(handler, [&](Served& s) -> Task<> {
    for (int i = 0; i < 5; ++i) {
      const Connection client = from("10.0.0.7", s.address);
      co_await expect_served(client);
      co_await settle();
      kept.reset();
    }
  });
  CHECK(served.summary.served == 5);
  CHECK(served.summary.refused == 0);
}

TEST_CASE("admission: several servers share a limit per peer", "[admission]") {
  PeerLimit one(1);
  ServerOptions options;
  options.per_peer = &one;
  Served served(options);
  served.run(echo, [&](Served& s) -> Task<> {
    Listener other("10.0.0.2", 80);
    const Address second = other.address();
    const auto body = [&](Listener own) -> Task<> {
      const ServerSummary done =
          co_await serve(std::move(own), echo, s.options);
      CHECK(done.served == 1);
      CHECK(done.refused == 1);
    };
    spawn(body, std::move(other));
    Connection first = from("10.0.0.7", s.address);
    co_await expect_served(first);
    const Connection refused = from("10.0.0.7", second);
    const std::string told = co_await hear_out(refused);
    CHECK(told.empty());
    first.close();
    co_await settle();
    const Connection next = from("10.0.0.7", second);
    co_await expect_served(next);
  });
}

TEST_CASE("admission: an IPv6 peer is counted by its address, too",
          "[admission]") {
  PeerLimit one(1);
  ServerOptions options;
  options.per_peer = &one;
  auto whole = [&]() -> Task<> {
    Listener listener("::1", 80);
    const Address address = listener.address();
    const auto body = [&](Listener own) -> Task<> {
      const ServerSummary done = co_await serve(std::move(own), echo, options);
      CHECK(done.served == 2);
      CHECK(done.refused == 1);
    };
    spawn(body, std::move(listener));
    const Connection first = from("fc00::1", address);
    co_await expect_served(first);
    const Connection other = from("fc00::2", address);
    co_await expect_served(other);
    const Connection again = from("fc00::1", address);
    const std::string told = co_await hear_out(again);
    CHECK(told.empty());
    Loop::current().stop();
  };
  testing::Options in_memory;
  in_memory.network = true;
  testing::play(whole, in_memory);
}

TEST_CASE("admission: clients without an address are not counted",
          "[admission]") {
  PeerLimit one(1);
  ServerOptions options;
  options.per_peer = &one;
  auto whole = [&]() -> Task<> {
    Listener listener(Address::parse("unix:/simulated"));
    const Address address = listener.address();
    const auto body = [&](Listener own) -> Task<> {
      const ServerSummary done = co_await serve(std::move(own), echo, options);
      CHECK(done.served == 2);
    };
    spawn(body, std::move(listener));
    const Connection first = co_await connect(address);
    co_await expect_served(first);
    const Connection second = co_await connect(address);
    co_await expect_served(second);
    Loop::current().stop();
  };
  testing::Options in_memory;
  in_memory.network = true;
  testing::play(whole, in_memory);
}

// ---------------------------------------------------------------------- limits

TEST_CASE("admission: a line behind a shared limit moves on from elsewhere",
          "[admission]") {
  ConnectionLimit limit(1);
  ServerOptions options;
  options.shared_limit = &limit;
  options.when_full = wait_in_line;
  const Footprint before;
  {
    World world;
    auto whole = [&]() -> Task<> {
      const auto body = [&](Listener own) -> Task<> {
        co_await serve(std::move(own), echo, options);
      };
      Listener one("127.0.0.1", 0);
      Listener two("127.0.0.1", 0);
      const Address at_one = one.address();
      const Address at_two = two.address();
      spawn(body, std::move(one));
      spawn(body, std::move(two));
      for (int i = 0; i < 3; ++i) {
        std::deque<Connection> clients;
        for (const Address& at : {at_one, at_two, at_one, at_two}) {
          clients.push_back(co_await connect(at));
          co_await clients.back().sendall("x");
          for (int turn = 0; turn < 20; ++turn) co_await yield_now();
        }
        while (!clients.empty()) {
          // All are served, one after the other, in whatever order.
          std::size_t who = clients.size();
          for (int turn = 0; turn < 1000 && who == clients.size(); ++turn) {
            co_await yield_now();
            for (who = 0; who < clients.size(); ++who) {
              char byte;
              if (::recv(clients[who].fd(), &byte, 1, MSG_DONTWAIT) == 1) break;
            }
          }
          REQUIRE(who < clients.size());
          clients.erase(clients.begin() + static_cast<std::ptrdiff_t>(who));
        }
      }
      Loop::current().stop();
    };
    world.run(whole());
    CHECK_FALSE(world.time.hung);
  }
  CHECK(Footprint() == before);
}

TEST_CASE("admission: short lines behind a shared limit lose no place",
          "[admission]") {
  for (std::size_t most = 1; most <= 2; ++most) {
    for (std::size_t line = 0; line <= 2; ++line) {
      ConnectionLimit limit(most);
      ServerOptions options;
      options.shared_limit = &limit;
      options.when_full = wait_in_line;
      options.max_waiting = line;
      testing::Options in_memory;
      in_memory.network = true;
      const auto whole = [&]() -> Task<> {
        std::size_t served = 0;
        const auto body = [&](Listener own) -> Task<> {
          const ServerSummary summary =
              co_await serve(std::move(own), echo, options);
          served += summary.served;
        };
        TaskGroup servers;
        std::vector<Address> at;
        for (const char* host : {"10.0.0.1", "10.0.0.2"}) {
          Listener listener(host, 80);
          at.push_back(listener.address());
          servers.spawn(body, std::move(listener));
        }
        int answered = 0;
        {
          TaskGroup clients;
          for (std::size_t i = 0; i < 12; ++i) {
            const Does does = i % 3 == 2 ? Does::kResets : Does::kAsks;
            clients.spawn(behave, at[i % 2], does, 0ms, std::ref(answered));
          }
          co_await clients.join();
        }
        CHECK(answered == 8);
        for (const Address& one : at) co_await expect_all_places(one, most);
        Loop::current().stop();
        co_await servers.join();
        CHECK(served >= 8 + 2 * most);
      };
      CAPTURE(most, line);
      testing::play(whole, in_memory);
    }
  }
}

TEST_CASE("admission: without descriptors the line waits, too", "[admission]") {
  // EMFILE while some are in line: those keep their places in it.
  ServerOptions options = full_at(1, wait_in_line);
  Served served(options);
  served.run(echo, [](Served& s) -> Task<> {
    FaultPlan faults;
    std::deque<Connection> clients;
    for (int i = 0; i < 3; ++i) clients.push_back(co_await connect(s.address));
    co_await expect_served(clients[0]);
    faults.fail(Call::kAccept, EMFILE, 1, 25);
    for (int i = 0; i < 2; ++i) clients.push_back(co_await connect(s.address));
    co_await sleep(1s);
    CHECK(faults.failed(Call::kAccept) > 5);
    CHECK(faults.failed(Call::kAccept) < 25);
    for (std::size_t i = 1; i < 5; ++i) {
      co_await clients[i].sendall("x");
      clients[i - 1].close();
      const std::string answer = co_await receive(clients[i], 1);
      CHECK(answer == "x");
    }
  });
  CHECK(served.summary.served == 5);
}

TEST_CASE("admission: a line works with one byte at a time and interruptions",
          "[admission]") {
  ServerOptions options = full_at(2, wait_in_line);
  Served served(options);
  served.run(echo, [](Served& s) -> Task<> {
    FaultPlan faults;
    faults.one_byte().interrupt_every(2).would_block_every(3);
    const auto client = [&]() -> Task<> {
      const Connection conn = co_await connect(s.address);
      const std::string text = random_bytes(500);
      const std::string answer = co_await ask(conn, text);
      CHECK((answer == text));
    };
    TaskGroup clients;
    for (int i = 0; i < 20; ++i) clients.spawn(client);
    co_await clients.join();
  });
  CHECK(served.summary.served == 20);
}

// ------------------------------------------------------------ kill everywhere

TEST_CASE("admission: kill everywhere, with a line and with refusals",
          "[admission][kill]") {
  const WhenFull when_full = GENERATE(wait_in_line, turn_away);
  testing::Options options;
  options.network = true;
  options.seeds = 200;
  struct State {
    PeerLimit per_peer{4};
    int answered = 0;
    ServerSummary summary;
    bool stopped = false;
  };
  const auto body = [when_full](State& state) -> Task<> {
    network().latency(1ms);
    ServerOptions how;
    how.max_connections = 1;
    how.when_full = when_full;
    how.max_waiting = 2;
    how.max_wait = 1s;
    how.refused = say_busy;
    how.per_peer = &state.per_peer;
    how.idle_timeout = 1h;
    how.log = Log::kErrors;
    const auto client = [&](Address address) -> Task<> {
      std::error_code code;
      const Connection conn = co_await connect(address, code);
      if (code) co_return;  // the server was killed
      co_await conn.sendall("hello", code);
      char bytes[5];
      const auto got = co_await conn.recv(bytes, code);
      if (!code && got == 5) ++state.answered;
    };
    const auto serving = [&](std::vector<Listener> listeners) -> Task<> {
      state.summary = co_await serve(std::move(listeners), echo, how);
      state.stopped = true;
    };
    TaskGroup group;
    std::vector<Listener> listeners;
    listeners.emplace_back("10.0.0.1", 80);
    listeners.emplace_back("10.0.0.2", 80);
    const Address addresses[] = {listeners[0].address(),
                                 listeners[1].address()};
    group.spawn(serving, std::move(listeners));
    {
      TaskGroup clients;
      for (int i = 0; i < 4; ++i) clients.spawn(client, addresses[i % 2]);
      co_await clients.join();
    }
    Loop::current().stop();
    co_await group.join();
  };
  const auto check = [](State& state) {
    // Every count has come back: four of one peer may come again.
    if (state.answered > 4) throw std::logic_error("an answer too many");
    if (state.stopped && state.summary.served + state.summary.refused > 4) {
      throw std::logic_error("a client was counted twice");
    }
  };
  const testing::KillCounts counts =
      testing::kill_everywhere<State>(body, check, options);
  CHECK(counts.waits > 20);
}
