// http_client_test.cpp - requests to servers that do as they like.
// SPDX-License-Identifier: MIT
#include "../net/http/client.hpp"

#include <algorithm>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "catch.hpp"
#include "http_scripted.hpp"

using namespace scripted;
using namespace std::string_view_literals;

namespace {

/// A server that says `reply` to the first request of each connection, and a
/// client that reads it. Returns: what it reads, or the error behind the URL.
std::string read_reply(std::string reply, std::string method = "GET") {
  std::string seen;
  play_everywhere([&]() -> Task<> {
    Server server([&](Peer& peer) -> Task<> {
      co_await peer.request();
      co_await peer.say(reply);
    });
    Client client;
    http::Request request(method, server.url());
    std::string text = co_await outcome(send(client, std::move(request)));
    const std::string name = concat({method, " ", server.url(), ": "});
    if (text.starts_with(name)) text.erase(0, name.size());
    const auto at = text.find(server.address().text());
    if (at != text.npos) text.replace(at, server.address().text().size(), "S");
    require(seen.empty() || seen == text, seen + " is not " + text);
    seen = text;
  });
  return seen;
}

/// What arrives of a request: head and body.
template <class Make>
std::string arriving(Make make) {
  std::string seen;
  play_everywhere([&]() -> Task<> {
    std::string arrived;
    Server server([&](Peer& peer) -> Task<> {
      arrived = co_await peer.request();
      co_await peer.answer("");
    });
    Client client;
    Response reply = co_await make(client, server);
    require(reply.status() == 200 && reply.done(), "no answer");
    const std::string where = server.address().text();
    arrived.replace(arrived.find(where), where.size(), "S");
    require(seen.empty() || seen == arrived, seen + " is not " + arrived);
    seen = arrived;
  });
  return seen;
}

/// Writes a body of eleven bytes in two steps.
constexpr auto kWritesHello = [](http::BodyWriter& out) -> Task<> {
  co_await out.write("hello ");
  co_await violet::sleep(1ms);
  co_await out.write("world");
};

/// Counts those who live.
class Counted {
 public:
  explicit Counted(int& live) noexcept : live_(live) { ++live_; }
  Counted(const Counted&) = delete;
  ~Counted() { --live_; }

 private:
  int& live_;
};

/// A file with some bytes in it, which is gone at the end.
class TemporaryFile {
 public:
  explicit TemporaryFile(std::string_view bytes) {
    const int fd = ::mkstemp(path_);
    REQUIRE(fd >= 0);
    REQUIRE(::write(fd, bytes.data(), bytes.size()) ==
            static_cast<ssize_t>(bytes.size()));
    ::close(fd);
  }
  TemporaryFile(const TemporaryFile&) = delete;
  ~TemporaryFile() { ::unlink(path_); }
  std::string path() const { return path_; }

 private:
  char path_[32] = "/tmp/violet_test_XXXXXX";
};

}  // namespace

// -------------------------------------------------------------------- replies

TEST_CASE("http client: a reply has a status, fields and a body",
          "[http][client]") {
  play_everywhere([]() -> Task<> {
    Server server([](Peer& peer) -> Task<> {
      co_await peer.request();
      co_await peer.say(
          "HTTP/1.1 404 Not here\r\nContent-Length: 5\r\nX-A: b\r\n\r\nsorry");
    });
    Client client;
    Response reply = co_await client.get(server.url("/a?b"));
    CHECK(reply.status() == 404);
    CHECK_FALSE(reply.ok());
    CHECK(reply.head().reason == "Not here");
    CHECK(reply.fields().find("x-a") == "b");
    CHECK(reply.length() == 5);
    CHECK(reply.url().target() == "/a?b");
    const std::string body = co_await reply.read_all(5);
    CHECK(body == "sorry");
    CHECK(reply.done());
    CHECK(reply.count() == 5);
    const auto more = co_await reply.read();
    CHECK(more.empty());
    CHECK(reply.fields().find("X-A") == "b");  // still
  });
}

TEST_CASE("http client: bodies of every framing", "[http][client]") {
  CHECK(read_reply("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab") ==
        "200 ab");
  CHECK(read_reply("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                   "1\r\na\r\n2;x=y\r\nbc\r\n0\r\nX: y\r\n\r\n") == "200 abc");
  CHECK(read_reply("HTTP/1.1 200 OK\r\n\r\nuntil the end") ==
        "200 until the end");
  CHECK(read_reply("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na") == "200 a");
  CHECK(read_reply("HTTP/1.1 204 No Content\r\n\r\n") == "204 ");
  CHECK(read_reply("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n") ==
        "304 ");
  CHECK(read_reply("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "HEAD") ==
        "200 ");
  CHECK(read_reply("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") == "200 ");
}

TEST_CASE("http client: replies before the last one are skipped",
          "[http][client]") {
  CHECK(read_reply("HTTP/1.1 100 Continue\r\n\r\n"
                   "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
                   "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab") ==
        "200 ab");
  CHECK(read_reply("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n") ==
        "status 101: the server speaks no HTTP any more");
}

TEST_CASE("http client: what ends too early, or is no reply, is an error",
          "[http][client]") {
  CHECK(read_reply("") == "read_head: the connection ended without a reply");
  CHECK(read_reply("HTTP/1.1 100 Continue\r\n\r\n") ==
        "read_head: the connection ended without a reply");
  CHECK(read_reply("HTTP/1.1 200") == "read_head S: the body ends too early");
  CHECK(read_reply("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab") ==
        "read body S: the body ends too early");
  CHECK(read_reply("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                   "2\r\nab\r\n") == "read body S: the body ends too early");
  CHECK(read_reply("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                   "x\r\n") ==
        "read body S: the size of a chunk is not a number");
  CHECK(read_reply("SSH-2.0-x\r\n") ==
        "read_head S: the first line is not version and status");
  CHECK(read_reply("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n"
                   "Transfer-Encoding: chunked\r\n\r\n") ==
        "read_head S: both Content-Length and Transfer-Encoding are given");
}

TEST_CASE("http client: a cut reply tells its fault as a code",
          "[http][client]") {
  play_simulated([]() -> Task<> {
    Server server([](Peer& peer) -> Task<> {
      co_await peer.request();
      co_await peer.say("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab");
    });
    Client client;
    Response reply = co_await client.get(server.url());
    std::error_code code;
    try {
      co_await reply.read_all(100);
    } catch (const std::system_error& e) {
      code = e.code();
    }
    CHECK(code == http::make_error_code(http::Fault::kCutShort));
  });
}

TEST_CASE("http client: trailers are there after the body", "[http][client]") {
  play_everywhere([]() -> Task<> {
    Server server([](Peer& peer) -> Task<> {
      co_await peer.request();
      co_await peer.say(
          "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
          "3\r\nabc\r\n0\r\nDigest: x\r\n\r\n");
      co_await forever();
    });
    Client client;
    Response reply = co_await client.get(server.url());
    CHECK_FALSE(reply.length().has_value());
    const std::string body = co_await reply.read_all(100);
    CHECK(body == "abc");
    CHECK(reply.trailers().find("digest") == "x");
    CHECK(client.pool().idle() == 1);
  });
}

TEST_CASE("http client: a body is read into memory of the caller's",
          "[http][client]") {
  play_everywhere([]() -> Task<> {
    Server server(answer_all);
    Client client;
    Response reply = co_await client.get(server.url("/abcdefg"));
    std::string text;
    char room[3];
    for (;;) {
      const std::size_t count = co_await reply.read(std::span<char>(room));
      if (count == 0) break;
      text.append(room, count);
    }
    CHECK(text == "/abcdefg");
    CHECK(reply.done());
    CHECK(client.pool().idle() == 1);
  });
}

TEST_CASE("http client: read_all() has a limit of its own", "[http][client]") {
  for (const bool chunked : {false, true}) {
    play_simulated([&]() -> Task<> {
      Server server([&](Peer& peer) -> Task<> {
        co_await peer.request();
        co_await peer.say(chunked ? "HTTP/1.1 200 OK\r\n"
                                    "Transfer-Encoding: chunked\r\n\r\n"
                                    "4\r\nabcd\r\n0\r\n\r\n"
                                  : "HTTP/1.1 200 OK\r\n"
                                    "Content-Length: 4\r\n\r\nabcd");
      });
      Client client;
      Response reply = co_await client.get(server.url());
      bool refused = false;
      try {
        co_await reply.read_all(3);
      } catch (const LimitExceeded& e) {
        refused = true;
        CHECK(e.limit() == 3);
        CHECK(contains(e.what(), "GET http://127.0.0.1:"));
      }
      CHECK(refused);
    });
  }
}

// ------------------------------------------------------------------- requests

TEST_CASE("http client: a request says what it was told, and no more",
          "[http][client]") {
  CHECK(arriving([](Client& client, Server& server) -> Task<Response> {
          http::Request request("GET", server.url("/a?b"));
          request.field("Accept", "*/*").field("X", "");
          co_return co_await client.send(std::move(request));
        }) == "GET /a?b HTTP/1.1\r\nHost: S\r\nAccept: */*\r\nX: \r\n\r\n");
  CHECK(arriving([](Client& client, Server& server) -> Task<Response> {
          http::Request request("DELETE", server.url());
          co_return co_await client.send(std::move(request));
        }) == "DELETE / HTTP/1.1\r\nHost: S\r\n\r\n");
  CHECK(arriving([](Client& client, Server& server) -> Task<Response> {
          http::Request request("PUT", server.url());
          co_return co_await client.send(std::move(request));
        }) == "PUT / HTTP/1.1\r\nHost: S\r\nContent-Length: 0\r\n\r\n");
  CHECK(arriving([](Client& client, Server& server) {
          return client.post(server.url(), "text/plain", "hello");
        }) ==
        "POST / HTTP/1.1\r\nHost: S\r\nContent-Type: text/plain\r\n"
        "Content-Length: 5\r\n\r\nhello");
}

TEST_CASE("http client: a body comes from a text of any size",
          "[http][client]") {
  for (const std::size_t size : {0u, 1u, 16384u, 16385u, 200'000u}) {
    const std::string body(size, 'x');
    CHECK(arriving([&](Client& client, Server& server) {
            return client.put(server.url(), body);
          }) == concat({"PUT / HTTP/1.1\r\nHost: S\r\nContent-Length: ", size,
                        "\r\n\r\n", body}));
  }
}

TEST_CASE("http client: a body comes from a part of a file", "[http][client]") {
  const std::string bytes = random_bytes(100'000);
  const TemporaryFile file(bytes);
  CHECK(arriving([&](Client& client, Server& server) -> Task<Response> {
          const File open = co_await open_file(file.path());
          http::Request request("PUT", server.url());
          request.body(open, 7, 90'000);
          co_return co_await client.send(std::move(request));
        }) == concat({"PUT / HTTP/1.1\r\nHost: S\r\nContent-Length: 90000"
                      "\r\n\r\n",
                      bytes.substr(7, 90'000)}));
}

TEST_CASE("http client: a file that is too short for its body is an error",
          "[http][client]") {
  const TemporaryFile file("hello");
  play_everywhere([&]() -> Task<> {
    Server server([](Peer& peer) -> Task<> { co_await peer.request(); });
    Client client;
    const File open = co_await open_file(file.path());
    http::Request request("PUT", server.url());
    request.body(open, 1, 5);
    const std::string said = co_await outcome(send(client, std::move(request)));
    CHECK(said == concat({"PUT ", server.url(),
                          ": send a file that ended after 4 of 5 bytes: ",
                          support::text_of_error(EIO)}));
  });
}

TEST_CASE("http client: a body comes from a function, in chunks or counted",
          "[http][client]") {
  CHECK(arriving([&](Client& client, Server& server) -> Task<Response> {
          http::Request request("PUT", server.url());
          request.body(kWritesHello);
          co_return co_await client.send(std::move(request));
        }) ==
        "PUT / HTTP/1.1\r\nHost: S\r\nTransfer-Encoding: chunked\r\n\r\n"
        "hello world");
  CHECK(arriving([&](Client& client, Server& server) -> Task<Response> {
          http::Request request("PUT", server.url());
          request.body(kWritesHello, 11);
          co_return co_await client.send(std::move(request));
        }) ==
        "PUT / HTTP/1.1\r\nHost: S\r\nContent-Length: 11\r\n\r\n"
        "hello world");
}

TEST_CASE("http client: what a function throws ends its request",
          "[http][client]") {
  play_simulated([]() -> Task<> {
    Server server(answer_all);
    Client client;
    const auto throws = [](http::BodyWriter& out) -> Task<> {
      co_await out.write("hello");
      throw std::logic_error("on purpose");
    };
    http::Request request("PUT", server.url());
    request.body(throws);
    std::string said = co_await outcome(send(client, std::move(request)));
    CHECK(said == "on purpose");
    const auto short_of = [](http::BodyWriter& out) -> Task<> {
      co_await out.write("hello");
    };
    http::Request counted("PUT", server.url());
    counted.body(short_of, 6);
    said = co_await outcome(send(client, std::move(counted)));
    CHECK(contains(said, "6 bytes was begun"));
    CHECK(client.pool().idle() == 0);
  });
}

TEST_CASE("http client: a body is held back until it is asked for",
          "[http][client]") {
  play_everywhere([]() -> Task<> {
    std::string order;
    Server server([&](Peer& peer) -> Task<> {
      const std::string head = co_await peer.head();
      require(contains(head, "Expect: 100-continue\r\n"), "no Expect");
      co_await violet::sleep(1ms);
      order += peer.stream.buffered().empty() ? "held " : "sent ";
      co_await peer.say("HTTP/1.1 100 Continue\r\n\r\n");
      const auto body = co_await peer.stream.read_exactly(5);
      order += body.view();
      co_await peer.answer("");
      co_await forever();
    });
    Client client;
    const TimePoint begun = Loop::current().now();
    http::Request request("PUT", server.url());
    request.body("hello").expect_continue(50s);
    const std::string said = co_await outcome(send(client, std::move(request)));
    CHECK(said == "200 ");
    CHECK(order == "held hello");
    CHECK(Loop::current().now() - begun < 50s);
    CHECK(client.pool().idle() == 1);
  });
}

TEST_CASE(
    "http client: a body that nobody asks for is sent after a while, and "
    "never if it is refused",
    "[http][client]") {
  const Duration took = play_simulated([]() -> Task<> {
    Server server(answer_all);  // knows nothing of Expect
    Client client;
    http::Request request("PUT", server.url("/a"));
    request.body("hello").expect_continue(2s);
    const std::string said = co_await outcome(send(client, std::move(request)));
    CHECK(said == "200 /a 5");
  });
  CHECK(took >= 2s);
  CHECK(took < 3s);
  play_everywhere([]() -> Task<> {
    std::string rest = "nothing was read";
    Server server([&](Peer& peer) -> Task<> {
      co_await peer.head();
      co_await peer.say("HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n");
      const auto all = co_await peer.stream.read_all(100);
      rest = all.view();
    });
    Client client;
    http::Request request("PUT", server.url());
    request.body("hello").expect_continue(60s);
    const std::string said = co_await outcome(send(client, std::move(request)));
    CHECK(said == "403 ");
    CHECK(client.pool().idle() == 0);
    co_await settle();
    CHECK(rest == "");
  });
}

TEST_CASE("http client: a refusal is read while the body is still sent",
          "[http][client]") {
  const std::string body(10'000'000, 'x');
  for (const bool reads_on : {false, true}) {
    const auto scenario = [&]() -> Task<> {
      Server server([&](Peer& peer) -> Task<> {
        co_await peer.head();
        co_await peer.say(
            "HTTP/1.1 413 Too large\r\nContent-Length: 2\r\n"
            "Connection: close\r\n\r\nno");
        if (reads_on) {
          co_await take_leave(peer.stream.connection());
        } else {
          co_await forever();
        }
      });
      Client client;
      Response reply = co_await client.put(server.url(), body);
      CHECK(reply.status() == 413);
      const std::string said = co_await reply.read_all(10);
      CHECK(said == "no");
      CHECK(client.pool().idle() == 0);
    };
    testing::play(scenario);
    play_simulated(scenario);
  }
}

namespace {

constexpr http::Framing kChunks{http::BodyKind::kChunked, 0};

/// Agrees to a request before its body has come, and sends that back.
Task<> send_back(Peer& peer) {
  for (;;) {
    const std::string head = co_await peer.head();
    if (head.empty()) co_return;
    if (head.starts_with("GET ")) {
      co_await peer.answer("/b");
      continue;
    }
    std::string first = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    if (contains(head, "Expect")) first = "HTTP/1.1 100 Go\r\n\r\n" + first;
    co_await peer.say(first);
    http::BodyReader body(peer.stream, kChunks);
    http::BodyWriter back(peer.stream, kChunks);
    for (;;) {
      const std::string_view piece = co_await body.read();
      if (piece.empty()) break;
      co_await back.write(piece);
      co_await peer.stream.flush();
    }
    co_await back.finish();
    co_await peer.stream.flush();
  }
}

/// Writes so many lines.
auto lines(int count) {
  return [count](http::BodyWriter& out) -> Task<> {
    for (int i = 0; i < count; ++i) co_await out.write("another line\n");
  };
}

}  // namespace

TEST_CASE("http client: a success that comes early does not cut the body",
          "[http][client]") {
  for (const int count : {0, 100, 300'000}) {
    for (const bool expects : {false, true}) {
      CAPTURE(count, expects);
      const auto scenario = [&]() -> Task<> {
        Server server(send_back);
        Client client;
        const auto writes = lines(count);
        http::Request request("POST", server.url());
        request.body(writes);
        if (expects) request.expect_continue(60s);
        Response reply = co_await client.send(std::move(request));
        const std::string said = co_await reply.read_all(10'000'000);
        CHECK(said.size() == 13u * static_cast<std::size_t>(count));
        CHECK(client.pool().idle() == 1);
      };
      testing::play(scenario);
      play_simulated(scenario);
    }
  }
}

TEST_CASE("http client: a reply ends when its request is out, too",
          "[http][client]") {
  const std::string body(10'000'000, 'x');
  for (const char* said : {"", "ok"}) {
    const auto scenario = [&]() -> Task<> {
      std::size_t arrived = 0;
      Server server([&](Peer& peer) -> Task<> {
        co_await peer.head();
        co_await peer.answer(said);
        while (arrived < body.size()) {
          const auto piece = co_await peer.stream.read_exactly(100'000);
          arrived += piece.view().size();
        }
        co_await forever();
      });
      Client client;
      Response reply = co_await client.put(server.url(), body);
      const std::string text = co_await reply.read_all(10);
      CHECK(text == said);
      co_await settle();
      CHECK(arrived == body.size());
      CHECK(client.pool().idle() == 1);
    };
    testing::play(scenario);
    play_simulated(scenario);
  }
}

TEST_CASE("http client: a body that still goes out ends with its reply",
          "[http][client]") {
  play_everywhere([]() -> Task<> {
    Server server(send_back);
    Client client;
    const auto writes = [](http::BodyWriter& out) -> Task<> {
      for (;;) {
        co_await out.write(std::string(10'000, 'x'));
        co_await violet::sleep(1ms);
      }
    };
    const auto throws = [](http::BodyWriter& out) -> Task<> {
      co_await out.write("hello");
      co_await violet::sleep(1s);
      throw std::logic_error("on purpose");
    };
    {
      http::Request request("POST", server.url());
      request.body(writes);
      Response dropped = co_await client.send(std::move(request));
      const std::string_view piece = co_await dropped.read();
      CHECK(piece.starts_with("x"));
    }
    CHECK(client.pool().idle() == 0);
    http::Request request("POST", server.url());
    request.body(throws);
    const std::string said = co_await outcome(send(client, std::move(request)));
    CHECK(said == "on purpose");
  });
}

TEST_CASE(
    "http client: what fails the body is told after an early success, too",
    "[http][client]") {
  for (const char* said : {"", "ok"}) {
    play_everywhere([&]() -> Task<> {
      Server server([&](Peer& peer) -> Task<> {
        co_await peer.head();
        co_await peer.answer(said);
        co_await forever();
      });
      Client client;
      const auto fails = [](http::BodyWriter& out) -> Task<> {
        co_await out.write("hello");
        co_await violet::sleep(1ms);
        throw_system(EIO, "read the disk");
      };
      http::Request request("POST", server.url());
      request.body(fails);
      const std::string told =
          co_await outcome(send(client, std::move(request)));
      CHECK(told == concat({"POST ", server.url(),
                            ": read the disk: ", support::text_of_error(EIO)}));
      CHECK(client.pool().idle() == 0);
    });
  }
}

TEST_CASE("http client: what is read before the body fails is not taken back",
          "[http][client]") {
  play_everywhere([]() -> Task<> {
    Server server([](Peer& peer) -> Task<> {
      co_await peer.head();
      co_await peer.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
      (void)co_await peer.stream.read_all(100);
      co_await peer.say("ok");
    });
    Client client;
    const auto fails = [](http::BodyWriter& out) -> Task<> {
      co_await out.write("hello");
      co_await violet::sleep(1ms);
      throw std::logic_error("on purpose");
    };
    http::Request request("POST", server.url());
    request.body(fails);
    Response reply = co_await client.send(std::move(request));
    std::string text;
    const auto reads = [&]() -> Task<std::string> {
      char room[10];
      const std::size_t count = co_await reply.read(std::span<char>(room));
      co_return std::string(room, count);
    };
    while (text.size() < 2) text += co_await outcome(reads());
    CHECK(text == "ok");
    text = co_await outcome(reads());
    CHECK(text == "on purpose");
  });
}

TEST_CASE("http client: a server that agrees and does not read is told of",
          "[http][client]") {
  play_simulated([]() -> Task<> {
    Server server([](Peer& peer) -> Task<> {
      co_await peer.head();
      co_await peer.answer("ok");
      co_await forever();
    });
    ClientOptions options;
    options.stall_time = 2s;
    Client client(options);
    http::Request request("PUT", server.url());
    request.body(std::string(50'000'000, 'x'));
    const std::string said = co_await outcome(send(client, std::move(request)));
    CHECK(contains(said, "send body within 2"));
  });
}

TEST_CASE("http client: a shielded write that nobody reads has a limit, too",
          "[http][client]") {
  for (const bool agrees : {false, true}) {
    const Duration took = play_simulated([&]() -> Task<> {
      Server server([&](Peer& peer) -> Task<> {
        co_await peer.head();
        if (agrees) co_await peer.answer("ok");
        co_await forever();
      });
      ClientOptions options;
      options.stall_time = 2s;
      Client client(options);
      const std::string big(20'000'000, 'x');
      const auto writes = [&](http::BodyWriter& out) -> Task<> {
        co_await shield(out.write(big));
      };
      http::Request request("PUT", server.url());
      request.body(writes);
      const std::string said =
          co_await outcome(send(client, std::move(request)));
      CHECK(contains(said, "send body within 2"));
    });
    CHECK(took < 10s);
  }
}

TEST_CASE("http client: a function may fail before its task has begun",
          "[http][client]") {
  for (const bool agrees : {false, true}) {
    const Duration took = play_simulated([&]() -> Task<> {
      Server server([&](Peer& peer) -> Task<> {
        co_await peer.head();
        if (agrees) co_await peer.answer("ok");
        http::BodyReader body(peer.stream, kChunks);
        co_await body.read_all(100);
      });
      Client client;
      const auto fails = [](http::BodyWriter& out) -> Task<> {
        throw_system(ECONNRESET, "recv of the other one");
        return out.finish();
      };
      http::Request request("POST", server.url());
      request.body(fails);
      const std::string said =
          co_await outcome(send(client, std::move(request)));
      CHECK(contains(said, "recv of the other one"));
    });
    CHECK(took < 2s);
  }
}

TEST_CASE("http client: a body that fails just as the reply comes fails once",
          "[http][client]") {
  for (const int status : {200, 303, 404}) {
    int replies = 0;
    const auto body = [&]() -> Task<> {
      Server server([&](Peer& peer) -> Task<> {
        const std::string head = co_await peer.head();
        if (head.starts_with("GET /b ")) {
          co_await peer.answer("b");
          co_return;
        }
        co_await violet::sleep(50ms);
        std::string reply =
            concat({"HTTP/1.1 ", status,
                    " X\r\nLocation: /b\r\nContent-Length: 2\r\n\r\n"});
        if (status != 200) reply += "ok";
        co_await peer.say(std::move(reply));
        http::BodyReader rest(peer.stream, kChunks);
        std::error_code code;
        while (!code) (void)co_await rest.read(code);
        co_await peer.say("ok");
      });
      Client client;
      const auto fails = [](http::BodyWriter& out) -> Task<> {
        co_await out.write("hello");
        co_await violet::sleep(50ms);
        throw_system(EIO, "read the disk");
      };
      http::Request request("POST", server.url("/a"));
      request.body(fails);
      const TimePoint begin = Loop::current().now();
      const std::string said =
          co_await outcome(send(client, std::move(request)));
      const std::string failed =
          concat({"POST ", server.url("/a"), ": read the disk: "});
      const bool own = said.starts_with(failed);
      const bool reply = said == (status == 303 ? "200 b" : "404 ok");
      require(own || (status != 200 && reply), said);
      require(Loop::current().now() - begin < 5s, "the server was not told");
      replies += reply;
    };
    testing::for_seeds(200, body, with_network());
    CHECK((replies > 0) == (status != 200));
  }
}

TEST_CASE("http client: without memory no body is told that is not out",
          "[http][client]") {
  int refused = 0;
  for (std::uint64_t nth = 1; nth < 90; ++nth) {
    std::string log;
    bool unread = false;  // the memory was the server's
    FaultPlan plan;
    plan.fail_allocation(nth);
    const auto body = [&]() -> Task<> {
      Server server([&](Peer& peer) -> Task<> {
        for (;;) {
          const std::string head = co_await peer.head();
          if (head.empty()) co_return;
          log += head.substr(0, head.find(' ', 5)) + " ";
          co_await peer.answer("ok");
          const bool put = head.starts_with("PUT ");
          const http::Framing ten{http::BodyKind::kLength, 10};
          http::BodyReader rest(peer.stream, put ? ten : http::Framing());
          try {
            log += co_await rest.read_all(100);
          } catch (const std::bad_alloc&) {
            unread = true;
          }
        }
      });
      Client client;
      const auto writes = [&](http::BodyWriter& out) -> Task<> {
        for (int i = 0; i < 2; ++i) {
          try {
            co_await out.write("hello");
          } catch (const std::bad_alloc&) {
            ++refused;
          }
        }
      };
      http::Request request("PUT", server.url("/a"));
      request.body(writes, 10);
      const std::string said =
          co_await outcome(send(client, std::move(request)));
      const bool told = said == "200 ok";
      (void)co_await outcome(get(client, server.url("/b")));
      const bool whole = log.starts_with("PUT /a hellohello");
      CAPTURE(nth, said, log);
      CHECK((whole || unread || !told));
      CHECK((whole || !contains(log, "helloGET")));
    };
    try {
      play_simulated(body);
    } catch (const std::exception&) {  // that of the test itself
    }
  }
  CHECK(refused > 0);
}

TEST_CASE("http client: another connection's reset fails the body at once",
          "[http][client]") {
  for (const bool used : {false, true}) {
    const Duration took = play_simulated([&]() -> Task<> {
      Server server(answer_all);
      Client client;
      std::string said;
      if (used) said = co_await outcome(get(client, server.url()));
      int calls = 0;
      const auto relays = [&](http::BodyWriter& out) -> Task<> {
        ++calls;
        co_await out.write("hello");
        co_await violet::sleep(1s);
        throw_system(ECONNRESET, "recv of the other one");
      };
      http::Request request("POST", server.url());
      request.body(relays).repeatable(true);
      said = co_await outcome(send(client, std::move(request)));
      CHECK(contains(said, "recv of the other one"));
      CHECK(calls == 1);
    });
    CHECK(took < 2s);
  }
}

TEST_CASE("http client: a reply may pause while its request goes out",
          "[http][client]") {
  play_simulated([]() -> Task<> {
    Server server([](Peer& peer) -> Task<> {
      co_await peer.head();
      co_await peer.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no");
      http::BodyReader body(peer.stream, kChunks);
      co_await body.read_all(100);
      co_await peer.say("k");
      co_await forever();
    });
    ClientOptions options;
    options.stall_time = 2s;
    Client client(options);
    const auto slowly = [](http::BodyWriter& out) -> Task<> {
      for (int i = 0; i < 20; ++i) {
        co_await violet::sleep(1s);
        co_await out.write("a");
      }
    };
    http::Request request("POST", server.url());
    request.body(slowly);
    const std::string said = co_await outcome(send(client, std::move(request)));
    CHECK(said == "200 ok");
    CHECK(client.pool().idle() == 1);
  });
}

TEST_CASE("http client: a reply is done when its request is",
          "[http][client]") {
  play_everywhere([]() -> Task<> {
    std::string arrived;
    Server server([&](Peer& peer) -> Task<> {
      co_await peer.head();
      co_await peer.answer("ok");
      http::BodyReader body(peer.stream, kChunks);
      arrived = co_await body.read_all(100);
      co_await forever();
    });
    Client client;
    http::Request request("POST", server.url());
    request.body(kWritesHello);
    {
      Response reply = co_await client.send(std::move(request));
      while (!reply.done()) co_await reply.read();
    }
    co_await settle();
    CHECK(arrived == "hello world");
    CHECK(client.pool().idle() == 1);
  });
}

TEST_CASE("http client: read() into memory, too, ends when the request is out",
          "[http][client]") {
  // The end of the reply comes in a piece of its own.
  for (const bool until_close : {false, true}) {
    for (const bool fails : {false, true}) {
      CAPTURE(until_close, fails);
      play_everywhere([&]() -> Task<> {
        std::string arrived;
        Server server([&](Peer& peer) -> Task<> {
          co_await peer.head();
          if (until_close) {
            co_await peer.say("HTTP/1.1 200 OK\r\n\r\nok");
            co_await violet::sleep(5ms);
            co_await peer.stream.shutdown();
          } else {
            co_await peer.say(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                "2\r\nok\r\n");
            co_await violet::sleep(5ms);
            co_await peer.say("0\r\n\r\n");
          }
          http::BodyReader body(peer.stream, kChunks);
          arrived = co_await body.read_all(100);
        });
        Client client;
        const auto writes = [&](http::BodyWriter& out) -> Task<> {
          co_await out.write("hello ");
          co_await violet::sleep(20ms);
          if (fails) throw_system(EIO, "read the disk");
          co_await out.write("world");
        };
        http::Request request("POST", server.url());
        request.body(writes);
        std::string told;
        {
          Response reply = co_await client.send(std::move(request));
          const auto reads = [&]() -> Task<std::string> {
            std::string text;
            char room[10];
            for (;;) {
              const std::size_t got =
                  co_await reply.read(std::span<char>(room));
              if (got == 0) co_return text;
              text.append(room, got);
            }
          };
          told = co_await outcome(reads());
        }
        co_await settle();
        CHECK(contains(told, fails ? "read the disk" : "ok"));
        CHECK(arrived == (fails ? "" : "hello world"));
      });
    }
  }
}

TEST_CASE("http client: small pieces that nobody reads have a limit, too",
          "[http][client]") {
  play_simulated([]() -> Task<> {
    Server server([](Peer& peer) -> Task<> {
      co_await peer.head();
      co_await peer.answer("ok");
      co_await forever();
    });
    ClientOptions options;
    options.stall_time = 2s;
    Client client(options);
    const auto writes = lines(5'000'000);
    http::Request request("POST", server.url());
    request.body(writes);
    const std::string said = co_await outcome(send(client, std::move(request)));
    CHECK(contains(said, "send body within 2"));
  });
}

TEST_CASE("http client: nothing follows a body of which a part is missing",
          "[http][client]") {
  for (const bool counted : {false, true}) {
    play_simulated([&]() -> Task<> {
      Server server([](Peer& peer) -> Task<> {
        co_await peer.head();
        co_await peer.answer("ok");
        co_await violet::sleep(1s);
        for (;;) (void)co_await peer.stream.read_exactly(1);
      });
      Client client;
      const std::string big(20'000'000, 'x');
      const auto gives_up = [&](http::BodyWriter& out) -> Task<> {
        co_await within(100ms, out.write(big));
        co_await violet::sleep(2s);
        co_await out.write("the end");
      };
      http::Request request("POST", server.url());
      if (counted) {
        request.body(gives_up, big.size() + 7);
      } else {
        request.body(gives_up);
      }
      const std::string said =
          co_await outcome(send(client, std::move(request)));
      CHECK(contains(said, "has cut one of its writes short"));
      CHECK(contains(said, server.url()));
      CHECK(client.pool().idle() == 0);
    });
  }
}

TEST_CASE(
    "http client: a function that swallows a broken connection hides none",
    "[http][client]") {
  for (const bool throws : {false, true}) {
    for (const bool used : {false, true}) {
      play_simulated([&]() -> Task<> {
        Server server([&](Peer& peer) -> Task<> {
          if (used && peer.nth == 0) {
            co_await peer.request();
            co_await peer.answer("first");
            (void)co_await peer.head();
            testing::network().reset(peer.stream.fd());
          } else if (used) {
            co_await peer.request();
            co_await peer.answer("second");
          } else {
            (void)co_await peer.head();
            co_await peer.answer("ok");
            testing::network().reset(peer.stream.fd());
          }
        });
        Client client;
        std::string said;
        if (used) said = co_await outcome(get(client, server.url()));
        const std::string big(1'000'000, 'x');
        const auto swallows = [&](http::BodyWriter& out) -> Task<> {
          for (int i = 0; i < 5; ++i) {
            bool failed = false;
            try {
              co_await out.write(big);
            } catch (const std::system_error&) {
              failed = true;
            }
            if (failed && throws) throw std::logic_error("upload failed");
            if (failed) co_return;
          }
        };
        http::Request request("PUT", server.url());
        request.body(swallows, 5 * big.size()).repeatable(true);
        said = co_await outcome(send(client, std::move(request)));
        CAPTURE(throws, used, said);
        CHECK(said == (used ? "200 second" : "200 ok"));
      });
    }
  }
}

TEST_CASE("http client: who reads until it is done hears what failed the body",
          "[http][client]") {
  play_simulated([]() -> Task<> {
    Server server([](Peer& peer) -> Task<> {
      (void)co_await peer.head();
      co_await peer.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
      co_await violet::sleep(1s);
      co_await peer.say("ok");
      co_await forever();
    });
    Client client;
    const auto fails = [](http::BodyWriter& out) -> Task<> {
      co_await out.write("hello");
      co_await violet::sleep(500ms);
      throw_system(EIO, "read the disk");
    };
    http::Request request("POST", server.url());
    request.body(fails);
    Response reply = co_await client.send(std::move(request));
    const auto reads = [&]() -> Task<std::string> {
      while (!reply.done()) (void)co_await reply.read();
      co_return "done";
    };
    std::string said = co_await outcome(reads());
    CHECK(contains(said, "read the disk"));
    said = co_await outcome(reads());  // and again
    CHECK(contains(said, "read the disk"));
  });
}

TEST_CASE("http client: any number of connections to one server may be asked",
          "[http][client]") {
  play_everywhere([]() -> Task<> {
    Server server(answer_all);
    ClientOptions options;
    options.max_per_host = 0;
    Client client(options);
    const std::string said = co_await outcome(get(client, server.url("/a")));
    CHECK(said == "200 /a");
  });
}

TEST_CASE("http client: what comes slowly with a redirect does not delay it",
          "[http][client]") {
  const Duration took = play_simulated([]() -> Task<> {
    Server server([](Peer& peer) -> Task<> {
      const std::string head = co_await peer.head();
      if (!head.starts_with("GET /a")) {
        co_await peer.answer("here");
        co_return;
      }
      co_await peer.say(
          "HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 100\r\n\r\n");
      for (int i = 0; i < 100; ++i) {
        co_await peer.say("x");
        co_await violet::sleep(1s);
      }
    });
    ClientOptions options;
    options.stall_time = 3s;
    Client client(options);
    const std::string said = co_await outcome(get(client, server.url("/a")));
    CHECK(said == "200 here");
  });
  CHECK(took < 5s);
}

TEST_CASE("http client: a head that nobody takes has a limit",
          "[http][client]") {
  play_simulated([]() -> Task<> {
    const Listener listener("127.0.0.1", 0);  // nobody accepts
    ClientOptions options;
    options.stall_time = 2s;
    Client client(options);
    http::Request request("GET",
                          concat({"http://", listener.address().text(), "/"}));
    request.field("X", std::string(30'000'000, 'x'));
    const std::string said = co_await outcome(send(client, std::move(request)));
    CHECK(contains(said, "send within 2"));
  });
}

TEST_CASE("http client: a success asks for a body that was held back",
          "[http][client]") {
  play_everywhere([]() -> Task<> {
    Server server([](Peer& peer) -> Task<> {
      co_await peer.head();
      co_await peer.say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
      const auto body = co_await peer.stream.read_exactly(5);
      const std::string text(body.view());
      co_await peer.say(text);
      co_await forever();
    });
    Client client;
    http::Request request("PUT", server.url());
    request.body("hello").expect_continue(1h);
    const std::string said = co_await outcome(send(client, std::move(request)));
    CHECK(said == "200 hello");
    CHECK(client.pool().idle() == 1);
  });
}

TEST_CASE("http client: what has no body is not announced", "[http][client]") {
  for (const char* method : {"GET", "PUT"}) {
    const std::string arrived =
        arriving([&](Client& client, Server& server) -> Task<Response> {
          http::Request request(method, server.url());
          request.expect_continue(60s);
          co_return co_await client.send(std::move(request));
        });
    CHECK_FALSE(contains(arrived, "Expect"));
  }
}

TEST_CASE("http client: a refusal is read from a connection that is closed",
          "[http][client]") {
  // The reply has arrived when the reset follows: closing with bytes unread.
  const std::string body(10'000'000, 'x');
  play_simulated([&]() -> Task<> {
    Server server([&](Peer& peer) -> Task<> {
      co_await peer.head();
      co_await peer.say("HTTP/1.1 413 Too large\r\nContent-Length: 0\r\n\r\n");
      co_await violet::sleep(10ms);
    });
    Client client;
    const std::string said =
        co_await outcome(told(co_await client.put(server.url(), body)));
    CHECK(said == "413 ");
    CHECK(client.pool().idle() == 0);
  });
}

// ------------------------------------------------------------- used once more

TEST_CASE("http client: requests follow each other on one connection",
          "[http][client]") {
  play_everywhere([]() -> Task<> {
    Server server(answer_all);
    Client client;
    for (int i = 0; i < 5; ++i) {
      const std::string path = concat({"/", i});
      const std::string said = co_await outcome(get(client, server.url(path)));
      CHECK(said == "200 " + path);
    }
    const Response head = co_await client.head(server.url());
    CHECK(head.done());
    std::string said = co_await outcome(told(
        co_await client.put(server.url("/put"), std::string(20'000, 'x'))));
    CHECK(said == "200 /put 20000");
    CHECK(server.clients() == 1);
    CHECK(client.pool().made() == 1);
  });
}

TEST_CASE(
    "http client: a connection is not used again after what leaves it "
    "in doubt",
    "[http][client]") {
  const std::string ok = "HTTP/1.1 200 OK\r\n";
  for (const std::string& reply :
       {ok + "Connection: close\r\nContent-Length: 1\r\n\r\na",
        std::string("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na"),
        ok + "Content-Length: 1\r\n\r\nab",
        ok + "Content-Length: 1\r\n\r\na" + ok + "Content-Length: 1\r\n\r\nb",
        ok + "Content-Length: 1\r\n\r\na\r\n"}) {
    CAPTURE(reply);
    play_everywhere([&]() -> Task<> {
      Server server([&](Peer& peer) -> Task<> {
        for (;;) {
          const std::string text = co_await peer.request();
          if (text.empty()) co_return;
          co_await peer.say(reply);
        }
      });
      Client client;
      for (int i = 1; i <= 3; ++i) {
        const std::string said = co_await outcome(get(client, server.url()));
        CHECK(said == "200 a");
        co_await settle();  // what is too much may come late
        CHECK(client.pool().idle() == 0);
        CHECK(server.clients() == i);
      }
    });
  }
}

TEST_CASE("http client: what follows a reply is never taken for the next one",
          "[http][client]") {
  const std::string ok = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n";
  play_everywhere([&]() -> Task<> {
    Server server([&](Peer& peer) -> Task<> {
      co_await peer.request();
      co_await peer.say(ok + "a" + ok + "b");
      co_await forever();
    });
    Client client;
    for (int i = 0; i < 3; ++i) {  // at once: nobody has noticed yet
      const std::string said = co_await outcome(get(client, server.url()));
      CHECK(said == "200 a");
    }
  });
}

TEST_CASE("http client: a reset in the middle of a request is an error",
          "[http][client]") {
  for (const std::uint64_t taken : {0u, 1u, 100u, 50'000u, 299'999u}) {
    play_simulated([&]() -> Task<> {
      Server server([&](Peer& peer) -> Task<> {
        if (peer.nth > 0) co_return co_await answer_all(peer);
        co_await peer.stream.skip(taken);
        testing::network().reset(peer.stream.fd());
      });
      Client client;
      const auto put = [&]() -> Task<std::string> {
        co_return co_await told(
            co_await client.put(server.url("/a"), std::string(300'000, 'x')));
      };
      std::string said = co_await outcome(put());
      require(said.starts_with("PUT " + server.url("/a") + ": "), said);
      require(contains(said, support::text_of_error(ECONNRESET)), said);
      said = co_await outcome(put());
      require(said == "200 /a 300000", said);
    });
  }
}

TEST_CASE(
    "http client: a reply that is dropped before its end closes its "
    "connection",
    "[http][client]") {
  play_everywhere([]() -> Task<> {
    Server server(answer_all);
    Client client;
    {
      Response reply = co_await client.get(server.url("/abc"));
      char first[1];
      co_await reply.read(std::span<char>(first));
      CHECK(first[0] == '/');
    }
    CHECK(client.pool().idle() == 0);
    const std::string said = co_await outcome(get(client, server.url("/d")));
    CHECK(said == "200 /d");
    CHECK(server.clients() == 2);
  });
}

TEST_CASE(
    "http client: a used connection that ends without a reply is "
    "replaced, once",
    "[http][client]") {
  for (const bool resets : {false, true}) {
    play_simulated([&]() -> Task<> {
      // The server ends it when it has the second request, of each connection.
      Server server([&](Peer& peer) -> Task<> {
        co_await peer.request();
        co_await peer.answer("first");
        co_await peer.request();
        if (resets) testing::network().reset(peer.stream.fd());
      });
      Client client;
      for (int i = 1; i <= 3; ++i) {
        const std::string said = co_await outcome(get(client, server.url()));
        CHECK(said == "200 first");
        CHECK(server.clients() == i);
      }
      // Nobody knows whether that was done, so it is not asked for twice.
      const auto posted = [&]() -> Task<std::string> {
        co_return co_await told(
            co_await client.post(server.url(), "text/plain", "x"));
      };
      std::string said = co_await outcome(posted());
      CHECK(contains(said, resets ? "reset" : "without a reply"));
      CHECK(server.clients() == 3);
      // Unless that does no harm.
      said = co_await outcome(get(client, server.url()));
      http::Request again("POST", server.url());
      again.body("x").repeatable(true);
      said = co_await outcome(send(client, std::move(again)));
      CHECK(said == "200 first");
      CHECK(server.clients() == 5);
    });
  }
}

TEST_CASE("http client: a function is not asked twice for its body",
          "[http][client]") {
  for (const bool repeatable : {false, true}) {
    play_simulated([&]() -> Task<> {
      Server server([&](Peer& peer) -> Task<> {
        co_await peer.request();
        co_await peer.answer("first");
        co_await peer.request();
      });
      Client client;
      std::string said = co_await outcome(get(client, server.url()));
      int calls = 0;
      const auto writes = [&](http::BodyWriter& out) -> Task<> {
        ++calls;
        co_await out.write("hello");
      };
      http::Request request("PUT", server.url());
      request.body(writes);
      if (repeatable) request.repeatable(true);
      said = co_await outcome(send(client, std::move(request)));
      CHECK(calls == (repeatable ? 2 : 1));
      CHECK((said == "200 first") == repeatable);
    });
  }
}

TEST_CASE("http client: a body has ended before it is asked for again",
          "[http][client]") {
  play_simulated([]() -> Task<> {
    testing::network().latency(100ms);  // connecting anew takes a while
    Server server([](Peer& peer) -> Task<> {
      co_await peer.request();
      co_await peer.answer("first");
      (void)co_await peer.head();
    });
    ClientOptions options;
    options.stall_time = 80ms;  // so that it is looked at often
    Client client(options);
    std::string said = co_await outcome(get(client, server.url()));
    int live = 0;
    int calls = 0;
    const auto writes = [&](http::BodyWriter& out) -> Task<> {
      CHECK(live == 0);
      const Counted counted(live);
      ++calls;
      for (int i = 0; i < 50; ++i) {
        co_await violet::sleep(10ms);
        std::string failure;
        try {
          co_await out.write("a");
        } catch (const std::exception& e) {
          failure = e.what();
        }
        CHECK(failure == "");
        if (!failure.empty()) break;
      }
    };
    http::Request request("PUT", server.url());
    request.body(writes).repeatable(true);
    said = co_await outcome(send(client, std::move(request)));
    CHECK(said == "200 first");
    CHECK(calls == 2);
  });
}

TEST_CASE(
    "http client: a new connection that ends without a reply is an "
    "error at once",
    "[http][client]") {
  play_everywhere([]() -> Task<> {
    Server server([](Peer& peer) -> Task<> { co_await peer.request(); });
    Client client;
    const std::string said = co_await outcome(get(client, server.url()));
    CHECK(contains(said, "the connection ended without a reply"));
    CHECK(server.clients() == 1);
  });
}

TEST_CASE("http client: half a reply is not asked for again",
          "[http][client]") {
  for (const auto part :
       {"H"sv, "HTTP/1.1 200 OK\r\n"sv, "HTTP/1.1 102 Processing\r\n\r\n"sv}) {
    play_simulated([&]() -> Task<> {
      Server server([&](Peer& peer) -> Task<> {
        co_await peer.request();
        co_await peer.answer("first");
        co_await peer.request();
        co_await peer.say(std::string(part));
      });
      Client client;
      std::string said = co_await outcome(get(client, server.url()));
      CHECK(said == "200 first");
      said = co_await outcome(get(client, server.url()));
      CHECK(said.starts_with("GET "));
      CHECK(server.clients() == 1);
    });
  }
}

// ------------------------------------------------------------------ redirects

namespace {

/// Answers "/to/STATUS/REST" with a redirect to "/REST", all else with the
/// whole request.
Task<> redirect_all(Peer& peer) {
  for (;;) {
    const std::string text = co_await peer.request();
    if (text.empty()) co_return;
    const auto at = text.find(" /to/");
    if (at == text.npos) {
      co_await peer.answer(text);
      continue;
    }
    const std::string to = text.substr(at + 8, text.find(' ', at + 1) - at - 8);
    std::string reply = concat({"HTTP/1.1 ", text.substr(at + 5, 3),
                                " Elsewhere\r\nLocation: ", to,
                                "\r\nContent-Length: 4\r\n\r\nmore"});
    co_await peer.say(std::move(reply));
  }
}

}  // namespace

TEST_CASE("http client: redirects are followed on the same connection",
          "[http][client]") {
  play_everywhere([]() -> Task<> {
    Server server(redirect_all);
    ClientOptions options;
    options.max_per_host = 1;
    Client client(options);
    for (const auto status : {"301", "302", "303", "307", "308"}) {
      const std::string path = concat({"/to/", status, "/a/../b"});
      Response reply = co_await client.get(server.url(path));
      CHECK(reply.status() == 200);
      CHECK(reply.url().text() == server.url("/b"));
      const std::string seen = co_await reply.read_all(1000);
      CHECK(seen.starts_with("GET /b HTTP/1.1\r\n"));
    }
    CHECK(server.clients() == 1);
    Response other = co_await client.get(server.url("/to/304/a"));
    CHECK(other.status() == 304);
  });
}

TEST_CASE("http client: a redirect with a long body is not read to its end",
          "[http][client]") {
  play_simulated([]() -> Task<> {
    Server server([](Peer& peer) -> Task<> {
      const std::string text = co_await peer.request();
      if (text.starts_with("GET /a ")) {
        co_await peer.say(
            "HTTP/1.1 302 Found\r\nLocation: /b\r\n"
            "Content-Length: 1000000000\r\n\r\n" +
            std::string(1'000'000, 'x'));
        co_await forever();
      }
      co_await peer.answer("b");
    });
    ClientOptions options;
    options.max_per_host = 1;
    options.stall_time = 1s;
    Client client(options);
    const std::string said = co_await outcome(get(client, server.url("/a")));
    CHECK(said == "200 b");
    CHECK(server.clients() == 2);
  });
}

TEST_CASE("http client: nobody hears of a connection that is not watched",
          "[http][client]") {
  const auto body = []() -> Task<> {
    Server server(answer_all);
    Client client;
    (void)co_await outcome(get(client, server.url("/a")));
    co_await violet::sleep(1s);
  };
  for (std::uint64_t nth = 1; nth < 60; ++nth) {
    const std::string said = support::errors_of([&] {
      FaultPlan plan;
      plan.fail_allocation(nth);
      try {
        play_simulated(body);
      } catch (const std::exception&) {  // no memory for the test itself
      }
    });
    CAPTURE(nth);
    CHECK(said.empty());
  }
}

TEST_CASE("http client: a redirect that ends with its connection is followed",
          "[http][client]") {
  for (const char* length : {"", "Content-Length: 100000000\r\n"}) {
    const Duration took = play_simulated([&]() -> Task<> {
      Server server([&](Peer& peer) -> Task<> {
        const std::string text = co_await peer.request();
        if (text.starts_with("GET /a ")) {
          std::string reply = concat(
              {"HTTP/1.1 302 Found\r\nLocation: /b\r\n", length, "\r\nsee /b"});
          co_await peer.say(std::move(reply));
          co_await forever();
        }
        co_await peer.answer("b");
      });
      Client client;
      const std::string said = co_await outcome(get(client, server.url("/a")));
      CHECK(said == "200 b");
    });
    CHECK(took < 1s);
  }
}

TEST_CASE("http client: a redirect keeps method and body, or drops both",
          "[http][client]") {
  play_simulated([]() -> Task<> {
    Server server(redirect_all);
    Client client;
    const auto sent = [&](const char* method,
                          const char* status) -> Task<std::string> {
      http::Request request(method, server.url(concat({"/to/", status, "/a"})));
      request.field("Content-Type", "x/y").field("X-A", "b").body("hello");
      Response reply = co_await client.send(std::move(request));
      std::string seen = co_await reply.read_all(1000);
      if (seen.empty()) seen = reply.url().target();  // of a HEAD
      CHECK(contains(seen, "X-A: b") != (seen == "/a"));
      CHECK(contains(seen, "Content-Type") == contains(seen, "hello"));
      co_return seen.substr(0, seen.find(' ')) +
          (contains(seen, "hello") ? " with it" : "");
    };
    std::string seen = co_await sent("POST", "301");
    CHECK(seen == "GET");
    seen = co_await sent("POST", "302");
    CHECK(seen == "GET");
    seen = co_await sent("POST", "303");
    CHECK(seen == "GET");
    seen = co_await sent("PUT", "303");
    CHECK(seen == "GET");
    seen = co_await sent("PUT", "301");
    CHECK(seen == "PUT with it");
    seen = co_await sent("POST", "307");
    CHECK(seen == "POST with it");
    seen = co_await sent("POST", "308");
    CHECK(seen == "POST with it");
  });
}

TEST_CASE("http client: a body that cannot be sent again stops at a redirect",
          "[http][client]") {
  play_simulated([]() -> Task<> {
    Server server(redirect_all);
    Client client;
    const auto writes = [](http::BodyWriter& out) -> Task<> {
      co_await out.write("hello");
    };
    http::Request request("PUT", server.url("/to/307/a"));
    request.body(writes);
    std::string said = co_await outcome(send(client, std::move(request)));
    CHECK(said == "307 more");
    http::Request again("PUT", server.url("/to/307/a"));
    again.body(writes).repeatable(true);
    said = co_await outcome(send(client, std::move(again)));
    CHECK(said.starts_with("200 PUT /a "));
    CHECK(said.ends_with("\r\n\r\nhello"));
  });
}

TEST_CASE("http client: a body that a redirect drops does not stop the next",
          "[http][client]") {
  play_simulated([]() -> Task<> {
    Server server(redirect_all);
    Client client;
    const auto writes = [](http::BodyWriter& out) -> Task<> {
      co_await out.write("hello");
    };
    http::Request request("POST", server.url("/to/303/to/307/a"));
    request.body(writes).repeatable(false);
    const std::string said = co_await outcome(send(client, std::move(request)));
    CHECK(said.starts_with("200 GET /a "));
  });
}

TEST_CASE("http client: redirects have a limit, and may be left alone",
          "[http][client]") {
  play_simulated([]() -> Task<> {
    Server server([](Peer& peer) -> Task<> {
      for (;;) {
        const std::string text = co_await peer.request();
        if (text.empty()) co_return;
        co_await peer.say(
            "HTTP/1.1 302 Found\r\nLocation: /again\r\n"
            "Content-Length: 0\r\n\r\n");
      }
    });
    ClientOptions options;
    options.max_redirects = 3;
    Client client(options);
    std::string said = co_await outcome(get(client, server.url()));
    CHECK(said == concat({"GET ", server.url("/again"),
                          ": after 3 redirects: "
                          "there are too many redirects"}));
    options.max_redirects = 0;
    Client patient(options);
    said = co_await outcome(get(patient, server.url()));
    CHECK(said == "302 ");
  });
}

TEST_CASE(
    "http client: a redirect to nowhere is an error, and one without a "
    "place a reply",
    "[http][client]") {
  CHECK(read_reply("HTTP/1.1 301 Moved\r\nLocation: https://a/\r\n\r\n")
            .starts_with("redirect to 'https://a/' needs TLS"));
  CHECK(read_reply("HTTP/1.1 301 Moved\r\nLocation: gopher://a/\r\n\r\n") ==
        "redirect to 'gopher://a/' is not a URL that begins with http://: it "
        "cannot be followed");
  CHECK(read_reply("HTTP/1.1 301 Moved\r\nContent-Length: 1\r\n\r\na") ==
        "301 a");
  CHECK(read_reply("HTTP/1.1 301 Moved\r\nLocation: /a\r\nLocation: /b\r\n"
                   "Content-Length: 1\r\n\r\na") == "301 a");
}

TEST_CASE("http client: credentials do not go to another server",
          "[http][client]") {
  play_simulated([]() -> Task<> {
    Server other(redirect_all);
    Server server([&](Peer& peer) -> Task<> {
      co_await peer.request();
      std::string reply =
          concat({"HTTP/1.1 302 Found\r\nLocation: ", other.url("/a"),
                  "\r\nContent-Length: 0\r\n\r\n"});
      co_await peer.say(std::move(reply));
    });
    Client client;
    http::Request request("GET", server.url());
    request.field("Authorization", "secret").field("cookie", "secret");
    request.field("X-A", "b");
    std::string said = co_await outcome(send(client, std::move(request)));
    CHECK(contains(said, "X-A: b"));
    CHECK_FALSE(contains(said, "secret"));
    http::Request inside("GET", other.url("/to/302/a"));
    inside.field("Authorization", "secret");
    said = co_await outcome(send(client, std::move(inside)));
    CHECK(contains(said, "Authorization: secret"));
  });
}

// --------------------------------------------------------------------- limits

TEST_CASE("http client: nobody waits for ever", "[http][client]") {
  ClientOptions options;
  options.connect_time = 3s;
  options.reply_time = 5s;
  options.stall_time = 7s;
  const auto timed = [&](Script script, std::string body, const char* what,
                         Duration least) {
    const Duration took = play_simulated([&]() -> Task<> {
      Server server(script);
      Client client(options);
      const auto asked = [&]() -> Task<std::string> {
        http::Request request(body.empty() ? "GET" : "PUT", server.url());
        if (!body.empty()) request.body(body);
        std::error_code code;
        std::string text;
        try {
          text = co_await send(client, std::move(request));
        } catch (const std::system_error& e) {
          code = e.code();
          text = e.what();
        }
        CHECK(code == std::errc::timed_out);
        co_return text;
      };
      const std::string said = co_await asked();
      CHECK(contains(said, what));
    });
    CHECK(took >= least);
    CHECK(took < least + 2s);
  };
  const auto silent = [](Peer&) -> Task<> { co_await forever(); };
  timed(silent, "", ": no reply within 5000 ms: ", 5s);
  timed(
      [](Peer& peer) -> Task<> {
        co_await peer.say("HTTP/1.1 200 O");
        co_await forever();
      },
      "", ": no reply within 5000 ms: ", 5s);
  timed(
      [](Peer& peer) -> Task<> {
        co_await peer.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na");
        co_await forever();
      },
      "", ": read body within 7000 ms: ", 7s);
  timed(silent, std::string(1'000'000, 'x'),
        ": send body within 7000 ms: ", 7s);
  timed(
      [](Peer& peer) -> Task<> {
        co_await peer.request();
        co_await forever();
      },
      std::string(1'000'000, 'x'), ": no reply within 5000 ms: ", 5s);
}

TEST_CASE("http client: a body may take long as long as it moves",
          "[http][client]") {
  ClientOptions options;
  options.reply_time = 20s;
  options.stall_time = 7s;
  const Duration took = play_simulated([&]() -> Task<> {
    Server server([](Peer& peer) -> Task<> {
      co_await peer.head();
      std::uint64_t left = 1'000'000;
      while (left > 0) {
        co_await violet::sleep(6s);
        left -= co_await peer.stream.skip(std::min<std::uint64_t>(left, 65536));
      }
      co_await peer.say("HTTP/1.1 102 Processing\r\n\r\n");
      co_await violet::sleep(15s);
      co_await peer.say("HTTP/1.1 102 Processing\r\n\r\n");
      co_await violet::sleep(15s);
      co_await peer.say("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n");
      for (int i = 0; i < 3; ++i) {
        co_await violet::sleep(6s);
        co_await peer.say("a");
      }
    });
    Client client(options);
    const std::string said = co_await outcome(
        told(co_await client.put(server.url(), std::string(1'000'000, 'x'))));
    CHECK(said == "200 aaa");
  });
  CHECK(took > 100s);
}

TEST_CASE("http client: a connection that nobody answers has a limit",
          "[http][client]") {
  ClientOptions options;
  options.connect_time = 3s;
  const Duration took = play_simulated([&]() -> Task<> {
    testing::network().cut_port(81);
    Listener listener("127.0.0.1", 81);
    Client client(options);
    const std::string said =
        co_await outcome(get(client, "http://127.0.0.1:81/"));
    CHECK(said == concat({"GET http://127.0.0.1:81/: connect 127.0.0.1:81 "
                          "within 3000 ms: ",
                          support::text_of_error(ETIMEDOUT)}));
  });
  CHECK(took == 3s);
}

// ---------------------------------------------------------------- what is not

TEST_CASE("http client: errors name method, URL and cause",
          "[http][client][libkqueue:so_error]") {
  testing::play([]() -> Task<> {
    Client client;
    const std::string said =
        co_await outcome(get(client, "http://127.0.0.1:1/a?b"));
    CHECK(said == concat({"GET http://127.0.0.1:1/a?b: connect 127.0.0.1:1: ",
                          support::text_of_error(ECONNREFUSED)}));
    const std::string tls = co_await outcome(get(client, "https://a/"));
    CHECK(contains(tls, "put a proxy that speaks it before the server"));
  });
}

TEST_CASE("http client: what cannot be a request is refused",
          "[http][client]") {
  using http::Request;
  const std::string url = "http://a/";
  CHECK_THROWS_AS(Request("GE T", url), Misuse);
  CHECK_THROWS_AS(Request("", url), Misuse);
  CHECK_THROWS_AS(Request("CONNECT", url), Misuse);
  CHECK_THROWS_AS(Request("GET", http::Url()), Misuse);
  CHECK_THROWS_AS(Request("GET", "nowhere"), std::system_error);
  for (const auto name : {"host", "Connection", "content-length",
                          "Transfer-Encoding", "EXPECT"}) {
    CHECK_THROWS_AS(Request("GET", url).field(name, "x"), Misuse);
  }
  CHECK_THROWS_AS(Client(), Misuse);  // outside a job
  play_simulated([]() -> Task<> {
    Server server(answer_all);
    Client client;
    http::Request request("GET", server.url());
    request.field("X", "a\r\nY: b");
    const std::string said = co_await outcome(send(client, std::move(request)));
    CHECK(contains(said, "the value of a field has a control character"));
  });
}

TEST_CASE(
    "http client: a reset at any byte of the reply is an error, and "
    "harms no other request",
    "[http][client]") {
  const std::string reply =
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
      "3\r\nabc\r\n0\r\n\r\n";
  for (std::size_t sent = 0; sent < reply.size(); ++sent) {
    for (const bool resets : {false, true}) {
      play_simulated([&]() -> Task<> {
        Server server([&](Peer& peer) -> Task<> {
          co_await peer.request();
          if (peer.nth > 0) {
            co_await peer.answer("good");
            co_return;
          }
          co_await peer.say(reply.substr(0, sent));
          co_await violet::sleep(1ms);
          if (resets) testing::network().reset(peer.stream.fd());
        });
        Client client;
        std::string said = co_await outcome(get(client, server.url()));
        require(said.starts_with("GET http://"), said);
        said = co_await outcome(get(client, server.url()));
        require(said == "200 good", said);
      });
    }
  }
}

// ----------------------------------------------------------- and all at once

TEST_CASE(
    "http client: many jobs share a few connections, and none gets "
    "another's reply",
    "[http][client]") {
  play_everywhere([]() -> Task<> {
    Server server(answer_all);
    ClientOptions options;
    options.max_per_host = 3;
    Client client(options);
    std::vector<int> numbers(40);
    for (int i = 0; i < 40; ++i) numbers[static_cast<std::size_t>(i)] = i;
    const auto one = [&](int i) -> Task<bool> {
      const std::string path = concat({"/", i});
      if (i % 7 == 0) {  // and leaves in the middle
        co_await client.get(server.url(path));
        co_return true;
      }
      const std::string said = co_await get(client, server.url(path));
      co_return said == "200 " + path;
    };
    const std::vector<bool> right = co_await map_limited(20, numbers, one);
    CHECK(std::count(right.begin(), right.end(), true) == 40);
    CHECK(client.pool().idle() <= 3);
  });
}

namespace {

/// What an exchange may say when something was killed: a part of it, or a job
/// of the server. Never what another one should have got.
void require_own(const std::string& said, const std::string& wanted) {
  const bool failed = said.starts_with("GET http://") ||
                      said.starts_with("PUT http://") ||
                      said == "one of several tasks was killed";
  require(said == wanted || failed, said);
}

/// For survives_kills: a request whose body takes two steps.
Task<> put_hello(Client& client, std::string url, std::string wanted) {
  http::Request request("PUT", url);
  request.body(kWritesHello);
  const std::string said = co_await outcome(send(client, std::move(request)));
  require_own(said, wanted);
}

/// For kill_everywhere: what a client does, and then an exchange that must not
/// get anything of what was cut.
template <class Exchange>
void survives_kills(Exchange exchange, const Script& script = answer_all) {
  testing::Options options = with_network();
  options.seeds = support::kSanitized ? 100 : 300;
  options.budget = 0;
  const auto counts = testing::kill_everywhere(
      [=]() -> Task<> {
        Server server(script);
        ClientOptions few;
        few.max_per_host = 1;
        few.reply_time = few.stall_time = few.connect_time = 5s;
        Client client(few);
        TaskGroup jobs;  // which the client outlives
        const Job<> job =
            jobs.spawn(exchange, std::ref(client), server.url("/a"));
        const auto after = [&]() -> Task<> {
          // The server's jobs may have been killed.
          std::string said = co_await outcome(get(client, server.url("/b")));
          require_own(said, "200 /b");
        };
        const Job<> waiter = jobs.spawn(after);
        co_await wait(job);
        co_await wait(waiter);
        co_await after();
      },
      options);
  CHECK(counts.kills > 20);
}

}  // namespace

TEST_CASE("kill everywhere: a GET on a connection that is used again",
          "[http][client][kill]") {
  survives_kills([](Client& client, std::string url) -> Task<> {
    for (int i = 0; i < 2; ++i) {
      const std::string said = co_await outcome(get(client, url));
      require_own(said, "200 /a");
    }
  });
}

TEST_CASE("kill everywhere: a PUT whose body comes from a function",
          "[http][client][kill]") {
  survives_kills([](Client& client, std::string url) -> Task<> {
    return put_hello(client, std::move(url), "200 /a 11");
  });
}

TEST_CASE("kill everywhere: a body that goes on after a success came early",
          "[http][client][kill]") {
  const auto exchange = [](Client& client, std::string url) -> Task<> {
    return put_hello(client, std::move(url), "200 hello world");
  };
  survives_kills(exchange, send_back);
}

TEST_CASE("kill everywhere: a body that is held back", "[http][client][kill]") {
  survives_kills([](Client& client, std::string url) -> Task<> {
    http::Request request("PUT", url);
    request.body("hello").expect_continue(1s);
    const std::string said = co_await outcome(send(client, std::move(request)));
    require_own(said, "200 /a 5");
  });
}
