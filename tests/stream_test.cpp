// stream_test.cpp - lines, blocks and buffered writing over whatever flows.
// SPDX-License-Identifier: MIT
#include "../net/stream.hpp"

#include <algorithm>
#include <chrono>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "../runtime/combine.hpp"
#include "../runtime/random.hpp"
#include "../runtime/testing.hpp"
#include "catch.hpp"
#include "sockets.hpp"

using namespace sockets;

namespace {

using Lines = std::vector<std::string>;
using Texts = std::vector<std::string_view>;
using std::string_view;
constexpr std::size_t kBuffer = violet::internal::BufferPool::kBytes;

/// What fails a run of the kit: it must throw.
void require(bool holds, const char* what) {
  if (!holds) throw std::runtime_error(what);
}

/// Runs a body in a world of its own; nothing is left of it.
template <class F>
void in_world(F body) {
  const MaybeShortIo io;
  play(body);
}

testing::Options networked() {
  testing::Options options;
  options.network = true;
  return options;
}

/// A stream, and the other end of what it is over.
struct Fed {
  Fed() : Fed(connected_pair()) {}
  explicit Fed(Ends ends)
      : stream(std::move(ends.first)), far(std::move(ends.second)) {}
  Stream stream;
  Connection far;
};

/// Sends segment by segment; each is read before the next one comes.
Task<> feed(Connection& to, Texts segments) {
  for (const string_view segment : segments) {
    co_await to.sendall(segment);
    co_await testing::wait_all_blocked();
  }
  to.close();
}

Task<> send_and_close(Connection& to, string_view text) {
  co_await to.sendall(text);
  to.close();
}

Task<Lines> lines_of(Stream& in) {
  Lines lines;
  while (auto line = co_await in.readline()) {
    lines.emplace_back(line.view());
    if (!line.terminated()) lines.back() += "<end>";
  }
  co_return lines;
}

/// All lines of what comes in these segments.
Lines lines_from(const Texts& segments) {
  Lines lines;
  in_world([&]() -> Task<> {
    Fed fed;
    auto feeder = spawn(feed, std::ref(fed.far), segments);
    lines = co_await lines_of(fed.stream);
    co_await join(feeder);
  });
  return lines;
}

/// Pieces up to separators, as "0:text", and what the end left, as "end:text".
Task<Lines> pieces_of(Stream& in, Separators separators) {
  Lines pieces;
  for (;;) {
    std::error_code code;
    const Piece piece = co_await in.read_until(separators, code);
    if (code == StreamError::kEndOfStream) {
      pieces.push_back("end:" + std::string(in.buffered()));
      co_return pieces;
    }
    require(!code, "read_until fails");
    pieces.push_back(std::to_string(piece.separator()) + ":" +
                     std::string(piece.view()));
  }
}

Lines pieces_from(const Texts& segments, Separators separators) {
  Lines pieces;
  in_world([&]() -> Task<> {
    Fed fed;
    auto feeder = spawn(feed, std::ref(fed.far), segments);
    pieces = co_await pieces_of(fed.stream, separators);
    co_await join(feeder);
  });
  return pieces;
}

/// The segments of a text that the bits of `cuts` stand for.
Texts split(string_view text, unsigned cuts) {
  Texts segments;
  std::size_t from = 0;
  for (std::size_t i = 1; i <= text.size(); ++i) {
    const bool cut = i == text.size() || ((cuts >> (i - 1)) & 1) != 0;
    if (!cut) continue;
    segments.push_back(text.substr(from, i - from));
    from = i;
  }
  return segments;
}

/// Calls visit(segments) for each way to cut a text.
template <class Visit>
void each_split(string_view text, Visit visit) {
  for (unsigned cuts = 0; cuts < (1u << (text.size() - 1)); ++cuts) {
    visit(split(text, cuts));
  }
}

/// Answers recv() from memory, in pieces of one size, and counts the memory
/// that is asked for.
class Scripted final : public sys::Calls {
 public:
  ssize_t recv(int fd, void* data, std::size_t size,
               int flags) noexcept override {
    if (piece == 0) return Calls::recv(fd, data, size, flags);
    const std::size_t count = std::min({size, piece, text.size() - at});
    std::memcpy(data, text.data() + at, count);
    at += count;
    return static_cast<ssize_t>(count);
  }
  void* allocate(std::size_t size) noexcept override {
    ++allocations;
    largest = std::max(largest, size);
    return Calls::allocate(size);
  }

  std::string text;
  std::size_t piece = 0;  // 0: the kernel answers
  std::size_t at = 0;
  std::size_t largest = 0;
  int allocations = 0;
};

/// Runs body(stream) where the stream reads `text` piece by piece.
template <class Body>
void over_memory(std::string text, std::size_t piece, Scripted& calls,
                 Body body) {
  calls.text = std::move(text);
  play([&]() -> Task<> {
    Fed fed;
    co_await fed.far.sendall("x");  // or nobody would look
    calls.piece = piece;
    const support::ScopedCalls answered(calls);
    co_await body(fed.stream);
  });
}

std::string run_of(char byte, std::size_t size) {
  std::string text;
  text.resize(size, byte);
  return text;
}

Task<> read_a_line(Stream& in) {
  (void)co_await in.readline();
}

/// More than a peer takes that does not read.
Task<> send_much(Stream& out) {
  const std::string much(4 << 20, 'x');
  co_await out.sendall(much);
}

Task<> write_y(Stream& out) {
  co_await out.write("y");
}

Task<std::string> error_of_reading(Stream& in) {
  co_return co_await error_of(read_a_line(in));
}

Task<std::string> error_of_sending(Stream& out) {
  co_return co_await error_of(send_much(out));
}

}  // namespace

// ----------------------------------------------------------------------- lines

TEST_CASE("stream: lines end with a newline, with or without a return",
          "[stream]") {
  CHECK(lines_from({"one\ntwo\r\n\n\r\nlast\n"}) ==
        Lines{"one", "two", "", "", "last"});
}

TEST_CASE("stream: a last line may end with the stream", "[stream]") {
  CHECK(lines_from({"one\ntwo"}) == Lines{"one", "two<end>"});
  CHECK(lines_from({"\r"}) == Lines{"\r<end>"});
  CHECK(lines_from({}) == Lines{});
  CHECK(lines_from({"\n"}) == Lines{""});
  CHECK(lines_from({"a\rb\r\r\n"}) == Lines{"a\rb\r"});
}

TEST_CASE("stream: however a text is split, its lines are the same",
          "[stream]") {
  constexpr string_view text = "a\r\n\nb\r\r\nc\r";
  const Lines whole = {"a", "", "b\r", "c\r<end>"};
  each_split(text, [&](const Texts& segments) {
    REQUIRE(lines_from(segments) == whole);
  });
}

TEST_CASE("stream: a line may have another end", "[stream]") {
  in_world([]() -> Task<> {
    Fed fed;
    auto feeder = spawn(send_and_close, std::ref(fed.far),
                        borrow(string_view("a\r;b\n;;c::d::e", 14)));
    std::string text;
    for (int i = 0; i < 3; ++i) {
      const Piece piece = co_await fed.stream.readline(';');
      text += "<" + std::string(piece.view()) + ">";
    }
    CHECK(text == "<a\r><b\n><>");
    Piece piece = co_await fed.stream.readline("::");
    CHECK(piece.view() == "c");
    piece = co_await fed.stream.readline("::");
    CHECK(piece.view() == "d");
    CHECK(piece.terminated());
    piece = co_await fed.stream.readline("::");
    CHECK(piece.view() == "e");
    CHECK_FALSE(piece.terminated());
    piece = co_await fed.stream.readline("::");
    CHECK_FALSE(piece);
    piece = co_await fed.stream.readline();
    CHECK_FALSE(piece);
    co_await join(feeder);
  });
}

// ------------------------------------------------------------------ separators

TEST_CASE("stream: separators may overlap with what comes before", "[stream]") {
  CHECK(pieces_from({"aaab"}, "aab") == Lines{"0:a", "end:"});
  CHECK(pieces_from({"abababc-"}, "ababc") == Lines{"0:ab", "end:-"});
  CHECK(pieces_from({"----x"}, "---") == Lines{"0:", "end:-x"});
}

TEST_CASE("stream: the earliest separator wins, then the longest", "[stream]") {
  CHECK(pieces_from({"head\n\nbody\r\n\r\n"}, {"\r\n\r\n", "\n\n"}) ==
        Lines{"1:head", "0:body", "end:"});
  CHECK(pieces_from({"a,b,,c"}, {",", ",,"}) == Lines{"0:a", "1:b", "end:c"});
  CHECK(pieces_from({"xabcd"}, {"bc", "abcd"}) == Lines{"1:x", "end:"});
  CHECK(pieces_from({"xabce"}, {"bc", "abcd"}) == Lines{"0:xa", "end:e"});
  // What could have become a longer one has not.
  CHECK(pieces_from({"a,"}, {",", ",,"}) == Lines{"0:a", "end:"});
}

TEST_CASE("stream: however a text is split, its pieces are the same",
          "[stream]") {
  constexpr string_view text = "aaab\r\n\r\n\n\n";
  const Separators separators = {"aab", "\r\n\r\n", "\n\n", "\n"};
  const Lines whole = pieces_from({text}, separators);
  CHECK(whole == Lines{"0:a", "1:", "2:", "end:"});
  each_split(text, [&](const Texts& segments) {
    REQUIRE(pieces_from(segments, separators) == whole);
  });
}

TEST_CASE("stream: an empty separator is refused", "[stream]") {
  CHECK_THROWS_AS(Separators(""), Misuse);
  CHECK_THROWS_AS(Separators("a", ""), Misuse);
  CHECK_NOTHROW(Separators("1", "2", "3", "4"));
  STATIC_REQUIRE_FALSE(
      std::is_constructible_v<Separators, string_view, string_view, string_view,
                              string_view, string_view>);
}

// ---------------------------------------------------------------------- limits

TEST_CASE("stream: a line over the limit is an error and stays where it is",
          "[stream]") {
  in_world([]() -> Task<> {
    Fed fed;
    auto feeder = spawn(send_and_close, std::ref(fed.far),
                        borrow(string_view("12345\r\n123456\nrest")));
    Piece line = co_await fed.stream.readline(5);
    CHECK(line.view() == "12345");
    std::optional<LimitExceeded> error;
    try {
      (void)co_await fed.stream.readline(5);
    } catch (const LimitExceeded& e) {
      error = e;
    }
    REQUIRE(error);
    CHECK(error->limit() == 5);
    CHECK(error->code() == StreamError::kLimitExceeded);
    const std::string what =
        "readline " + fed.stream.name() + ", limit 5 bytes: too long";
    CHECK(error->what() == what);
    std::error_code code;
    line = co_await fed.stream.readline(code, 5);
    CHECK(code == StreamError::kLimitExceeded);
    CHECK_FALSE(line);
    line = co_await fed.stream.readline(6);
    CHECK(line.view() == "123456");
    line = co_await fed.stream.readline();
    CHECK(line.view() == "rest");
    co_await join(feeder);
  });
}

TEST_CASE("stream: a limit means the same however a text is split",
          "[stream]") {
  const auto outcome = [](const Texts& segments, std::size_t limit,
                          bool until) {
    std::string text;
    in_world([&]() -> Task<> {
      Fed fed;
      auto feeder = spawn(feed, std::ref(fed.far), segments);
      std::error_code code;
      Piece piece;
      if (until) {
        piece = co_await fed.stream.read_until({"\r\n", "xy"}, code, limit);
      } else {
        piece = co_await fed.stream.readline(code, limit);
      }
      text = code ? code.message() : std::string(piece.view());
      co_await join(feeder);
    });
    return text;
  };
  for (const string_view text :
       {"abc\r\n", "abcd\n", "abc\r", "abcx", "abcxy", "abcd"}) {
    for (const std::size_t limit : {3u, 4u}) {
      const std::string line = outcome({text}, limit, false);
      const std::string piece = outcome({text}, limit, true);
      INFO(text << " " << limit);
      each_split(text, [&](const Texts& segments) {
        REQUIRE(outcome(segments, limit, false) == line);
        REQUIRE(outcome(segments, limit, true) == piece);
      });
    }
  }
  CHECK(outcome({"abc\r\n"}, 3, false) == "abc");
  CHECK(outcome({"abc\r"}, 3, false) == "too long");
  CHECK(outcome({"abcd\n"}, 3, false) == "too long");
  CHECK(outcome({"abcx"}, 3, true) == "too long");
  CHECK(outcome({"abcx"}, 4, true) == "the stream has ended");
}

TEST_CASE("stream: no more memory is taken than the limit asks for",
          "[stream]") {
  Scripted calls;
  over_memory(std::string(10 << 20, 'a'), 1 << 20, calls,
              [](Stream& in) -> Task<> {
                std::error_code code;
                (void)co_await in.readline(code);
                CHECK(code == StreamError::kLimitExceeded);
                (void)co_await in.read_until("\n", code, 100);
                CHECK(code == StreamError::kLimitExceeded);
              });
  CHECK(calls.largest <= kBuffer + 2);
  CHECK(calls.at <= kBuffer + 2);
}

TEST_CASE("stream: a buffer grows to the limit and not to more", "[stream]") {
  Scripted calls;
  over_memory(run_of('a', 1'000'000).append("\nb\n"), 300'000, calls,
              [&](Stream& in) -> Task<> {
                Piece line = co_await in.readline(1'000'000);
                CHECK(line.size() == 1'000'000);
                line = co_await in.readline(1'000'000);
                CHECK(line.view() == "b");
              });
  CHECK(calls.largest <= 1'000'002);
}

TEST_CASE("stream: a long line that comes byte by byte is searched once",
          "[stream]") {
  // Searched anew for each byte, this would take minutes.
  constexpr std::size_t kSize = 2 << 20;
  const auto begin = std::chrono::steady_clock::now();
  Scripted calls;
  std::string text = run_of('a', kSize).append("\r\n");
  text.append(run_of('b', kSize)).append(";");
  over_memory(text, 1, calls, [&](Stream& in) -> Task<> {
    Piece line = co_await in.readline(kSize);
    CHECK(line.size() == kSize);
    line = co_await in.read_until({"bx", ";"}, kSize);
    CHECK(line.size() == kSize);
  });
  CHECK(std::chrono::steady_clock::now() - begin < 40s);
}

// ---------------------------------------------------------------------- blocks

TEST_CASE("stream: what follows a line is read first, without waiting",
          "[stream]") {
  in_world([]() -> Task<> {
    Fed fed;
    co_await fed.far.sendall("line\nleft over");
    Piece piece = co_await fed.stream.peek(14);
    CHECK(piece.view() == "line\nleft over");
    piece = co_await fed.stream.readline();
    CHECK(piece.view() == "line");
    CHECK(fed.stream.buffered() == "left over");
    CHECK(fed.stream.position() == 5);
    fed.stream.consume(1);
    char bytes[3];
    const std::size_t got = co_await fed.stream.read(bytes);
    CHECK(string_view(bytes, got) == "eft");
    piece = co_await fed.stream.read();
    CHECK(piece.view() == " over");
    CHECK(fed.stream.position() == 14);
    fed.far.close();
    piece = co_await fed.stream.read();
    CHECK_FALSE(piece);
    const std::size_t none = co_await fed.stream.read(bytes);
    CHECK(none == 0);
    CHECK(fed.stream.ended());
  });
}

TEST_CASE("stream: a number of bytes comes whole", "[stream]") {
  in_world([]() -> Task<> {
    Fed fed;
    const std::size_t large = MaybeShortIo::wanted() ? 70'000 : 1'000'000;
    const std::string data = random_bytes(2 * large + 10);
    auto feeder =
        spawn(send_and_close, std::ref(fed.far), borrow(string_view(data)));
    Piece piece = co_await fed.stream.read_exactly(std::size_t{0});
    CHECK(piece);
    CHECK(piece.size() == 0);
    piece = co_await fed.stream.read_exactly(std::size_t{6});
    CHECK(piece.view() == data.substr(0, 6));
    piece = co_await fed.stream.read_exactly(large);
    CHECK((piece.view() == string_view(data).substr(6, large)));
    std::string text(large, '\0');
    const std::size_t got = co_await fed.stream.read_exactly(text);
    CHECK(got == large);
    CHECK((text == string_view(data).substr(6 + large, large)));
    const std::size_t none =
        co_await fed.stream.read_exactly(std::span<char>());
    CHECK(none == 0);
    char rest[4];
    co_await fed.stream.read_exactly(rest);
    CHECK((string_view(rest, 4) == string_view(data).substr(6 + 2 * large)));
    piece = co_await fed.stream.peek(1);
    CHECK_FALSE(piece);
    CHECK(fed.stream.position() == data.size());
    co_await join(feeder);
  });
}

TEST_CASE("stream: an early end tells what had come, and leaves it",
          "[stream]") {
  in_world([]() -> Task<> {
    Fed fed;
    co_await send_and_close(fed.far, "abcde");
    std::string partial;
    std::string what;
    try {
      (void)co_await fed.stream.read_exactly(std::size_t{6});
    } catch (const EndOfStream& e) {
      partial = e.partial();
      what = e.what();
      CHECK(e.code() == StreamError::kEndOfStream);
    }
    CHECK(partial == "abcde");
    CHECK(what == "read_exactly " + fed.stream.name() +
                      " after 5 bytes: the stream has ended");
    try {
      (void)co_await fed.stream.read_until("x");
    } catch (const EndOfStream& e) {
      partial = e.partial() + "!";
    }
    CHECK(partial == "abcde!");
    std::error_code code;
    std::string large(100'000, '\0');
    const std::size_t none = co_await fed.stream.read_exactly(large, code);
    CHECK(code == StreamError::kEndOfStream);
    CHECK(none == 0);
    CHECK(fed.stream.buffered() == "abcde");
    CHECK(fed.stream.position() == 0);
    const Piece rest = co_await fed.stream.read_exactly(std::size_t{5});
    CHECK(rest.view() == "abcde");
  });
}

TEST_CASE("stream: bytes are shown, skipped, and read to the end", "[stream]") {
  in_world([]() -> Task<> {
    Fed fed;
    const std::size_t large = MaybeShortIo::wanted() ? 66'000 : 300'000;
    const std::string data = random_bytes(large + 6);
    auto feeder =
        spawn(send_and_close, std::ref(fed.far), borrow(string_view(data)));
    Piece piece = co_await fed.stream.peek(3);
    CHECK(piece.view() == data.substr(0, 3));
    piece = co_await fed.stream.peek(0);
    CHECK(piece.size() == 0);
    const std::uint64_t skipped = co_await fed.stream.skip(large);
    CHECK(skipped == large);
    std::error_code code;
    piece = co_await fed.stream.read_all(5, code);
    CHECK(code == StreamError::kLimitExceeded);
    piece = co_await fed.stream.peek(100);
    CHECK(piece.size() == 6);
    piece = co_await fed.stream.read_all(6);
    CHECK((piece.view() == string_view(data).substr(large)));
    piece = co_await fed.stream.read_all(6);
    CHECK_FALSE(piece);
    const std::uint64_t none = co_await fed.stream.skip(1);
    CHECK(none == 0);
    co_await join(feeder);
  });
}

// -------------------------------------------------------------- ends and
// errors

TEST_CASE("stream: a reset in the middle of a line is an error for good",
          "[stream]") {
  testing::play(
      []() -> Task<> {
        auto [near, far] = testing::network().pair();
        Stream in{Connection(std::move(near))};
        Connection out{std::move(far)};
        co_await out.sendall("whole\npart");
        const Piece line = co_await in.readline();
        CHECK(line.view() == "whole");
        CHECK(in.buffered() == "part");
        testing::network().reset(out.fd());
        for (int i = 0; i < 3; ++i) {
          const std::string error = co_await error_of(read_a_line(in));
          CHECK(error == "readline " + in.name() + ": " +
                             support::text_of_error(ECONNRESET));
        }
        CHECK(in.buffered() == "part");
      },
      networked());
}

TEST_CASE("stream: a reset by a TCP peer is told with its address",
          "[stream]") {
  in_world([]() -> Task<> {
    Fed fed(co_await tcp_ends());
    CHECK(fed.stream.name() == fed.stream.connection().peer().text());
    co_await fed.far.sendall("part");
    reset_on_close(fed.far.fd());
    const Piece part = co_await fed.stream.peek(4);
    CHECK(part.view() == "part");
    fed.far.close();
    const std::string error = co_await error_of(read_a_line(fed.stream));
    CHECK(error == "readline " + fed.stream.name() + ": " +
                       support::text_of_error(ECONNRESET));
  });
}

TEST_CASE("stream: a half-closed peer is still written to", "[stream]") {
  in_world([]() -> Task<> {
    Fed fed(co_await tcp_ends());
    co_await fed.far.sendall("bye");
    fed.far.shutdown(Half::kSending);
    const Piece all = co_await fed.stream.read_all(100);
    CHECK(all.view() == "bye");
    co_await fed.stream.write("and ");
    co_await fed.stream.write("welcome");
    co_await fed.stream.shutdown();
    const std::string text = co_await receive_all(fed.far);
    CHECK(text == "and welcome");
  });
}

TEST_CASE("stream: a closed one says so", "[stream]") {
  in_world([]() -> Task<> {
    Stream none;
    CHECK_FALSE(none);
    std::error_code code;
    (void)co_await none.readline(code);
    CHECK(code == std::errc::bad_file_descriptor);
    (void)co_await none.write("x", code);
    CHECK(code == std::errc::bad_file_descriptor);
    Fed fed;
    CHECK(fed.stream);
    co_await fed.far.sendall("line\nmore\n");
    (void)co_await fed.stream.readline();
    co_await fed.stream.write("last");
    co_await fed.stream.close();
    CHECK_FALSE(fed.stream);
    co_await fed.stream.close();
    (void)co_await fed.stream.readline(code);
    CHECK(code == std::errc::bad_file_descriptor);
    (void)co_await fed.stream.write("x", code);
    CHECK(code == std::errc::bad_file_descriptor);
    co_await fed.stream.flush(code);
    CHECK(code == std::errc::bad_file_descriptor);
    const std::string text = co_await receive(fed.far, 4);
    CHECK(text == "last");
  });
}

// ----------------------------------------------------------- who reads and
// when

TEST_CASE("stream: one job reads and another writes; no more", "[stream]") {
  in_world([]() -> Task<> {
    Fed fed;
    auto reader = spawn(read_a_line, std::ref(fed.stream));
    co_await settle();
    const std::string error = co_await error_of(read_a_line(fed.stream));
    CHECK(contains(error, "another job waits for the same already"));
    CHECK(contains(error, "readline "));
    CHECK_THROWS_AS(fed.stream.consume(1), Misuse);
    co_await fed.stream.sendall("to the peer");
    const std::string got = co_await receive(fed.far, 11);
    CHECK(got == "to the peer");
    co_await fed.far.sendall("\n");
    co_await join(reader);

    auto writer = spawn(send_much, std::ref(fed.stream));
    co_await settle();
    const std::string second = co_await error_of(write_y(fed.stream));
    CHECK(contains(second, "another job waits for the same already"));
    co_await fed.far.sendall("line\n");
    const Piece line = co_await fed.stream.readline();
    CHECK(line.view() == "line");
    writer.kill();
  });
}

TEST_CASE("stream: closing it wakes whoever reads or writes", "[stream]") {
  in_world([]() -> Task<> {
    const std::string closed = support::text_of_error(EBADF);
    for (int way = 0; way < 3; ++way) {
      Fed fed;
      Stream stream(std::move(fed.stream));
      auto reader = spawn(error_of_reading, std::ref(stream));
      auto writer = spawn(error_of_sending, std::ref(stream));
      co_await settle();
      if (way == 0) {
        stream.drop();
      } else if (way == 1) {
        stream = Stream();
      } else {
        writer.kill();
        co_await stream.close();
      }
      const std::string read_error = co_await join(reader);
      CHECK(contains(read_error, closed));
      if (way == 2) continue;
      const std::string write_error = co_await join(writer);
      CHECK(contains(write_error, closed));
    }
  });
}
