// parse.hpp - heads from a stream, in whatever pieces it comes.
//
// A parser is fed what was received. It takes the bytes that belong to the
// head and says how many; what follows is the body's or the next message's and
// stays with the caller. How the stream was cut has no influence: byte by byte
// gives the same head, or the same fault, as all at once. Nothing is read again
// when more comes, but for the one line that was cut; and a head that is byte
// for byte the one before it, as of clients that poll, is not read at all.
//
// It reads strictly (RFC 9112): whatever two readers could understand in two
// ways is a fault, never a guess, for that is what request smuggling lives on.
// One empty line before a request is tolerated (section 2.2), and a folded
// line in a response becomes spaces (section 5.2); that is all.
//
// How a server is to use it, with streams both ways and pipelining:
//
//     http::RequestParser parser;          // one for the connection
//     each chunk received:
//       while (!chunk.empty()) {
//         chunk.remove_prefix(parser.feed(chunk));
//         if (parser.fault() != none)      answer status_of(it), close
//         if (!parser.done())              break: receive more
//         parser.head()                    views, good until next()
//         BodyDecoder body(...)            takes from chunk, and from more
//         ... the whole body read and the response sent ...
//         parser.next();                   chunk may hold the next request
//       }
//
// A client does the same with a ResponseParser. After an interim response
// (1xx other than 101) comes next() and another head. A connection may be used
// again when head.keeps_alive, the body is done, and no byte is left over.
// parser.idle() tells whether a connection that ends has cut anything off.
//
// Built on: message. See: RFC 9112, sections 2 to 6 and 11.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "message.hpp"

namespace violet::http {

/// What a head may take. The defaults are nginx's: with them a parser never
/// holds more than 34 KiB.
struct HeadLimits {
  std::size_t line = 8 * 1024;   // bytes of one line, without its end
  std::size_t head = 32 * 1024;  // bytes of all lines, with their ends
  std::size_t fields = 100;
};

/// What the parsers share: lines, fields, limits.
class HeadParser {
 public:
  HeadParser(const HeadParser&) = delete;
  HeadParser& operator=(const HeadParser&) = delete;

  /// Takes what belongs to the head from the front of `bytes`, which may be
  /// freed afterwards.
  /// Returns: how many bytes that is: all of them while the head goes on; none
  /// once it is done or has a fault.
  /// Throws: std::bad_alloc; then next() or release() before anything else.
  /// Cost: memory is taken for the first head, and kept for the next ones.
  std::size_t feed(std::string_view bytes);

  bool done() const noexcept { return stage_ == Stage::kDone; }
  Fault fault() const noexcept { return fault_; }

  /// Once done(): true if the last head had the same bytes.
  bool repeats() const noexcept { return repeats_; }

  /// True while nothing of a message has come but an empty line.
  bool idle() const noexcept {
    return stage_ == Stage::kFirstLine && (known_ || between_lines());
  }

  /// Once done(): the lines with their ends, as they came; but where one was
  /// folded, there are spaces.
  std::string_view text() const noexcept { return text_; }

  /// Forgets the head, and begins the next.
  void next() noexcept;

  /// The same, and gives the memory back: for a connection that will be idle.
  void release() noexcept;

 protected:
  enum class Stage : std::uint8_t { kFirstLine, kFields, kDone, kFailed };

  HeadParser(const HeadLimits& limits, Stage begin) noexcept;
  ~HeadParser() = default;

  /// Where a part of the head is: the text moves as it grows.
  struct Span {
    std::size_t begin = 0;
    std::size_t size = 0;
  };
  std::string_view at(Span span) const noexcept {
    return std::string_view(text_).substr(span.begin, span.size);
  }
  Fields fields() const noexcept {
    return {text_.data(), entries_.data(), entries_.size()};
  }

  /// Reads `length`, `chunked` and `keeps_alive` from the fields.
  Fault read_common(Head& head) const noexcept;

 private:
  /// Reads the first line without its end. It stands at `begin` in the text,
  /// or will: a CR follows it in memory all the same.
  virtual Fault first_line(std::string_view, std::size_t) noexcept {
    return Fault::kNone;
  }

  /// All fields have been read, and the text is complete.
  virtual Fault last_line() noexcept { return Fault::kNone; }

  /// What to say of a first line that is longer than it may be. The view is as
  /// much of it as it may have.
  virtual Fault long_first_line(std::string_view) const noexcept {
    return Fault::kLongLine;
  }

  virtual bool may_skip_line() const noexcept { return false; }
  virtual bool may_fold() const noexcept { return false; }

  bool between_lines() const noexcept { return text_.size() == line_; }
  void forget() noexcept;
  std::size_t room() const noexcept;
  std::size_t end_cut_line(std::string_view bytes);
  const char* take_lines(const char* p, const char* end);
  void take_line(std::string_view line, bool clean);
  // What runs for each line is one piece of code: an eighth of the time.
  [[gnu::always_inline]] inline Fault read_line(std::string_view line,
                                                bool clean);
  [[gnu::always_inline]] inline Fault read_field(std::string_view line);
  Fault fold(std::string_view line) noexcept;
  void unfold() noexcept;
  Fault too_long(std::string_view line) const noexcept;
  void complete() noexcept;
  void fail(Fault fault) noexcept;

  HeadLimits limits_;
  std::string text_;  // all lines, and what has come of a line that is cut
  std::vector<internal::FieldEntry> entries_;
  std::size_t line_ = 0;  // where the line that is being read begins
  Stage begin_;
  Stage stage_;
  Fault fault_ = Fault::kNone;
  bool known_ = false;    // text_, entries_ and the head are the last one's
  bool repeats_ = false;  // and were so for the one before
  bool skipped_ = false;  // the empty line before a request
  bool folded_ = false;   // some value has a line end in it, until unfold()
};

/// Reads the heads of requests.
class RequestParser final : public HeadParser {
 public:
  explicit RequestParser(const HeadLimits& limits = HeadLimits()) noexcept
      : HeadParser(limits, Stage::kFirstLine) {}

  /// Once done(). Lifetime: it and its views until next().
  const RequestHead& head() const noexcept { return head_; }

 private:
  Fault first_line(std::string_view line, std::size_t begin) noexcept override;
  Fault last_line() noexcept override;
  Fault long_first_line(std::string_view line) const noexcept override;
  bool may_skip_line() const noexcept override { return true; }
  Fault read_host() noexcept;

  RequestHead head_;
  Span method_;
  Span target_;
};

/// Reads the heads of responses.
class ResponseParser final : public HeadParser {
 public:
  explicit ResponseParser(const HeadLimits& limits = HeadLimits()) noexcept
      : HeadParser(limits, Stage::kFirstLine) {}

  /// Once done(). Lifetime: it and its views until next().
  const ResponseHead& head() const noexcept { return head_; }

 private:
  Fault first_line(std::string_view line, std::size_t begin) noexcept override;
  Fault last_line() noexcept override;
  bool may_fold() const noexcept override { return true; }

  ResponseHead head_;
  Span reason_;
};

/// Reads the trailer fields after a chunked body, up to the empty line.
class TrailerParser final : public HeadParser {
 public:
  explicit TrailerParser(const HeadLimits& limits = HeadLimits()) noexcept
      : HeadParser(limits, Stage::kFields) {}

  using HeadParser::fields;
};

}  // namespace violet::http
