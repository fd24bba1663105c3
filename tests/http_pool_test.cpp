// http_pool_test.cpp - connections that are lent, kept and closed.
// SPDX-License-Identifier: MIT
#include "../net/http/pool.hpp"

#include <poll.h>

#include <string>
#include <vector>

#include "catch.hpp"
#include "http_scripted.hpp"

using namespace scripted;
using http::Loan;
using http::Pool;
using http::PoolOptions;
using http::Url;

namespace {

/// Says nothing, and hears nothing.
Task<> hold(Peer&) {
  co_await forever();
}

/// Counts connections that clients have closed.
struct Closings {
  Task<> operator()(Peer& peer) {
    co_await peer.stream.skip(Stream::kNoLimit);
    ++count;
  }
  int count = 0;
};

}  // namespace

TEST_CASE("http pool: what is kept is lent again, the latest first",
          "[http][pool]") {
  play_everywhere([]() -> Task<> {
    Server server(hold);
    Pool pool{PoolOptions()};
    const Url url = Url::parse(server.url());
    Loan first = co_await pool.lend(url);
    Loan second = co_await pool.lend(url);
    CHECK_FALSE(first.used_before());
    const int second_fd = second.stream().fd();
    first.keep();
    second.keep();
    CHECK_FALSE(first.stream());
    CHECK(pool.idle() == 2);
    const Loan again = co_await pool.lend(url);
    CHECK(again.used_before());
    CHECK(again.stream().fd() == second_fd);
    CHECK(pool.idle() == 1);
    CHECK(pool.made() == 2);
  });
}

TEST_CASE("http pool: what is not kept is closed", "[http][pool]") {
  play_everywhere([]() -> Task<> {
    Closings closings;
    Server server(std::ref(closings));
    Pool pool{PoolOptions()};
    {
      const Loan loan = co_await pool.lend(Url::parse(server.url()));
    }
    co_await settle();
    CHECK(closings.count == 1);
    CHECK(pool.idle() == 0);
  });
}

TEST_CASE(
    "http pool: there are so many to each server, and others wait in "
    "order",
    "[http][pool]") {
  play_everywhere([]() -> Task<> {
    Server server(hold);
    Server other(hold);
    PoolOptions options;
    options.max_per_host = 2;
    Pool pool(options);
    const Url url = Url::parse(server.url());
    std::vector<Loan> loans;
    loans.push_back(co_await pool.lend(url));
    loans.push_back(co_await pool.lend(url));
    std::string order;
    const auto borrow_one = [&](char name) -> Task<> {
      Loan loan = co_await pool.lend(url);
      order += name;
      order += loan.used_before() ? "again " : "new ";
      loan.keep();
    };
    TaskGroup group;
    for (const char name : {'a', 'b', 'c'}) group.spawn(borrow_one, name);
    co_await settle();
    CHECK(order == "");
    {
      const Loan elsewhere = co_await pool.lend(Url::parse(other.url()));
    }
    loans.pop_back();  // closed: a new one is made in its place
    co_await group.join();
    CHECK(order == "anew bagain cagain ");
    CHECK(pool.made() == 4);
  });
}

TEST_CASE("http pool: who is killed in line leaves the place to the next",
          "[http][pool]") {
  play_simulated([]() -> Task<> {
    Server server(hold);
    PoolOptions options;
    options.max_per_host = 1;
    Pool pool(options);
    const Url url = Url::parse(server.url());
    Loan loan = co_await pool.lend(url);
    int lent = 0;
    const auto borrow_one = [&]() -> Task<> {
      const Loan mine = co_await pool.lend(url);
      ++lent;
    };
    TaskGroup group;
    const Job<> first = group.spawn(borrow_one);
    group.spawn(borrow_one);
    co_await settle();
    loan.keep();
    first.kill();  // it has been granted the place just now
    co_await group.join();
    CHECK(lent == 1);
  });
}

TEST_CASE(
    "http pool: an idle connection goes after a while, or with its "
    "server",
    "[http][pool]") {
  const Duration took = play_simulated([]() -> Task<> {
    Closings closings;
    Server server(std::ref(closings));
    PoolOptions options;
    options.idle_time = 20s;
    Pool pool(options);
    Loan loan = co_await pool.lend(Url::parse(server.url()));
    loan.keep();
    co_await violet::sleep(19s);
    CHECK(pool.idle() == 1);
    co_await violet::sleep(2s);
    CHECK(pool.idle() == 0);
    co_await settle();
    CHECK(closings.count == 1);
  });
  CHECK(took < 22s);
  for (const char* last_words : {"", "HTTP/1.1 408 Too slow\r\n\r\n"}) {
    for (const bool stays : {false, true}) {
      if (stays && *last_words == '\0') continue;
      play_everywhere([&]() -> Task<> {
        Flag end;
        Server server([&](Peer& peer) -> Task<> {
          co_await end.wait();
          co_await peer.say(last_words);
          if (stays) co_await forever();
        });
        Pool pool{PoolOptions()};
        Loan loan = co_await pool.lend(Url::parse(server.url()));
        loan.keep();
        co_await settle();
        CHECK(pool.idle() == 1);
        end.set();
        co_await settle();
        CHECK(pool.idle() == 0);
      });
    }
  }
}

TEST_CASE(
    "http pool: what a server has ended is not lent, even if nobody has "
    "noticed yet",
    "[http][pool]") {
  testing::play([]() -> Task<> {
    Listener listener("127.0.0.1", 0);
    Pool pool{PoolOptions()};
    const Url url = Url::parse(concat({"http://", listener.address().text()}));
    Loan loan = co_await pool.lend(url);
    Connection server = co_await listener.accept();
    const int fd = loan.stream().fd();
    loan.keep();
    server.close();
    pollfd until_then{fd, POLLIN, 0};
    ::poll(&until_then, 1, -1);
    const Loan next = co_await pool.lend(url);
    CHECK_FALSE(next.used_before());
    CHECK(pool.made() == 2);
  });
}

TEST_CASE("http pool: only so many are kept, the latest", "[http][pool]") {
  play_simulated([]() -> Task<> {
    Server server(hold);
    PoolOptions options;
    options.max_idle = 2;
    Pool pool(options);
    const Url url = Url::parse(server.url());
    std::vector<Loan> loans;
    for (int i = 0; i < 3; ++i) loans.push_back(co_await pool.lend(url));
    const int first = loans[0].stream().fd();
    for (Loan& loan : loans) loan.keep();
    CHECK(pool.idle() == 2);
    for (int i = 0; i < 2; ++i) {
      loans[0] = co_await pool.lend(url);
      CHECK(loans[0].used_before());
      CHECK(loans[0].stream().fd() != first);
    }
  });
}

TEST_CASE("http pool: with no time to be idle, nothing is kept",
          "[http][pool]") {
  for (const bool by_time : {false, true}) {
    play_simulated([&]() -> Task<> {
      Server server(hold);
      PoolOptions options;
      if (by_time) {
        options.idle_time = 0s;
      } else {
        options.max_idle = 0;
      }
      Pool pool(options);
      Loan loan = co_await pool.lend(Url::parse(server.url()));
      loan.keep();
      CHECK_FALSE(loan.stream());
      CHECK(pool.idle() == 0);
    });
  }
}
