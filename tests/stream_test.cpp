// stream_test.cpp - lines, blocks and buffered writing over whatever flows.
// SPDX-License-Identifier: MIT
#include "../net/stream.hpp"

#include <algorithm>
#include <chrono>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
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
    if (size >= kBuffer) ++buffers;
    largest = std::max(largest, size);
    return Calls::allocate(size);
  }

  std::string text;
  std::size_t piece = 0;  // 0: the kernel answers
  std::size_t at = 0;
  std::size_t largest = 0;
  int allocations = 0;
  int buffers = 0;  // of the pool, or larger
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

Task<std::string> line_of(Stream& in) {
  const Piece line = co_await in.readline();
  co_return std::string(line.view());
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

TEST_CASE("stream: a separator is found wherever it begins", "[stream]") {
  // The search goes from part to part; the first two end at 256 and at 768.
  for (const std::size_t end : {256u, 768u}) {
    for (std::size_t at = end - 4; at <= end + 2; ++at) {
      const std::string before(at, 'x');
      const std::string text = before + "\r\n" + before + "\r\r\nrest";
      const Lines pieces = pieces_from({text}, {"\r\r\n", "\r\n", "\1"});
      REQUIRE(pieces == Lines{"1:" + before, "0:" + before, "end:rest"});
    }
  }
}

TEST_CASE("stream: one separator that never comes does not slow the others",
          "[stream]") {
  // With all of it looked through for each line, this took half a minute.
  constexpr std::size_t kLines = 300'000;
  std::string text;
  for (std::size_t i = 0; i < kLines; ++i) text += "0123456789\n";
  std::size_t lines = 0;
  in_world([&]() -> Task<> {
    Fed fed;
    auto feeder =
        spawn(send_and_close, std::ref(fed.far), borrow(string_view(text)));
    co_await fed.stream.peek(text.size());
    while (co_await fed.stream.readline({"\n", "\1"})) ++lines;
    co_await join(feeder);
  });
  CHECK(lines == kLines);
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
  constexpr std::size_t kSize = support::kSanitized ? 1 << 19 : 3 << 19;
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

// ------------------------------------------------------------- ends and errors

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
          "[stream][libkqueue:so_error]") {
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

// ---------------------------------------------------------- who reads and when

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

TEST_CASE("stream: a stream may move while a job waits on it", "[stream]") {
  in_world([]() -> Task<> {
    Fed fed;
    auto reader = spawn(line_of, std::ref(fed.stream));
    co_await settle();
    const Stream moved = std::move(fed.stream);
    CHECK_FALSE(fed.stream);
    co_await fed.far.sendall("line\n");
    const std::string line = co_await join(reader);
    CHECK(line == "line");
  });
}

TEST_CASE("stream: a limit of time leaves what had come", "[stream]") {
  in_world([]() -> Task<> {
    Fed fed;
    Stream& in = fed.stream;
    co_await fed.far.sendall("some");
    char few[5];
    std::string many(100'000, '\0');
    // Each has looked and wanted more.
    CHECK_FALSE((co_await within(1ms, in.readline())).has_value());
    CHECK_FALSE((co_await within(1ms, in.readline(';'))).has_value());
    CHECK_FALSE((co_await within(1ms, in.readline("--"))).has_value());
    CHECK_FALSE((co_await within(1ms, in.read_until("e-"))).has_value());
    CHECK_FALSE((co_await within(1ms, in.read_exactly(few))).has_value());
    CHECK_FALSE((co_await within(1ms, in.read_exactly(many))).has_value());
    CHECK_FALSE(
        (co_await within(1ms, in.read_exactly(std::size_t{5}))).has_value());
    CHECK_FALSE((co_await within(1ms, in.peek(5))).has_value());
    CHECK_FALSE((co_await within(1ms, in.read_all(100))).has_value());
    CHECK(in.buffered() == "some");
    CHECK(in.position() == 0);
    const Piece piece = co_await in.read();
    CHECK(piece.view() == "some");
    CHECK_FALSE((co_await within(1ms, in.read())).has_value());
    CHECK_FALSE((co_await within(1ms, in.read(few))).has_value());
    CHECK_FALSE((co_await within(1ms, in.read(many))).has_value());
    CHECK(in.position() == 4);
    // Only skipping is not put back.
    co_await fed.far.sendall("more");
    CHECK_FALSE((co_await within(1ms, in.skip(5))).has_value());
    CHECK(in.position() == 8);
  });
}

TEST_CASE("stream: a large read that is killed is put back", "[stream]") {
  in_world([]() -> Task<> {
    Fed fed;
    const std::size_t size = MaybeShortIo::wanted() ? 66'000 : 500'000;
    const std::string data = random_bytes(size);
    auto send_data = [&]() -> Task<> { co_await fed.far.sendall(data); };
    auto feeder = spawn(send_data);
    std::string large(size + 1, '\0');
    const auto got = co_await within(2ms, fed.stream.read_exactly(large));
    CHECK_FALSE(got.has_value());
    const Piece all = co_await fed.stream.read_exactly(size);
    CHECK((all.view() == data));
    co_await join(feeder);
  });
}

TEST_CASE("stream: without memory to put back, reading fails", "[stream]") {
  in_world([]() -> Task<> {
    Fed fed;
    std::string large(100'000, '\0');
    co_await fed.far.sendall("lost");
    class NoMemory final : public sys::Calls {
      void* allocate(std::size_t size) noexcept override {
        return size < 100 ? nullptr : Calls::allocate(size);
      }
    };
    NoMemory calls;
    {
      const support::ScopedCalls answered(calls);
      const auto got = co_await within(1ms, fed.stream.read_exactly(large));
      CHECK_FALSE(got.has_value());
    }
    std::error_code code;
    (void)co_await fed.stream.readline(code);
    CHECK(code == std::errc::not_enough_memory);
  });
}

// -------------------------------------------------------------------- memory

TEST_CASE("stream: lines cost no memory each", "[stream]") {
  Scripted calls;
  int before = 0;
  std::string text;
  for (int i = 0; i < 100'000; ++i) text += "a line\n";
  over_memory(text, 50'000, calls, [&](Stream& in) -> Task<> {
    (void)co_await in.readline();
    before = calls.allocations;
    int lines = 1;
    while (auto line = co_await in.readline()) ++lines;
    CHECK(lines == 100'000);
    CHECK(calls.allocations == before);
  });
}

TEST_CASE("stream: a stream that waits holds little memory", "[stream]") {
  Scripted calls;
  testing::play([&]() -> Task<> {
    const support::ScopedCalls counted(calls);
    std::vector<Fed> all(50);
    std::vector<Job<>> readers;
    for (Fed& fed : all) {
      readers.push_back(spawn(read_a_line, std::ref(fed.stream)));
    }
    co_await testing::wait_all_blocked();
    // One buffer goes round; nobody holds it.
    CHECK(calls.buffers <= 1);
    calls.largest = 0;
    calls.allocations = 0;
    for (Fed& fed : all) co_await fed.far.sendall("half of a line");
    co_await testing::wait_all_blocked();
    CHECK(calls.largest <= violet::internal::StreamCore::kStowed);
    CHECK(calls.allocations <= 52);
    for (Fed& fed : all) co_await fed.far.sendall(" and the rest\n");
    co_await testing::wait_all_blocked();
    for (auto& reader : readers) co_await join(reader);
  });
}

TEST_CASE("stream: what is unread is held in as much memory as it needs",
          "[stream]") {
  if (MaybeShortIo::wanted()) return;  // in single bytes it fits no socket
  in_world([]() -> Task<> {
    // One buffer goes round; what it has had in it is moved.
    std::set<const char*> starts;
    std::vector<Fed> crowd(50);
    const std::string text(2'001, 'x');
    for (Fed& fed : crowd) {
      co_await fed.far.sendall("line\n" + text);
      Piece piece = co_await fed.stream.peek(2'006);
      CHECK(piece.view().size() == 2'006);
      starts.insert(piece.view().data());
      piece = co_await fed.stream.readline();
      fed.stream.compact();
      CHECK(fed.stream.buffered() == text);
      fed.stream.compact();
    }
    CHECK(starts.size() == 1);
    // Then reading goes on, also with nothing.
    for (Fed& fed : crowd) {
      co_await fed.far.sendall("next\n");
      const Piece rest = co_await fed.stream.read_until("next\n");
      CHECK(rest.view() == text);
      fed.stream.compact();
      CHECK(fed.stream.buffered().empty());
      co_await fed.far.sendall("last\n");
      const Piece last = co_await fed.stream.readline();
      CHECK(last.view() == "last");
    }
  });
}

namespace {

/// Small pieces of memory are left, but none for a stream's buffer.
class NoBuffer final : public sys::Layer {
  void* allocate(std::size_t size) noexcept override {
    return size >= kBuffer ? nullptr : Layer::allocate(size);
  }
};

}  // namespace

TEST_CASE("stream: when no memory is left, nothing is lost", "[stream]") {
  in_world([]() -> Task<> {
    Fed fed;
    co_await fed.far.sendall("line\n");
    {
      FaultPlan plan;
      violet::internal::buffer_pool.clear();
      NoBuffer none;
      std::error_code code;
      (void)co_await fed.stream.readline(code);
      CHECK(code == std::errc::not_enough_memory);
      bool thrown = false;
      try {
        (void)co_await fed.stream.readline();
      } catch (const std::bad_alloc&) {
        thrown = true;
      }
      CHECK(thrown);
      (void)co_await fed.stream.write("x", code);
      CHECK(code == std::errc::not_enough_memory);
    }
    const Piece line = co_await fed.stream.readline();
    CHECK(line.view() == "line");
  });
}

TEST_CASE("stream: a read that is refused memory after a wait waits no more",
          "[stream]") {
  testing::play([]() -> Task<> {
    auto ends = connected_pair();
    std::string said;
    const auto reads = [&](Connection conn) -> Task<> {
      const Stream stream(std::move(conn));
      for (int i = 0; i < 2; ++i) {
        std::error_code code;
        const Piece piece = co_await stream.read(code);
        said += code ? code.message() : std::string(piece.view());
        said += ' ';
        if (code) co_await violet::sleep(1s);
      }
    };
    const Job<> job = spawn(reads, std::move(ends.second));
    co_await testing::wait_all_blocked();
    {
      FaultPlan plan;
      violet::internal::buffer_pool.clear();
      NoBuffer none;
      co_await ends.first.sendall("line");
      co_await testing::wait_all_blocked();
    }
    co_await join(job);
    CHECK(said == concat({std::generic_category().message(ENOMEM), " line "}));
  });
}

// -------------------------------------------------------------------- writing

TEST_CASE("stream: what is written goes out when it is flushed", "[stream]") {
  in_world([]() -> Task<> {
    Fed fed;
    const Stream& out = fed.stream;
    std::size_t taken = co_await out.write("one ");
    CHECK(taken == 4);
    co_await out.write(string_view());
    co_await out.write("two ");
    CHECK(out.unsent() == 8);
    CHECK(out.sent_bytes() == 0);
    CHECK(support::get(fed.far.fd()).empty());
    co_await out.flush();
    CHECK(out.unsent() == 0);
    CHECK(out.sent_bytes() == 8);
    co_await out.flush();
    co_await out.write("three ");
    taken = co_await out.sendall("four ");
    CHECK(taken == 5);
    CHECK(out.unsent() == 0);
    taken = co_await out.sendall("five");
    CHECK(taken == 4);
    const std::string text = co_await receive(fed.far, 23);
    CHECK(text == "one two three four five");
    const std::size_t none = co_await out.sendall("");
    CHECK(none == 0);
  });
}

TEST_CASE("stream: a small sendall shares a call with what was written",
          "[stream]") {
  CountedCalls calls;
  play([&]() -> Task<> {
    Fed fed;
    const support::ScopedCalls counted(calls);
    co_await fed.stream.write("head ");
    co_await fed.stream.sendall("body");
    CHECK(calls.sends == 1);
    for (int i = 0; i < 1000; ++i) co_await fed.stream.write("abc");
    co_await fed.stream.flush();
    CHECK(calls.sends == 2);
  });
}

TEST_CASE("stream: a full buffer holds its writer up", "[stream]") {
  in_world([]() -> Task<> {
    Fed fed;
    std::string data = random_bytes(3 << 20);
    if (MaybeShortIo::wanted()) data.resize(500'000);
    bool done = false;
    auto write_all = [&]() -> Task<> {
      string_view rest = data;
      while (!rest.empty()) {
        co_await fed.stream.write(rest.substr(0, 1000));
        rest.remove_prefix(std::min<std::size_t>(rest.size(), 1000));
      }
      co_await fed.stream.flush();
      done = true;
    };
    auto writer = spawn(write_all);
    co_await settle();
    if (!MaybeShortIo::wanted()) CHECK_FALSE(done);
    CHECK(fed.stream.unsent() <= kBuffer);
    const std::string text = co_await receive(fed.far, data.size());
    CHECK((text == data));
    co_await join(writer);
    CHECK(fed.stream.sent_bytes() == data.size());
  });
}

TEST_CASE("stream: large and small pieces keep their order", "[stream]") {
  in_world([]() -> Task<> {
    Fed fed;
    const std::string data =
        random_bytes(MaybeShortIo::wanted() ? 100'000 : 1'000'000);
    auto write_all = [&]() -> Task<> {
      violet::internal::Random random(1);
      string_view rest = data;
      while (!rest.empty()) {
        const std::size_t most = random.below(4) == 0 ? 200'000 : 3000;
        const string_view next = rest.substr(0, random.below(most) + 1);
        if (random.below(3) == 0) {
          co_await fed.stream.sendall(next);
        } else {
          co_await fed.stream.write(next);
        }
        rest.remove_prefix(next.size());
      }
      co_await fed.stream.close();
    };
    auto writer = spawn(write_all);
    const std::string text = co_await receive_all(fed.far);
    CHECK((text == data));
    co_await join(writer);
  });
}

TEST_CASE("stream: a write that runs out of time has taken nothing",
          "[stream]") {
  in_world([]() -> Task<> {
    Fed fed;
    const std::string block(50'000, 'b');
    std::size_t whole = 0;
    for (;;) {
      const auto taken = co_await within(1ms, fed.stream.write(block));
      if (!taken) break;
      ++whole;
    }
    REQUIRE(whole > 0);
    CHECK(fed.stream.sent_bytes() + fed.stream.unsent() ==
          whole * block.size());
    CHECK_FALSE((co_await within(1ms, fed.stream.flush())));
    CHECK_FALSE((co_await within(1ms, fed.stream.close())));
    CHECK(fed.stream);
    auto flush = [&]() -> Task<> { co_await fed.stream.close(); };
    auto flusher = spawn(flush);
    const std::string text = co_await receive_all(fed.far);
    CHECK(text.size() == whole * block.size());
    co_await join(flusher);
  });
}

TEST_CASE("stream: a failure to send reaches whoever writes, and again",
          "[stream]") {
  in_world([]() -> Task<> {
    Fed fed;
    fed.far.close();
    const std::string broken = support::text_of_error(EPIPE);
    co_await fed.stream.write("never read");
    for (int i = 0; i < 2; ++i) {
      auto flush = [&]() -> Task<> { co_await fed.stream.flush(); };
      const std::string error = co_await error_of(flush());
      CHECK(error == "flush " + fed.stream.name() + ": " + broken);
    }
    CHECK(fed.stream.unsent() == 10);
    const std::string send_error = co_await error_of(send_much(fed.stream));
    CHECK(send_error == "sendall " + fed.stream.name() + ": " + broken);
    std::error_code code;
    const std::size_t taken =
        co_await fed.stream.write(std::string(100'000, 'x'), code);
    CHECK(code == std::errc::broken_pipe);
    CHECK(taken == 0);
    auto close = [&]() -> Task<> { co_await fed.stream.close(); };
    const std::string close_error = co_await error_of(close());
    CHECK(close_error == "close " + fed.stream.name() + ": " + broken);
    CHECK_FALSE(fed.stream);
  });
}

TEST_CASE("stream: what failed for want of space is sent later", "[stream]") {
  const MaybeShortIo io;
  class Full final : public sys::Layer {
   public:
    ssize_t write(int fd, const void* data,
                  std::size_t size) noexcept override {
      return full ? -ENOSPC : Layer::write(fd, data, size);
    }
    bool full = true;
  };
  Full disk;
  play([&]() -> Task<> {
    Pair pipe = make_pipe();
    Stream out(adopt(std::move(pipe[1])));
    co_await out.write("kept");
    std::error_code code;
    co_await out.flush(code);
    CHECK(code == std::errc::no_space_on_device);
    CHECK(out.unsent() == 4);
    disk.full = false;
    co_await out.flush();
    CHECK(support::get(pipe[0].get()) == "kept");
  });
}

TEST_CASE("stream: what was not flushed is dropped with the stream",
          "[stream]") {
  in_world([]() -> Task<> {
    Fed fed;
    co_await fed.stream.write("never seen");
    fed.stream = Stream();
    const Chunk end = co_await fed.far.recv();
    CHECK_FALSE(end);
  });
}

// ------------------------------------------------------------- what it is over

TEST_CASE("stream: a pipe is read and written through its ends", "[stream]") {
  in_world([]() -> Task<> {
    Pair pipe = make_pipe(O_CLOEXEC);
    Stream in(adopt(std::move(pipe[0])));
    Stream out(adopt(std::move(pipe[1])));
    CHECK(in.name() == "fd " + std::to_string(in.fd()));
    auto write_lines = [&]() -> Task<> {
      for (int i = 0; i < 20'000; ++i) {
        co_await out.write("line " + std::to_string(i) + "\n");
      }
      co_await out.close();
    };
    auto writer = spawn(write_lines);
    int count = 0;
    while (auto line = co_await in.readline()) {
      require(line.view() == "line " + std::to_string(count++), "wrong line");
    }
    CHECK(count == 20'000);
    co_await join(writer);
    CHECK_THROWS_AS(in.connection(), Misuse);
    std::error_code code;
    co_await in.shutdown(code);
    CHECK(code == std::errc::not_a_socket);
  });
}

TEST_CASE("stream: a borrowed number stays open and as it is", "[stream]") {
  const MaybeShortIo io;
  Pair pipe = make_pipe(O_CLOEXEC);
  play([&]() -> Task<> {
    Stream in(pipe[0].get());
    Stream out(pipe[1].get());
    auto read_two = [&]() -> Task<> {
      Piece line = co_await in.readline();
      CHECK(line.view() == "first");
      line = co_await in.readline();
      CHECK(line.view() == "second");
    };
    auto reader = spawn(read_two);
    co_await settle();
    co_await out.write("first\nsec");
    co_await out.flush();
    co_await settle();
    co_await out.sendall("ond\n");
    co_await join(reader);
    auto stuck = spawn(error_of_reading, std::ref(in));
    co_await settle();
    in.drop();
    const std::string error = co_await join(stuck);
    CHECK(error == "readline fd " + std::to_string(pipe[0].get()) + ": " +
                       support::text_of_error(EBADF));
    co_await out.close();
  });
  for (const Fd& end : pipe) {
    CHECK(support::is_open(end.get()));
    CHECK((::fcntl(end.get(), F_GETFL) & O_NONBLOCK) == 0);
  }
}

TEST_CASE("stream: a regular file is read to its end", "[stream]") {
  const MaybeShortIo io;
  char path[] = "/tmp/violet_test_XXXXXX";
  const Fd file(::mkstemp(path));
  ::unlink(path);
  std::string text;
  for (int i = 0; i < 3000; ++i) text += "line " + std::to_string(i) + "\r\n";
  REQUIRE(support::put(file.get(), text));
  for (const bool borrowed : {true, false}) {
    ::lseek(file.get(), 0, SEEK_SET);
    play([&]() -> Task<> {
      Stream in;
      if (borrowed) {
        in = Stream(file.get());
      } else {
        in = Stream(adopt(Fd(::dup(file.get()))));
      }
      int count = 0;
      while (auto line = co_await in.readline()) {
        require(line.view() == "line " + std::to_string(count++), "wrong");
      }
      CHECK(count == 3000);
    });
  }
}

TEST_CASE("stream: what a slow disk has written is not written again",
          "[stream][threads]") {
  // The piece that a limit or a kill meets on its way is waited for.
  class Disk final : public sys::Calls, public sys::FileCalls {
   public:
    ssize_t write_cached(int, const void*, std::size_t) noexcept override {
      return -EAGAIN;
    }
    ssize_t write(int fd, const void* data,
                  std::size_t size) noexcept override {
      std::this_thread::sleep_for(20ms);
      return Calls::write(fd, data, size);
    }
  };
  Disk disk;
  const support::ScopedCalls scope(disk);
  for (const bool killed : {false, true}) {
    char path[] = "/tmp/violet_test_XXXXXX";
    const Fd file(::mkstemp(path));
    ::unlink(path);
    const auto body = [&]() -> Task<> {
      const Stream out(adopt(Fd(::dup(file.get()))));
      co_await out.write("once");
      if (killed) {
        const auto flushing = [&]() -> Task<> { co_await out.flush(); };
        auto flusher = spawn(flushing);
        co_await sleep(5ms);
        co_await kill(flusher);
      } else {
        (void)co_await within(5ms, out.flush());
      }
      CHECK(out.sent_bytes() == 4);
      co_await out.close();
    };
    run(body());
    char text[10];
    CHECK(::pread(file.get(), text, sizeof text, 0) == 4);
  }
}

TEST_CASE("stream: what is empty ends at once", "[stream]") {
  in_world([]() -> Task<> {
    const Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    const Stream borrowed(null.get());
    const Stream owned(adopt(Fd(::dup(null.get()))));
    for (const Stream* stream : {&borrowed, &owned}) {
      const Piece line = co_await stream->readline();
      CHECK_FALSE(line);
      const std::size_t taken = co_await stream->sendall("into nothing");
      CHECK(taken == 12);
      CHECK(stream->sent_bytes() == 12);
    }
  });
}

TEST_CASE("stream: a connection is given back with what is left", "[stream]") {
  in_world([]() -> Task<> {
    Fed fed;
    co_await fed.far.sendall("line\nrest");
    (void)co_await fed.stream.peek(9);
    (void)co_await fed.stream.readline();
    co_await fed.stream.write("not flushed");
    std::string leftovers;
    CHECK_THROWS_AS(fed.stream.release(leftovers), Misuse);
    co_await fed.stream.flush();
    const Connection back = fed.stream.release(leftovers);
    CHECK(leftovers == "rest");
    CHECK_FALSE(fed.stream);
    CHECK(back);
    co_await fed.far.sendall("more");
    const std::string more = co_await receive(back, 4);
    CHECK(more == "more");
    std::string none;
    CHECK_THROWS_AS(Stream(0).release(none), Misuse);
  });
}

namespace {

Task<> answer_lines(Connection conn) {
  Stream peer(std::move(conn));
  while (auto line = co_await peer.readline()) {
    co_await peer.write(line);
    co_await peer.write("\n");
    co_await peer.flush();
  }
}

Task<ServerSummary> serve_lines(Listener& listener) {
  ServerOptions options;
  options.log = Log::kErrors;
  co_return co_await serve(std::move(listener), answer_lines, options);
}

}  // namespace

TEST_CASE("stream: a stop ends who awaits a line, and not who is within one",
          "[stream]") {
  in_world([]() -> Task<> {
    Listener listener("127.0.0.1", 0);
    const Address address = listener.address();
    auto server = spawn(serve_lines, std::ref(listener));
    const Connection idle = co_await connect(address);
    const Connection busy = co_await connect(address);
    std::string answer = co_await ask(idle, "one\n");
    CHECK(answer == "one\n");
    answer = co_await ask(busy, "two\n");
    CHECK(answer == "two\n");
    co_await busy.sendall("ha");
    co_await settle();
    const TimePoint stopped = support::now();
    Loop::current().stop();
    std::string rest = co_await receive_all(idle);
    CHECK(rest.empty());
    CHECK(support::now() - stopped < 1s);
    co_await busy.sendall("lf\n");
    answer = co_await receive(busy, 5);
    CHECK(answer == "half\n");
    busy.shutdown(Half::kSending);
    const ServerSummary summary = co_await join(server);
    CHECK(summary.served == 2);
    CHECK(summary.cut == 0);
  });
}

TEST_CASE("stream: lines that have come leave turns for others", "[stream]") {
  Scripted calls;
  std::string text;
  for (int i = 0; i < 10'000; ++i) text += "a line\n";
  bool other_ran = false;
  over_memory(text, 50'000, calls, [&](Stream& in) -> Task<> {
    auto run_once = [&]() -> Task<> {
      other_ran = true;
      co_return;
    };
    (void)co_await in.readline();
    auto other = spawn(run_once);
    for (int i = 0; i < 40; ++i) (void)co_await in.readline();
    CHECK(other_ran);
    co_await join(other);
  });
}

TEST_CASE("stream: every size comes back byte for byte", "[stream]") {
  in_world([]() -> Task<> {
    constexpr std::size_t kSizes[] = {0, 1, 1023, 1024, 1025, 65536, 10 << 20};
    for (std::size_t size : kSizes) {
      if (MaybeShortIo::wanted()) size = std::min<std::size_t>(size, 70'000);
      Fed client(co_await tcp_ends());
      const Stream peer(std::move(client.far));
      const std::string data = random_bytes(size);
      auto send_all = [&]() -> Task<> {
        for (string_view rest = data; !rest.empty();) {
          const string_view next = rest.substr(0, 10'007);
          co_await client.stream.write(next);
          rest.remove_prefix(next.size());
        }
        co_await client.stream.shutdown();
      };
      auto answer = [&]() -> Task<> {
        while (auto piece = co_await peer.read()) co_await peer.write(piece);
        co_await peer.close();
      };
      auto sender = spawn(send_all);
      auto echoer = spawn(answer);
      const Piece back = co_await client.stream.read_all(size);
      CHECK((back.view() == data));
      co_await join(sender);
      co_await join(echoer);
    }
  });
}

TEST_CASE("stream: a dump tells who reads and writes what", "[stream]") {
  in_world([]() -> Task<> {
    Fed fed;
    auto reader = spawn(read_a_line, std::ref(fed.stream));
    auto writer = spawn(send_much, std::ref(fed.stream));
    co_await settle();
    const std::string dump = Loop::current().dump();
    const std::string fd = "fd " + std::to_string(fed.stream.fd());
    CHECK(contains(dump, "readline " + fd));
    CHECK(contains(dump, "sendall " + fd));
    CHECK(contains(dump, "bytes left"));
    reader.kill();
    writer.kill();
  });
}

// -------------------------------------------------------------------- copying

TEST_CASE("stream: a copy goes on to the end, or to its limit", "[stream]") {
  in_world([]() -> Task<> {
    Fed from;
    Fed to;
    const std::string data =
        random_bytes(MaybeShortIo::wanted() ? 70'000 : 1'000'000);
    auto feeder =
        spawn(send_and_close, std::ref(from.far), borrow(string_view(data)));
    auto copy_all = [&]() -> Task<> {
      co_await to.stream.write("before ");
      std::uint64_t copied = co_await copy(from.stream, to.stream, 0);
      CHECK(copied == 0);
      copied = co_await copy(from.stream, to.stream, 10);
      CHECK(copied == 10);
      CHECK(from.stream.position() == 10);
      copied = co_await copy(from.stream, to.stream);
      CHECK(copied == data.size() - 10);
      copied = co_await copy(from.stream, to.stream);
      CHECK(copied == 0);
      co_await to.stream.close();
    };
    auto copier = spawn(copy_all);
    const std::string text = co_await receive_all(to.far);
    CHECK((text == "before " + data));
    co_await join(copier);
    co_await join(feeder);
  });
}

TEST_CASE("stream: a copy to itself is an echo", "[stream]") {
  in_world([]() -> Task<> {
    Fed fed;
    auto echoing = [&]() -> Task<> {
      const std::uint64_t copied = co_await copy(fed.stream, fed.stream);
      CHECK(copied == 11);
    };
    auto echoer = spawn(echoing);
    std::string back = co_await ask(fed.far, "hello");
    CHECK(back == "hello");
    back = co_await ask(fed.far, "again!");
    CHECK(back == "again!");
    fed.far.shutdown(Half::kSending);
    co_await join(echoer);
  });
}

TEST_CASE("stream: a copy needs no stream that outlives it", "[stream]") {
  in_world([]() -> Task<> {
    Pair from = make_pipe();
    Pair to = make_pipe();
    REQUIRE(support::put(from[1].get(), "from end to end"));
    from[1].reset();
    const std::uint64_t copied =
        co_await copy(Stream(from[0].get()), Stream(to[1].get()));
    CHECK(copied == 15);
    CHECK(support::get(to[0].get()) == "from end to end");
  });
}

TEST_CASE("stream: a copy holds one buffer, and its source waits", "[stream]") {
  Scripted calls;
  play([&]() -> Task<> {
    Fed from;
    Fed to;
    auto feeder = spawn(send_much, std::ref(from.stream));
    Stream source(std::move(from.far));
    auto copying = [&]() -> Task<> { (void)co_await copy(source, to.stream); };
    const support::ScopedCalls counted(calls);
    auto copier = spawn(copying);
    co_await settle();
    CHECK(is_waiting(copier));
    CHECK(is_waiting(feeder));
    CHECK(calls.largest <= kBuffer);
    const std::string dump = Loop::current().dump();
    CHECK(contains(dump, "copy " + source.name() + " to " + to.stream.name()));
    copier.kill();
    feeder.kill();
    // What it has read is what has been sent.
    CHECK(source.position() == to.stream.sent_bytes());
    CHECK(source.buffered().size() > 0);
  });
}

TEST_CASE("stream: a copy names both ends in its errors", "[stream]") {
  in_world([]() -> Task<> {
    for (const bool reading_fails : {true, false}) {
      Fed from;
      Pair pipe = make_pipe();
      Stream to(adopt(std::move(pipe[1])));
      co_await from.far.sendall("data");
      if (reading_fails) {
        from.stream.drop();
      } else {
        pipe[0].reset();
      }
      const std::string names = "copy " + from.stream.name() + " to fd " +
                                std::to_string(to.fd()) + ": ";
      auto copying = [&]() -> Task<> { (void)co_await copy(from.stream, to); };
      const std::string error = co_await error_of(copying());
      CHECK(error ==
            names + support::text_of_error(reading_fails ? EBADF : EPIPE));
      std::error_code code;
      const std::uint64_t copied = co_await copy(from.stream, to, code);
      CHECK(code);
      CHECK(copied == 0);
      if (reading_fails) continue;
      CHECK_FALSE(from.stream.buffered().empty());
      CHECK(string_view("data").starts_with(from.stream.buffered()));
    }
  });
}

TEST_CASE("stream: a copy ends when either stream is dropped", "[stream]") {
  in_world([]() -> Task<> {
    for (int way = 0; way < 4; ++way) {
      Fed from;
      Fed to;
      const std::string much(4 << 20, 'x');
      auto feeder = spawn(error_of_sending, std::ref(from.stream));
      Stream source(std::move(from.far));
      auto copying = [&]() -> Task<> {
        (void)co_await copy(source, to.stream);
      };
      auto copy_error = [&]() -> Task<std::string> {
        co_return co_await error_of(copying());
      };
      auto copier = spawn(copy_error);
      co_await settle();
      if (way == 0) source.drop();
      if (way == 1) to.stream.drop();
      if (way == 2) source = Stream();
      if (way == 3) to.stream = Stream();
      const std::string error = co_await join(copier);
      CHECK(contains(error, support::text_of_error(EBADF)));
      feeder.kill();
    }
  });
}

// ----------------------------------------------------------------- every kill

namespace {

constexpr string_view kText = "one\r\ntwo;three--four\nfive\nsix";

/// What a run of kill_everywhere leaves to be looked at.
struct Books {
  std::string done;      // by operations that have ended
  std::string buffered;  // in the stream that was read, at the end
  std::string arrived;   // at the other end
  std::uint64_t position = 0;
  std::uint64_t sent = 0;
  std::uint64_t unsent = 0;
};

/// Notes the state of two streams when its scope is left, or killed.
class Bookkeeper {
 public:
  Bookkeeper(Books& books, const Stream& read, const Stream& written) noexcept
      : books_(books), read_(read), written_(written) {}
  Bookkeeper(const Bookkeeper&) = delete;
  ~Bookkeeper() {
    books_.buffered = read_.buffered();
    books_.position = read_.position();
    books_.sent = written_.sent_bytes();
    books_.unsent = written_.unsent();
  }

 private:
  Books& books_;
  const Stream& read_;
  const Stream& written_;
};

/// Kills the root alone; whoever is at the other end goes on to the end.
template <class Body, class Check>
void survives(Body body, Check check) {
  testing::Options options = networked();
  options.seeds = 100;
  options.victims = testing::Victims::kRoot;
  const auto counts = testing::kill_everywhere<Books>(body, check, options);
  CHECK(counts.waits > 3);
}

/// Until the other end is gone.
Task<> send_slowly(Connection to) {
  std::error_code gone;
  for (std::size_t i = 0; i < kText.size() && !gone; i += 3) {
    co_await to.sendall(kText.substr(i, 3), gone);
    co_await yield_now();
  }
}

Task<> note_arrivals(Connection from, Books& books) {
  for (;;) {
    char byte[1];
    const std::size_t got = co_await from.recv(byte);
    if (got == 0) break;
    books.arrived.append(byte, got);
  }
}

/// Whatever `reading` has not taken by completed operations is still there.
template <class Reading>
void takes_all_or_nothing(Reading reading) {
  survives(
      [=](Books& books) -> Task<> {
        auto ends = testing::network().pair();
        Stream in{Connection(std::move(ends[0]))};
        const Bookkeeper keeper(books, in, in);
        Connection out{std::move(ends[1])};
        auto sender = spawn(send_slowly, std::move(out));
        co_await reading(in, books.done);
      },
      [](const Books& books) {
        const std::string_view rest = kText.substr(books.position);
        require(books.done == kText.substr(0, books.position),
                "bytes are gone that nobody has read");
        require(rest.starts_with(books.buffered), "the buffer is wrong");
      });
}

}  // namespace

TEST_CASE("stream: a killed read of any kind has taken nothing",
          "[stream][kill]") {
  takes_all_or_nothing([](Stream& in, std::string& done) -> Task<> {
    Piece line = co_await in.readline();
    done.append(line.view()).append("\r\n");
    line = co_await in.readline("\n");
    done.append(line.view()).append("\n");
    line = co_await in.readline();
    done.append(line.view()).append("\n");
    line = co_await in.readline();
    done.append(line.view());
  });
  takes_all_or_nothing([](Stream& in, std::string& done) -> Task<> {
    Piece piece = co_await in.read_until({";", "--"});
    done.append(piece.view()).append(";");
    piece = co_await in.read_until({";", "--"});
    done.append(piece.view()).append("--");
  });
  takes_all_or_nothing([](Stream& in, std::string& done) -> Task<> {
    const Piece piece = co_await in.read_exactly(std::size_t{10});
    done.append(piece.view());
    char bytes[7];
    co_await in.read_exactly(bytes);
    done.append(bytes, 7);
    (void)co_await in.peek(6);
  });
  takes_all_or_nothing([](Stream& in, std::string& done) -> Task<> {
    char bytes[5];
    const std::size_t got = co_await in.read(bytes);
    done.append(bytes, got);
    const Piece piece = co_await in.read_all(1000);
    done.append(piece.view());
  });
  takes_all_or_nothing([](Stream& in, std::string& done) -> Task<> {
    // Larger than a buffer: the end comes too early, and all is put back.
    std::string large(kBuffer + 1, '\0');
    std::error_code code;
    co_await in.read_exactly(large, code);
    require(code == StreamError::kEndOfStream, "an early end is not told");
    require(done.empty() && in.buffered() == kText, "it is not put back");
  });
}

TEST_CASE("stream: a killed skip has dropped what position() tells",
          "[stream][kill]") {
  survives(
      [](Books& books) -> Task<> {
        auto ends = testing::network().pair();
        Stream in{Connection(std::move(ends[0]))};
        const Bookkeeper keeper(books, in, in);
        Connection out{std::move(ends[1])};
        auto sender = spawn(send_slowly, std::move(out));
        co_await in.skip(20);
      },
      [](const Books& books) {
        require(books.position <= 20, "too much is gone");
        require(kText.substr(books.position).starts_with(books.buffered),
                "the buffer is wrong");
      });
}

TEST_CASE(
    "stream: a killed write has taken nothing, a killed flush loses "
    "nothing",
    "[stream][kill]") {
  survives(
      [](Books& books) -> Task<> {
        testing::network().limit_buffer(3);
        auto ends = testing::network().pair();
        Stream out{Connection(std::move(ends[0]))};
        const Bookkeeper keeper(books, out, out);
        Connection in{std::move(ends[1])};
        auto receiver = spawn(note_arrivals, std::move(in), std::ref(books));
        for (const string_view text : {"one ", "two ", "three "}) {
          co_await out.write(text);
          books.done += text;
          co_await out.flush();
        }
        const std::string large(kBuffer, 'x');
        co_await out.write("four ");
        books.done += "four ";
        co_await out.write(large);  // after the rest is out
        books.done += large;
      },
      [](const Books& books) {
        require(books.sent + books.unsent == books.done.size(),
                "a write was torn");
        require(books.arrived == books.done.substr(0, books.sent),
                "what was sent has not arrived");
      });
}

TEST_CASE("stream: a killed sendall tells how much is out", "[stream][kill]") {
  survives(
      [](Books& books) -> Task<> {
        testing::network().limit_buffer(3);
        auto ends = testing::network().pair();
        Stream out{Connection(std::move(ends[0]))};
        const Bookkeeper keeper(books, out, out);
        Connection in{std::move(ends[1])};
        auto receiver = spawn(note_arrivals, std::move(in), std::ref(books));
        books.done = "before straight out";
        co_await out.write("before ");
        co_await out.sendall("straight ");
        co_await out.sendall("out");
        co_await out.shutdown();
        co_await out.close();
      },
      [](const Books& books) {
        require(books.arrived == books.done.substr(0, books.sent),
                "what was sent has not arrived");
        require(books.sent + books.unsent <= books.done.size(), "too much");
      });
}

TEST_CASE("stream: a killed copy has read what it has sent, and no more",
          "[stream][kill]") {
  survives(
      [](Books& books) -> Task<> {
        testing::network().limit_buffer(4);
        auto first = testing::network().pair();
        auto second = testing::network().pair();
        Stream from{Connection(std::move(first[0]))};
        Stream to{Connection(std::move(second[0]))};
        const Bookkeeper keeper(books, from, to);
        Connection source{std::move(first[1])};
        Connection sink{std::move(second[1])};
        auto sender = spawn(send_slowly, std::move(source));
        auto receiver = spawn(note_arrivals, std::move(sink), std::ref(books));
        const std::uint64_t copied = co_await copy(from, to);
        require(copied == kText.size(), "it ended early");
      },
      [](const Books& books) {
        require(books.position == books.sent, "read but not sent");
        require(books.arrived == kText.substr(0, books.sent), "torn");
        require(kText.substr(books.position).starts_with(books.buffered),
                "the buffer is wrong");
      });
}

// ---------------------------------------------------------- against a model

namespace {

using Random = violet::internal::Random;  // the same everywhere

/// Text in which lines and separators are frequent.
std::string some_text(Random& random) {
  constexpr string_view kBytes = "aaab\r\n;-x";
  std::string text;
  const std::uint64_t size =
      random.below(3) == 0 ? random.below(200'000) : random.below(300);
  const std::uint64_t plain = random.below(4) == 0 ? 100 : 1;
  while (text.size() < size) {
    const bool usual = random.below(plain + 1) != 0;
    text.push_back(usual && plain > 1 ? 'x' : kBytes[random.below(9)]);
  }
  return text;
}

/// What reading must yield, for one who has the whole text.
class Model {
 public:
  Model(const std::string& text, Stream& in, Random& random) noexcept
      : text_(text), in_(in), random_(random) {}

  /// Reads to the end by operations drawn at random; some are cut short.
  Task<> read_all() {
    while (position_ < text_.size()) {
      const std::uint64_t which = random_.below(9);
      if (which == 0) co_await line(false);
      if (which == 1) co_await line(true);
      if (which == 2) co_await until();
      if (which == 3) co_await exactly();
      if (which == 4) co_await fully();
      if (which == 5) co_await some();
      if (which == 6) co_await into();
      if (which == 7) co_await peek();
      if (which == 8) co_await skip();
      require(in_.position() == position_, "the position differs");
    }
    const Piece end = co_await in_.readline();
    require(!end, "more came than was sent");
  }

 private:
  string_view rest() const { return string_view(text_).substr(position_); }

  std::size_t size() {
    return random_.below(8) == 0 ? random_.below(150'000) : random_.below(40);
  }

  Duration patience() {
    return random_.below(3) == 0 ? Duration(random_.below(3'000'000)) : 1h;
  }

  void expect(bool same) {
    require(same, "the stream does not yield what the model does");
  }

  /// Compares what an operation yields. A limit of time that has passed
  /// yields nothing, and nothing is taken.
  void settle(const std::optional<Piece>& got, std::error_code code,
              std::error_code expected, string_view view, std::size_t taken) {
    if (!got) return;
    expect(code == expected);
    if (expected) return;
    expect(got->view() == view);
    position_ += taken;
  }

  Task<> line(bool own) {
    const std::size_t limit = size();
    const Duration time = patience();
    std::size_t end = rest().find(own ? ';' : '\n');
    const bool ends = end != string_view::npos;
    if (!ends) end = rest().size();
    const bool strip = !own && ends && end > 0 && rest()[end - 1] == '\r';
    const std::size_t length = end - (strip ? 1 : 0);
    std::error_code expected;
    if (length > limit) expected = StreamError::kLimitExceeded;
    std::error_code code;
    std::optional<Piece> got;
    if (own) {
      got = co_await within(time, in_.readline(';', code, limit));
    } else {
      got = co_await within(time, in_.readline(code, limit));
    }
    if (got && !code) expect(got->terminated() == ends);
    settle(got, code, expected, rest().substr(0, length), end + (ends ? 1 : 0));
  }

  Task<> until() {
    const Separators separators(
        "aab", "ab", "\r\n", random_.below(2) != 0 ? "\r\n--" : "xxxxxxxxxxxx");
    const std::size_t limit = size();
    std::size_t at = rest().size();
    std::size_t length = 0;
    for (std::size_t i = 0; i < separators.size(); ++i) {
      const std::size_t found = rest().find(separators[i]);
      if (found == string_view::npos || found > at) continue;
      if (found == at && separators[i].size() < length) continue;
      at = found;
      length = separators[i].size();
    }
    std::error_code expected;
    if (length == 0) expected = StreamError::kEndOfStream;
    if (at > limit) expected = StreamError::kLimitExceeded;
    std::error_code code;
    const Duration time = patience();
    const std::optional<Piece> got =
        co_await within(time, in_.read_until(separators, code, limit));
    settle(got, code, expected, rest().substr(0, at), at + length);
    if (got && !code) expect(separators[got->separator()].size() == length);
  }

  Task<> exactly() {
    const std::size_t count = size();
    std::error_code expected;
    if (count > rest().size()) expected = StreamError::kEndOfStream;
    std::error_code code;
    const Duration time = patience();
    const std::optional<Piece> got =
        co_await within(time, in_.read_exactly(count, code));
    settle(got, code, expected, rest().substr(0, count), count);
  }

  Task<> fully() {
    std::string bytes(size(), '\0');
    std::error_code expected;
    if (bytes.size() > rest().size()) expected = StreamError::kEndOfStream;
    std::error_code code;
    const Duration time = patience();
    const auto got = co_await within(time, in_.read_exactly(bytes, code));
    std::optional<Piece> piece;
    if (got) piece = Piece(bytes.data(), bytes.size(), true);
    settle(piece, code, expected, rest().substr(0, bytes.size()), bytes.size());
  }

  Task<> some() {
    const Duration time = patience();
    const std::optional<Piece> got = co_await within(time, in_.read());
    if (!got) co_return;
    expect(got->size() > 0 && rest().starts_with(got->view()));
    position_ += got->size();
  }

  Task<> into() {
    std::string bytes(size() + 1, '\0');
    const Duration time = patience();
    const auto got = co_await within(time, in_.read(bytes));
    if (!got) co_return;
    expect(*got > 0 && rest().starts_with(string_view(bytes.data(), *got)));
    position_ += *got;
  }

  Task<> peek() {
    const std::size_t count = size();
    const Duration time = patience();
    const std::optional<Piece> got = co_await within(time, in_.peek(count));
    settle(got, {}, {}, rest().substr(0, count), 0);
    const std::size_t taken = random_.below(5);
    position_ += std::min(taken, in_.buffered().size());
    in_.consume(taken);
  }

  Task<> skip() {
    const std::size_t count = size();
    const Duration time = patience();
    const auto got = co_await within(time, in_.skip(count));
    if (got) expect(*got == std::min(count, rest().size()));
    position_ = in_.position();
  }

  const std::string& text_;
  Stream& in_;
  Random& random_;
  std::size_t position_ = 0;
};

/// Sends in segments of random sizes, with pauses.
Task<> send_at_random(Connection to, const std::string& text,
                      std::uint64_t seed) {
  Random random(seed);
  const std::uint64_t most = random.below(3) == 0 ? 3 : text.size() + 1;
  for (string_view rest = text; !rest.empty();) {
    const string_view next = rest.substr(0, random.below(most) + 1);
    co_await to.sendall(next);
    rest.remove_prefix(next.size());
    if (random.below(4) == 0) co_await sleep(Duration(random.below(2'000'000)));
  }
}

/// What goes wrong with system calls.
enum class Faults { kNone, kRefusals, kOneByte };

Task<> agree(std::uint64_t seed, Faults faults) {
  std::optional<FaultPlan> plan;
  if (faults != Faults::kNone) plan.emplace();
  if (plan) plan->interrupt_every(3).would_block_every(2);
  if (faults == Faults::kOneByte) plan->one_byte();
  Random random(seed);
  const std::string text = some_text(random);
  auto ends = testing::network().pair();
  Stream in{Connection(std::move(ends[0]))};
  Connection out{std::move(ends[1])};
  auto sender = spawn(send_at_random, std::move(out), std::cref(text), seed);
  Model model(text, in, random);
  co_await model.read_all();
  co_await join(sender);
}

Task<> receive_at_random(Connection from, std::string& arrived,
                         std::uint64_t seed) {
  Random random(seed);
  std::string bytes(100'000, '\0');
  for (;;) {
    const std::span<char> room(bytes.data(), random.below(bytes.size()) + 1);
    const std::size_t got = co_await from.recv(room);
    if (got == 0) break;
    arrived.append(bytes, 0, got);
    if (random.below(3) == 0) co_await sleep(Duration(random.below(2'000'000)));
  }
}

/// Writes what is drawn at random, with limits of time. What has been taken is
/// known at each moment, and arrives.
Task<> arrive(std::uint64_t seed, Faults faults) {
  std::optional<FaultPlan> plan;
  if (faults != Faults::kNone) plan.emplace();
  if (plan) plan->interrupt_every(3).would_block_every(2);
  if (faults == Faults::kOneByte) plan->one_byte();
  Random random(seed);
  testing::network().limit_buffer(random.below(100'000) + 1);
  auto ends = testing::network().pair();
  const Stream out{Connection(std::move(ends[0]))};
  Connection in{std::move(ends[1])};
  std::string expected;
  std::string arrived;
  auto receiver =
      spawn(receive_at_random, std::move(in), std::ref(arrived), seed);
  const std::size_t most = faults == Faults::kOneByte ? 500 : 150'000;
  for (int i = 0; i < 30; ++i) {
    const std::size_t size = random.below(random.below(3) == 0 ? most : 200);
    const std::string data = random_bytes(size, static_cast<unsigned>(i));
    const Duration time(random.below(1'000'000));
    const std::uint64_t before = out.sent_bytes() + out.unsent();
    const std::uint64_t which = random.below(4);
    std::optional<std::size_t> got;
    if (which == 0) got = co_await within(time, out.sendall(data));
    if (which == 1) (void)co_await within(time, out.flush());
    if (which >= 2) got = co_await within(time, out.write(data));
    const std::uint64_t taken = out.sent_bytes() + out.unsent() - before;
    if (got) require(*got == size && taken == size, "not all was taken");
    if (which == 1) require(taken == 0, "flush has taken something");
    if (!got && which >= 2 && size <= kBuffer) {
      require(taken == 0, "a write was torn");
    }
    expected.append(data, 0, taken);
  }
  co_await out.close();
  co_await join(receiver);
  require(arrived == expected, "what was taken has not arrived");
}

template <class F>
void hold_for_seeds(F body, std::uint64_t from, std::uint64_t count,
                    Faults faults) {
  for (std::uint64_t seed = from; seed < from + count; ++seed) {
    INFO("seed " << seed);
    const auto run_seed = [=] { return body(seed, faults); };
    REQUIRE_NOTHROW(testing::play(run_seed, testing::Seed(seed), networked()));
  }
}

/// A share of the usual number, for builds that are slow.
std::uint64_t share(std::uint64_t usual) {
#ifdef __OPTIMIZE__
  return support::kSanitized ? usual / 8 : usual;
#else
  return usual / 10;
#endif
}

}  // namespace

TEST_CASE("stream: reading agrees with a model", "[stream][fuzz]") {
  hold_for_seeds(agree, 1, share(300), Faults::kNone);
}

TEST_CASE("stream: reading agrees with a model, whatever calls do",
          "[stream][fuzz]") {
  hold_for_seeds(agree, 5000, share(80), Faults::kRefusals);
  hold_for_seeds(agree, 6000, share(20), Faults::kOneByte);
}

TEST_CASE("stream: what writing has taken arrives, whatever calls do",
          "[stream][fuzz]") {
  hold_for_seeds(arrive, 1, share(100), Faults::kNone);
  hold_for_seeds(arrive, 5000, share(50), Faults::kRefusals);
  hold_for_seeds(arrive, 6000, share(50), Faults::kOneByte);
}
