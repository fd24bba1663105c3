// http_wire_test.cpp - heads and bodies, read from a stream and written to it.
// SPDX-License-Identifier: MIT
#include "../net/http/wire.hpp"

#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "../runtime/testing.hpp"
#include "../runtime/within.hpp"
#include "catch.hpp"
#include "http_support.hpp"
#include "sockets.hpp"

using namespace sockets;
using namespace std::string_view_literals;
using support::cut_at_random;
using support::cut_each;
using support::PieceList;

namespace {

/// What fails a run of the kit: it must throw.
void require(bool holds, const char* what) {
  if (!holds) throw std::runtime_error(what);
}

/// Sends piece by piece; each is read before the next one comes.
Task<> feed(Connection to, PieceList pieces) {
  for (const std::string_view piece : pieces) {
    co_await to.sendall(piece);
    co_await testing::wait_all_blocked();
  }
}

/// All requests of a stream with their bodies: "GET / [body] ", and how it
/// ends.
Task<std::string> requests_of(const Stream& in, std::size_t room) {
  std::string seen;
  http::RequestParser parser;
  try {
    while (true) {
      const bool there = co_await http::read_head(in, parser);
      if (!there) co_return seen + "end";
      seen += parser.head().method;
      seen.append(" ").append(parser.head().target) += " [";
      http::BodyReader body(in, http::body_of(parser.head()));
      std::vector<char> memory(room);
      while (!body.done()) {
        if (room == 0) {
          const std::string_view piece = co_await body.read();
          seen += piece;
        } else {
          const std::size_t got = co_await body.read(std::span<char>(memory));
          require(got > 0 || body.done(), "nothing came");
          seen.append(memory.data(), got);
        }
      }
      const auto more = co_await body.read();
      require(more.empty(), "more after the end");
      seen += "] ";
      parser.next();
    }
  } catch (const std::system_error& error) {
    const http::Fault fault = http::fault_in(error.code());
    require(fault != http::Fault::kNone, error.what());
    seen += std::string("! ").append(http::text_of(fault));
  }
  co_return seen;
}

std::string read_pieces(const PieceList& pieces, std::size_t room) {
  const MaybeShortIo io;
  return testing::play([&]() -> Task<std::string> {
    Fed fed;
    auto feeder = spawn(feed, std::move(fed.far), pieces);
    std::string seen = co_await requests_of(fed.stream, room);
    feeder.kill();  // after a fault nobody reads what is left
    co_return seen;
  });
}

/// What is read of a text, which is the same however it comes.
std::string read_text(std::string_view text) {
  const std::string whole = read_pieces({text}, 0);
  CHECK(read_pieces(cut_each(text, 1), 0) == whole);
  CHECK(read_pieces(cut_each(text, 7), 0) == whole);
  for (const std::size_t room : {1u, 2u, 5u, 1000u}) {
    CHECK(read_pieces({text}, room) == whole);
    CHECK(read_pieces(cut_each(text, 1), room) == whole);
    CHECK(read_pieces(cut_at_random(text, room), room) == whole);
  }
  return whole;
}

constexpr std::string_view kThree =
    "PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
    "GET /b HTTP/1.1\r\nHost: h\r\n\r\n"
    "POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    "3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nTrailer: t\r\n\r\n"sv;

}  // namespace

TEST_CASE("http wire: requests come one after the other, however they are cut",
          "[http]") {
  CHECK(read_text(kThree) == "PUT /a [hello] GET /b [] POST /c [abcdefg] end");
  CHECK(read_text("") == "end");
  CHECK(read_text("\r\n") == "end");
}

TEST_CASE("http wire: what is wrong is thrown with its fault", "[http]") {
  CHECK(read_text("GET / HTTP/1.1\r\nHost: h\n\r\n") ==
        "! a line ends in LF without CR");
  CHECK(read_text("GE") == "! " + std::string(text_of(http::Fault::kCutShort)));
  CHECK(
      read_text("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhell") ==
      "PUT / [hell! " + std::string(text_of(http::Fault::kCutShort)));
  CHECK(read_text("PUT / HTTP/1.1\r\nHost: h\r\n"
                  "Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n") ==
        "PUT / [abc! " + std::string(text_of(http::Fault::kBadChunkEnd)));
}

TEST_CASE("http wire: errors name call and peer, or are codes",
          "[http][libkqueue:so_error]") {
  play([]() -> Task<> {
    Fed fed(co_await tcp_ends());
    co_await fed.far.sendall("nonsense\r\n\r\n");
    http::RequestParser parser;
    std::error_code code;
    const bool there = co_await http::read_head(fed.stream, parser, code);
    CHECK_FALSE(there);
    CHECK(code == make_error_code(http::Fault::kBadRequestLine));
    std::string what;
    try {
      co_await http::read_head(fed.stream, parser);
    } catch (const std::system_error& error) {
      what = error.what();
    }
    CHECK(what.find("read_head 127.0.0.1:") == 0);
    CHECK(what.find(text_of(http::Fault::kBadRequestLine)) != what.npos);
    reset(fed.far);
    http::RequestParser another;
    co_await http::read_head(fed.stream, another, code);
    CHECK(code == std::errc::connection_reset);
    http::BodyReader body(fed.stream, {http::BodyKind::kLength, 1});
    co_await body.read(code);
    CHECK(code == std::errc::connection_reset);
    fed.stream.drop();
    co_await body.read(code);
    CHECK(code == std::errc::bad_file_descriptor);
  });
}

TEST_CASE("http wire: a large body goes straight into the caller's memory",
          "[http]") {
  const MaybeShortIo io;
  const std::string text = random_bytes(300'000);
  play([&]() -> Task<> {
    Fed fed;
    auto feeder = spawn(feed, std::move(fed.far),
                        PieceList{std::string_view(text), "next"});
    http::BodyReader body(fed.stream, {http::BodyKind::kLength, text.size()});
    std::string got(400'000, '\0');
    std::size_t size = 0;
    while (!body.done()) {
      const std::span<char> room(got.data() + size, got.size() - size);
      const std::size_t count = co_await body.read(room);
      size += count;
    }
    got.resize(size);
    CHECK(got == text);  // and nothing of what follows
    CHECK(body.count() == text.size());
    const Piece next = co_await fed.stream.read_exactly(4);
    CHECK(next.view() == "next");
    co_await join(feeder);
  });
}

TEST_CASE("http wire: read_all has a limit", "[http]") {
  play([]() -> Task<> {
    Fed fed;
    co_await fed.far.sendall("12345678");
    http::BodyReader four(fed.stream, {http::BodyKind::kLength, 4});
    const std::string all = co_await four.read_all(4);
    CHECK(all == "1234");
    http::BodyReader more(fed.stream, {http::BodyKind::kLength, 4});
    std::size_t limit = 0;
    try {
      co_await more.read_all(3);
    } catch (const LimitExceeded& error) {
      limit = error.limit();
    }
    CHECK(limit == 3);
  });
}

TEST_CASE("http wire: a limit of time ends a wait and loses nothing",
          "[http]") {
  play([]() -> Task<> {
    Fed fed;
    http::RequestParser parser;
    co_await fed.far.sendall("PUT / HTTP/1.1\r\nHo");
    auto head = co_await within(1s, http::read_head(fed.stream, parser));
    CHECK_FALSE(head);
    co_await fed.far.sendall("st: h\r\nContent-Length: 3\r\n\r\nab");
    head = co_await within(1s, http::read_head(fed.stream, parser));
    REQUIRE(head);
    http::BodyReader body(fed.stream, http::body_of(parser.head()));
    auto piece = co_await within(1s, body.read());
    CHECK(piece == "ab"sv);
    piece = co_await within(1s, body.read());
    CHECK_FALSE(piece);
    co_await fed.far.sendall("c");
    piece = co_await within(1s, body.read());
    CHECK(piece == "c"sv);
  });
}

TEST_CASE("http wire: what is written is read again", "[http]") {
  const MaybeShortIo io;
  const std::string text = random_bytes(200'000);
  for (const auto kind : {http::BodyKind::kLength, http::BodyKind::kChunked,
                          http::BodyKind::kUntilClose}) {
    const std::string got = testing::play([&]() -> Task<std::string> {
      Fed fed;
      Stream out(std::move(fed.far));
      const http::Framing framing{kind, kind == http::BodyKind::kLength
                                            ? text.size()
                                            : std::uint64_t{0}};
      auto writes = [&]() -> Task<> {
        http::BodyWriter body(out, framing);
        for (const auto piece : cut_at_random(text, 3)) {
          co_await body.write(piece);
        }
        CHECK_FALSE(body.finished());
        co_await body.finish();
        co_await body.finish();  // for who is not sure
        CHECK(body.finished());
        CHECK(body.count() == text.size());
        co_await out.close();
      };
      auto writer = spawn(writes);
      http::BodyReader body(fed.stream, framing);
      std::string all = co_await body.read_all(text.size());
      co_await join(writer);
      co_return all;
    });
    CHECK(got == text);
  }
}

TEST_CASE("http wire: a body is as long as it was said to be", "[http]") {
  play([]() -> Task<> {
    Fed fed;
    const auto misuse_of = [](Task<> task) -> Task<std::string> {
      std::string what;
      try {
        co_await std::move(task);
      } catch (const Misuse& misuse) {
        what = misuse.what();
      }
      co_return what;
    };
    http::BodyWriter three(fed.stream, {http::BodyKind::kLength, 3});
    co_await three.write("ab");
    std::string what = co_await misuse_of(three.write("cd"));
    CHECK(what.find("a body of 3 bytes was begun; 4 are too many") !=
          what.npos);
    what = co_await misuse_of(three.finish());
    CHECK(what.find("ends after 2") != what.npos);
    co_await three.write("c");
    co_await three.finish();
    what = co_await misuse_of(three.write("d"));
    CHECK(what.find("is finished") != what.npos);
    http::BodyWriter none(fed.stream, http::Framing());
    what = co_await misuse_of(none.write("x"));
    CHECK(what.find("a body of 0 bytes") != what.npos);
    co_await fed.stream.flush();
    fed.stream.drop();
    const std::string sent = co_await receive_all(fed.far);
    CHECK(sent == "abc");
  });
}

TEST_CASE("http wire: a server that waits in a head is not idle", "[http]") {
  play([]() -> Task<> {
    Fed fed;
    http::RequestParser parser;
    auto reader = spawn(
        [](Stream& from, http::RequestParser& to) -> Task<> {
          co_await http::read_head(from, to);
        },
        std::ref(fed.stream), std::ref(parser));
    co_await testing::wait_all_blocked();
    CHECK(parser.idle());
    co_await fed.far.sendall("GET / HT");
    co_await testing::wait_all_blocked();
    CHECK_FALSE(parser.idle());
    CHECK_FALSE(reader.block()->event->idle());
    reader.kill();
  });
}

namespace {

/// Readers that are killed, each of which goes on where the last one was.
struct Relay {
  Relay() noexcept {}

  http::RequestParser parser;
  std::optional<http::BodyReader> body;
  std::string seen;
  bool ended = false;
  bool cut = false;  // who sends was killed

  Task<> read_on(const Stream& in) {
    std::error_code code;
    while (!ended) {
      if (!body) {
        const bool there = co_await http::read_head(in, parser, code);
        ended = !there;
        if (there) body.emplace(in, http::body_of(parser.head()));
      }
      while (body && !body->done() && !ended) {
        const std::string_view piece = co_await body->read(code);
        seen += piece;
        ended = bool(code);
      }
      if (ended) break;
      seen += ";";
      parser.next();
      body.reset();
    }
  }
};

}  // namespace

TEST_CASE("http wire: a kill anywhere loses no byte", "[http][kill]") {
  const auto body = [](Relay& relay) -> Task<> {
    Fed fed;
    TaskGroup group;  // goes before what its jobs use
    auto feeder = group.spawn(feed, std::move(fed.far), cut_each(kThree, 9));
    while (!relay.ended) {
      auto reader =
          group.spawn(&Relay::read_on, std::ref(relay), std::cref(fed.stream));
      co_await wait(reader);
    }
    co_await wait(feeder);
    relay.cut = feeder.killed();
  };
  const auto check = [](const Relay& relay) {
    constexpr std::string_view kSeen = "hello;;abcdefg;";
    require(kSeen.substr(0, relay.seen.size()) == relay.seen, "wrong bytes");
    require(!relay.ended || relay.cut || relay.seen == kSeen, "bytes missing");
  };
  testing::Options options;
  options.seeds = 200;
  const auto counts = testing::kill_everywhere<Relay>(body, check, options);
  CHECK(counts.waits > 20);
}
