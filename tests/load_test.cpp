// load_test.cpp - the load generator, against servers good and bad.
// SPDX-License-Identifier: MIT
#include "catch.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <thread>
#include <vector>

#include "../apps/histogram.hpp"
#include "../net/net.hpp"
#include "../runtime/random.hpp"
#include "program.hpp"
#include "support.hpp"

using namespace programs;
using support::contains;
using violet::internal::Random;

namespace {

using Words = std::vector<std::string>;

/// A finished run of load against a port of this machine.
struct Load : FinishedRun {
  explicit Load(const std::string& target, Words options = {},
                Setup setup = Setup(), const char* kind = "echo")
      : FinishedRun("load", with_target(std::move(options), kind, target),
                    setup) {}

  static Words with_target(Words options, const char* kind,
                           const std::string& target) {
    options.insert(options.begin(), {kind, target});
    return options;
  }

  double value(const std::string& key) const {
    const auto at = out.find('"' + key + "\": ");
    if (at == out.npos) fail("no " + key + " in " + out);
    return std::strtod(out.c_str() + at + key.size() + 4, nullptr);
  }
};

/// The same of an HTTP server, at "HOST:PORT".
struct HttpLoad : Load {
  explicit HttpLoad(const std::string& where, Words options = {},
                    Setup setup = Setup())
      : Load("http://" + where + "/", with_json(std::move(options)), setup,
             "http") {}

  static Words with_json(Words options) {
    options.push_back("--json");
    return options;
  }
};

struct Echo : Program {
  Echo() : Program({build_path("echo"), "--port", "0", "--quiet"}) {
    const std::string first = line();
    target = first.substr(first.rfind(' ') + 1);
  }
  std::string target;
};

/// A server in a process of its own that treats each client with `serve`.
class OddServer {
 public:
  explicit OddServer(std::function<void(int client)> serve)
      : listener_(
            violet::listen_socket(violet::Address::parse("127.0.0.1", 0))),
        target(violet::local_address(listener_.get()).text()),
        process_([this, serve] {
          ::fcntl(listener_.get(), F_SETFL, 0);
          for (;;) {
            const int client = ::accept(listener_.get(), nullptr, nullptr);
            if (client < 0) return 1;
            serve(client);
            ::close(client);
          }
        }) {}

 private:
  violet::Fd listener_;

 public:
  const std::string target;

 private:
  Program process_;
};

/// Sends back what comes, up to `most` bytes.
void echo_some(int client, std::size_t most,
               const std::function<void(std::string&)>& change) {
  char buffer[4096];
  while (most > 0) {
    const ssize_t count =
        ::recv(client, buffer, std::min(most, sizeof buffer), 0);
    if (count <= 0) return;
    std::string data(buffer, static_cast<std::size_t>(count));
    most -= data.size();
    change(data);
    ::send(client, data.data(), data.size(), MSG_NOSIGNAL);
  }
}

/// Answers each request with `reply`.
OddServer answering(std::string reply, int most = 1'000'000) {
  return OddServer([reply = std::move(reply), most](int client) {
    std::string got;
    char buffer[4096];
    for (int left = most; left > 0;) {
      const ssize_t count = ::recv(client, buffer, sizeof buffer, 0);
      if (count <= 0) return;
      got.append(buffer, static_cast<std::size_t>(count));
      for (std::size_t at; (at = got.find("\r\n\r\n")) != got.npos; --left) {
        got.erase(0, at + 4);
        ::send(client, reply.data(), reply.size(), MSG_NOSIGNAL);
      }
    }
  });
}

const std::string kOk = "HTTP/1.1 200 OK\r\n";

}  // namespace

// --------------------------------------------------------------- the histogram

TEST_CASE("histogram: percentiles are right to 1.6 percent", "[load]") {
  Random random(1);
  Histogram histogram;
  std::vector<std::int64_t> all;
  for (int i = 0; i < 10'000; ++i) {
    const auto ns =
        static_cast<std::int64_t>(random.next() >> (20 + random.below(44)));
    all.push_back(ns);
    histogram.add(std::chrono::nanoseconds(ns));
  }
  std::sort(all.begin(), all.end());
  CHECK(histogram.count() == all.size());
  CHECK(histogram.least().count() == all.front());
  CHECK(histogram.most().count() == all.back());
  for (const std::size_t percent : {1u, 10u, 50u, 90u, 99u, 100u}) {
    const auto exact = static_cast<double>(all[all.size() * percent / 100 - 1]);
    const auto told = static_cast<double>(
        histogram.percentile(static_cast<double>(percent)).count());
    CAPTURE(percent, exact, told);
    CHECK(told >= exact);
    CHECK(told <= exact * 1.016 + 1);
  }
}

TEST_CASE("histogram: of none all is 0, and of one all is that one", "[load]") {
  Histogram histogram;
  CHECK(histogram.percentile(50).count() == 0);
  CHECK(histogram.least().count() == 0);
  CHECK(histogram.most().count() == 0);
  histogram.add(std::chrono::nanoseconds(123'456'789));
  for (const double percent : {0.0, 50.0, 99.9, 100.0}) {
    CHECK(histogram.percentile(percent).count() == 123'456'789);
  }
}

TEST_CASE("histogram: the longest time there is has a place", "[load]") {
  Histogram histogram;
  histogram.add(std::chrono::nanoseconds::max());
  histogram.add(std::chrono::nanoseconds(-5));  // a clock that went back
  CHECK(histogram.most() == std::chrono::nanoseconds::max());
  CHECK(histogram.least().count() == 0);
}

// --------------------------------------------------------------- the generator

TEST_CASE("load: every message to a good server is answered", "[load]") {
  const Echo echo;
  for (const Words& options :
       {Words{}, Words{"--connections", "50"}, Words{"--depth=16"},
        Words{"--size", "1", "--depth", "3"},
        Words{"--size", "200KiB", "--depth", "2", "--connections", "3"}}) {
    Words all = options;
    all.insert(all.end(), {"--seconds", "100ms", "--json"});
    const Load load(echo.target, all);
    CAPTURE(load.out, load.err);
    CHECK(load.end.code == 0);
    CHECK(load.err == "");
    CHECK(load.value("messages") >= 1);
    CHECK(load.value("failures") == 0);
    CHECK(load.value("min") <= load.value("p50"));
    CHECK(load.value("p50") <= load.value("p99"));
    CHECK(load.value("p99") <= load.value("p99.9"));
    CHECK(load.value("p99.9") <= load.value("max"));
  }
}

TEST_CASE("load: the report is for people unless told otherwise", "[load]") {
  const Echo echo;
  const Load load(echo.target, {"--seconds", "50ms", "--connections", "2"});
  CHECK(load.end.code == 0);
  CHECK(contains(load.out, "2 connections, 64 bytes a message, 1 under way"));
  CHECK(contains(load.out, "\nlatency    min "));
  CHECK(contains(load.out, "\nfailures   0 of 2 connections\n"));
}

TEST_CASE("load: at a rate no more messages are sent than are due", "[load]") {
  const Echo echo;
  const Load load(echo.target, {"--seconds", "200ms", "--connections", "3",
                                "--rate", "100", "--json"});
  CHECK(load.end.code == 0);
  CHECK(load.value("messages") >= 1);
  CHECK(load.value("messages") <= 20);
}

TEST_CASE("load: a byte that comes back wrong is named", "[load]") {
  const OddServer server([](int client) {
    std::size_t seen = 0;
    echo_some(client, 1 << 20, [&](std::string& data) {
      if (seen <= 1000 && seen + data.size() > 1000) data[1000 - seen] ^= 1;
      seen += data.size();
    });
  });
  const Load load(server.target, {"--seconds", "10s"});
  CHECK(load.end.code == 1);
  CHECK(contains(load.err, "byte 1000 of the answers is "));
  CHECK(contains(load.err, "load: 1 of 1 connections failed"));
}

TEST_CASE("load: answers that end too soon are a failure", "[load]") {
  const OddServer server(
      [](int client) { echo_some(client, 1000, [](std::string&) {}); });
  const Load load(server.target, {"--seconds", "10s"});
  CHECK(load.end.code == 1);
  CHECK(contains(load.err, "load: a connection failed: "));
}

TEST_CASE("load: bytes too many are a failure", "[load]") {
  const OddServer server([](int client) {
    echo_some(client, ~std::size_t{0}, [](std::string&) {});
    ::send(client, "x", 1, MSG_NOSIGNAL);
  });
  const Load load(server.target, {"--seconds", "50ms"});
  CHECK(load.end.code == 1);
  CHECK(contains(load.err, "load: a connection failed: "));
}

TEST_CASE("load: a server that stalls for good does not hold up the end",
          "[load]") {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const violet::Fd heard(ends[0]);
  const violet::Fd hears(ends[1]);
  const OddServer server([&](int client) {
    char byte;
    if (::recv(client, &byte, 1, 0) == 1) (void)::write(hears.get(), &byte, 1);
    ::pause();
  });
  Program load({build_path("load"), "echo", server.target, "--seconds", "10m",
                "--json"});
  pollfd ready{heard.get(), POLLIN, 0};
  REQUIRE(::poll(&ready, 1, 60'000) == 1);
  const End end = load.stop(SIGINT);
  CHECK(end.code == 1);
  CHECK(contains(load.err(), "wait for the last answers"));
  CHECK(contains(load.out(), "\"messages\": 0"));
  const auto at = load.out().find("\"seconds\": ");
  REQUIRE(at != std::string::npos);
  CHECK(std::strtod(load.out().c_str() + at + 11, nullptr) >= 5);
}

TEST_CASE("load: at a rate a stall is charged with all that it held up",
          "[load]") {
  const OddServer server([](int client) {
    std::this_thread::sleep_for(400ms);
    echo_some(client, ~std::size_t{0}, [](std::string&) {});
  });
  const Load load(server.target,
                  {"--seconds", "400ms", "--rate", "1000", "--json"});
  CHECK(load.end.code == 0);
  CHECK(load.value("messages") > 100);
  CHECK(load.value("p50") > 100'000);  // 199 ms if the machine is quick
}

TEST_CASE("load: nobody there is told in one line",
          "[load][libkqueue:so_error]") {
  const Load load("127.0.0.1:1");
  CHECK(load.end.code == 1);
  CHECK(load.err == "load: connect 127.0.0.1:1: Connection refused\n");
}

TEST_CASE("load: what is no target is refused", "[load]") {
  for (const char* target :
       {"localhost", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", ":x"}) {
    const Load load(target);
    CAPTURE(target);
    CHECK(load.end.code == 2);
    CHECK(load.err ==
          std::string("load: '") + target + "' is not HOST:PORT; try --help\n");
  }
  CHECK(Load("example:80").end.code == 2);
  Program bare({build_path("load")});
  CHECK(bare.wait().code == 2);
  CHECK(bare.err() == "load: echo|http is missing; try --help\n");
  Program other({build_path("load"), "ftp", "127.0.0.1:1"});
  CHECK(other.wait().code == 2);
  CHECK(other.err() ==
        "load: 'ftp' is not a kind of load: it is echo or http; try --help\n");
  CHECK(Load("127.0.0.1:1", {"--size", "5TiB"}).end.code == 2);
  CHECK(Load("127.0.0.1:1", {"--seconds", "0"}).end.code == 2);
}

TEST_CASE("load: Ctrl-C ends it early, with a report", "[load]") {
  Echo echo;
  Program load(
      {build_path("load"), "echo", echo.target, "--seconds", "60m", "--json"});
  eventually("a client", [&] { return contains(echo.dump(), "127.0.0.1:"); });
  CHECK(load.stop(SIGINT).code == 0);
  CHECK(contains(load.out(), "\"failures\": 0"));
}

TEST_CASE("load: a report that cannot be written is a failure", "[load]") {
  const Echo echo;
  Setup setup;
  setup.out = Setup::kFull;
  const Load load(echo.target, {"--seconds", "20ms"}, setup);
  CHECK(load.end.code == 1);
  CHECK(load.err == "load: write stdout: No space left on device\n");
  setup.out = Setup::kBrokenPipe;
  CHECK(Load(echo.target, {"--seconds", "20ms"}, setup).end.code == 0);
}

// ------------------------------------------------------------------------ HTTP

TEST_CASE("load: every request to a good HTTP server is answered", "[load]") {
  for (const std::string& reply :
       {kOk + "Content-Length: 5\r\n\r\nhello",
        kOk + "Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n"
              "0\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\n\r\n" + kOk +
            "Content-Length: 5\r\n\r\nhello"}) {
    const OddServer server = answering(reply);
    const HttpLoad load(server.target, {"--requests", "100"});
    CAPTURE(load.out, load.err);
    CHECK(load.end.code == 0);
    CHECK(load.err == "");
    CHECK(load.value("requests") == 100);
    CHECK(load.value("bytes") == static_cast<double>(100 * reply.size()));
    CHECK(load.value("failures") == 0);
    CHECK(load.value("reconnects") == 0);
    CHECK(contains(load.out, "\"statuses\": {\"200\": 100}"));
    CHECK(contains(load.out, "\"body_bytes\": {\"min\": 5, \"max\": 5}"));
    CHECK(load.value("p50") <= load.value("p99"));
  }
}

TEST_CASE("load: statuses other than 200 are counted, and no failures",
          "[load]") {
  const OddServer server =
      answering("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
  const HttpLoad load(server.target, {"--requests", "3"});
  CHECK(load.end.code == 0);
  CHECK(contains(load.out, "\"statuses\": {\"503\": 3}"));
}

TEST_CASE("load: a server that closes is connected to again", "[load]") {
  for (const std::string& reply :
       {kOk + "Connection: close\r\nContent-Length: 2\r\n\r\nab",
        kOk + "\r\nuntil the end"}) {
    const OddServer server = answering(reply, 1);
    const HttpLoad load(server.target, {"--requests", "5"});
    CAPTURE(load.out, load.err);
    CHECK(load.end.code == 0);
    CHECK(load.value("requests") == 5);
    CHECK(load.value("reconnects") == 4);
    CHECK(load.value("failures") == 0);
  }
}

TEST_CASE(
    "load: a reply that is cut, malformed or too long is a failure, and "
    "the rest goes on",
    "[load]") {
  const struct {
    std::string reply;
    const char* said;
  } bad[] = {
      {kOk + "Content-Length: 5\r\n\r\nhell", "the body ends too early"},
      {kOk + "Transfer-Encoding: chunked\r\n\r\n5\r\nhel",
       "the body ends too early"},
      {kOk + "Content-Length: 5\r\n\r\nhello!",
       "1 bytes after the end of a reply"},
      {"hello\r\n", "the first line is not version and status"},
      {"", "the connection ended, no reply"},
  };
  for (const auto& [reply, said] : bad) {
    const OddServer server = answering(reply, 1);
    const HttpLoad load(server.target, {"--requests", "2"});
    CAPTURE(load.out, load.err);
    CHECK(load.end.code == 1);
    CHECK(contains(load.err, std::string("load: a request failed: ")));
    CHECK(contains(load.err, said));
    CHECK(contains(load.err, "load: 2 of 2 requests failed"));
    CHECK(load.value("failures") == 2);
    CHECK(load.value("requests") == 0);
  }
}

TEST_CASE("load: requests are shared by connections, and due at a rate",
          "[load]") {
  // One client at a time, as OddServer is, would never see a second.
  Program server({build_path("web"), "--port", "0", "--quiet"});
  const std::string first = server.line();
  const std::string where = first.substr(first.rfind(' ') + 1);
  const HttpLoad all(where, {"--connections", "7", "--requests", "100"});
  CAPTURE(all.out, all.err);
  CHECK(all.end.code == 0);
  CHECK(all.value("requests") == 100);
  const HttpLoad paced(
      where, {"--connections", "3", "--rate", "100", "--seconds", "200ms"});
  CHECK(paced.end.code == 0);
  CHECK(paced.value("requests") >= 1);
  CHECK(paced.value("requests") <= 20);
  const Load told("http://" + where + "/", {"--requests", "5"}, Setup(),
                  "http");
  CHECK(contains(told.out, "1 connections, GET http://" + where + "/, "));
  CHECK(contains(told.out, "\nstatuses   5 of 200\n"));
  CHECK(contains(told.out, " bytes each\n"));
  CHECK(contains(told.out, "\nfailures   0 requests, 0 connections made"));
}

TEST_CASE(
    "load: at a rate a stalled reply is charged with all that it held "
    "up",
    "[load]") {
  const OddServer server([](int client) {
    std::this_thread::sleep_for(400ms);
    const std::string reply = kOk + "Content-Length: 0\r\n\r\n";
    char buffer[4096];
    while (::recv(client, buffer, sizeof buffer, 0) > 0) {
      ::send(client, reply.data(), reply.size(), MSG_NOSIGNAL);
    }
  });
  const HttpLoad load(server.target, {"--requests", "400", "--rate", "1000"});
  CHECK(load.end.code == 0);
  CHECK(load.value("requests") == 400);
  CHECK(load.value("p50") > 100'000);  // 200 ms if the machine is quick
}

TEST_CASE("load: what is no URL is refused, and nobody there is told",
          "[load][libkqueue:so_error]") {
  const Load bad("127.0.0.1:80", {}, Setup(), "http");
  CHECK(bad.end.code == 2);
  CHECK(bad.err ==
        "load: '127.0.0.1:80' is not a URL that begins with "
        "http://; try --help\n");
  CHECK(Load("https://a/", {}, Setup(), "http").end.code == 2);
  const HttpLoad none("127.0.0.1:1");
  CHECK(none.end.code == 1);
  CHECK(none.err == "load: connect 127.0.0.1:1: Connection refused\n");
}
