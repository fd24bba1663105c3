// wire.hpp - heads and bodies, read from a stream and written to it.
//
// The idea: the parsers know nothing of waiting, the streams nothing of HTTP,
// and this is the little that joins them. Reading is an event that looks at
// what has come and fetches more only if that does not suffice, as all reading
// from a stream; so a head that has come already costs no call, and a limit of
// time is put around it by within(). A body arrives without its framing, and
// leaves without anybody having to think of it.
//
//     http::RequestParser parser;                  // one for the connection
//     while (co_await http::read_head(stream, parser)) {
//       http::BodyReader body(stream, http::body_of(parser.head()));
//       while (true) {
//         const std::string_view piece = co_await body.read();
//         if (piece.empty()) break;
//       }
//       ... write a response; co_await stream.flush() ...
//       parser.next();
//     }
//
// What is wrong with a message is thrown as a std::system_error whose code is
// the Fault.
//
// Built on: body, stream. See: RFC 9112, sections 6 to 8.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "../../runtime/task.hpp"
#include "../stream.hpp"
#include "body.hpp"

namespace violet::http {

/// The Fault that an error stands for; kNone if it stands for none.
inline Fault fault_in(const std::error_code& code) noexcept {
  return code.category() == fault_category() ? static_cast<Fault>(code.value())
                                             : Fault::kNone;
}

// -------------------------------------------------------------------- reading

namespace internal {

/// What reading adds to looking: a fault is an error, too.
template <class Operation>
class WireLook : public StreamLook<Operation> {
 public:
  std::error_code code() const noexcept {
    return fault_ != Fault::kNone ? make_error_code(fault_)
                                  : StreamEvent::code();
  }
  std::size_t want() const noexcept { return 1; }

 protected:
  using StreamLook<Operation>::StreamLook;
  WireLook(WireLook&&) noexcept = default;
  ~WireLook() = default;

  /// Returns: true.
  bool refuse(Fault fault) noexcept {
    fault_ = fault;
    return this->fail(EBADMSG);
  }

  [[noreturn, gnu::cold]] void raise_as(const char* call) const {
    if (fault_ == Fault::kNone) this->raise(call);
    throw_error(std::system_error(make_error_code(fault_),
                                  concat({call, " ", this->name()})));
  }

 private:
  Fault fault_ = Fault::kNone;
};

}  // namespace internal

/// read_head()
class [[nodiscard]] ReadHeadEvent : public internal::WireLook<ReadHeadEvent> {
 public:
  ReadHeadEvent(const Stream& from, HeadParser& parser) noexcept
      : WireLook(from.core()), parser_(&parser) {}
  ReadHeadEvent(ReadHeadEvent&&) noexcept = default;

  bool look() noexcept;

  // What comes of a body with its head lies in memory while a handler waits
  // for its turn: not more than this.
  static constexpr std::size_t kMostAtOnce = 8 * 1024;
  Fetched get_more() noexcept { return fetch(1, kMostAtOnce); }

  /// Half a head is no rest between two requests.
  bool idle() const noexcept override {
    return parser_->idle() && StreamReadEvent::idle();
  }
  void describe(Description& out) const override {
    describe_as("read_head", out);
  }
  bool value() const noexcept { return error_ == 0 && parser_->done(); }
  bool result() const {
    if (error_ != 0) raise_as("read_head");
    return value();
  }

 private:
  HeadParser* parser_;
};

/// Feeds a parser from the stream until it is done.
/// Suspends: until the whole head has come.
/// Returns: false if the stream has ended before anything of a message came.
/// Throws: std::system_error with a Fault, kCutShort if the stream ends in the
/// middle; what the stream throws.
/// Kill: the parser has what has come, and may be fed on.
/// Lifetime: stream and parser outlive the wait.
inline ReadHeadEvent read_head(const Stream& from,
                               HeadParser& parser) noexcept {
  return ReadHeadEvent(from, parser);
}
inline Coded<ReadHeadEvent> read_head(const Stream& from, HeadParser& parser,
                                      std::error_code& code) noexcept {
  return Coded<ReadHeadEvent>(read_head(from, parser), code);
}

/// BodyReader::read()
class [[nodiscard]] BodyPieceEvent : public internal::WireLook<BodyPieceEvent> {
 public:
  BodyPieceEvent(const Stream& from, BodyDecoder& body) noexcept
      : WireLook(from.core()), body_(&body) {}
  BodyPieceEvent(BodyPieceEvent&&) noexcept = default;

  bool look() noexcept;
  bool idle() const noexcept override { return false; }
  void describe(Description& out) const override {
    describe_as("read body", out);
  }
  std::string_view value() const noexcept { return piece_; }
  std::string_view result() const {
    if (error_ != 0) raise_as("read body");
    return piece_;
  }

 private:
  BodyDecoder* body_;
  std::string_view piece_;
};

/// BodyReader::read(span). What is larger than a buffer goes straight where it
/// is wanted.
class [[nodiscard]] BodyIntoEvent : public internal::WireLook<BodyIntoEvent> {
 public:
  BodyIntoEvent(const Stream& from, BodyDecoder& body,
                std::span<char> into) noexcept
      : WireLook(from.core()), body_(&body), into_(into) {}
  BodyIntoEvent(BodyIntoEvent&&) noexcept = default;

  bool look() noexcept;
  Fetched get_more() noexcept;
  bool idle() const noexcept override { return false; }
  void describe(Description& out) const override {
    describe_as("read body", out);
  }
  std::size_t value() const noexcept { return got_; }
  std::size_t result() const {
    if (error_ != 0) raise_as("read body");
    return got_;
  }

 private:
  BodyDecoder* body_;
  std::span<char> into_;  // the caller's
  std::size_t got_ = 0;
};

/// A body that is read from a stream, without its framing.
///
/// All reading: Throws: std::system_error with a Fault, kCutShort if the stream
/// ends in the middle; what the stream throws. Kill: nothing is lost.
/// Lifetime: the stream outlives the reader.
class BodyReader {
 public:
  BodyReader(const Stream& from, Framing framing,
             const BodyLimits& limits = BodyLimits()) noexcept
      : stream_(&from), body_(framing, limits) {}

  /// Returns: the next piece, never empty but at the end of the body.
  /// Lifetime: of the piece: until the next read from the stream.
  BodyPieceEvent read() noexcept { return BodyPieceEvent(*stream_, body_); }
  Coded<BodyPieceEvent> read(std::error_code& code) noexcept {
    return Coded<BodyPieceEvent>(read(), code);
  }

  /// The same into the caller's memory.
  /// Returns: how many bytes; 0 at the end of the body, or for an empty span.
  BodyIntoEvent read(std::span<char> into) noexcept {
    return BodyIntoEvent(*stream_, body_, into);
  }
  Coded<BodyIntoEvent> read(std::span<char> into,
                            std::error_code& code) noexcept {
    return Coded<BodyIntoEvent>(read(into), code);
  }

  /// The rest of the body. Throws: also LimitExceeded if it is more than
  /// `limit` bytes. Kill: what has come is lost.
  Task<std::string> read_all(std::size_t limit);

  /// True once all of it has been read.
  bool done() const noexcept { return body_.done(); }

  /// What is wrong with it, as far as it has been read.
  Fault fault() const noexcept { return body_.fault(); }

  /// Bytes of it that have been read.
  std::uint64_t count() const noexcept { return body_.count(); }

  /// Bytes that follow without framing between them; see BodyDecoder.
  std::uint64_t left() const noexcept { return body_.left(); }

  /// The trailer fields, once done().
  Fields trailers() const noexcept { return body_.trailers(); }

  /// What it is decoded with: for who moves payload past this.
  BodyDecoder& decoder() noexcept { return body_; }

 private:
  const Stream* stream_;
  BodyDecoder body_;
};

// -------------------------------------------------------------------- writing

/// What goes before, between and after the pieces of a body, for who has means
/// of his own to write them; and a check that it is as long as was said.
class BodyFramer {
 public:
  explicit BodyFramer(Framing framing = Framing()) noexcept
      : framing_(framing) {}

  /// What goes before a piece of so many bytes. Lifetime: until the next call.
  /// Throws: Misuse for more bytes than the length that was given.
  std::string_view before(std::uint64_t bytes);

  /// What goes after the last piece. Lifetime: of a literal.
  /// Throws: Misuse if bytes are missing to the length that was given.
  std::string_view end();

  /// True once end() has been called and has not failed.
  bool ended() const noexcept { return ended_; }

  /// Bytes of payload that have been written.
  std::uint64_t count() const noexcept { return count_; }

 private:
  Framing framing_;
  ChunkEncoder chunks_;
  std::uint64_t count_ = 0;
  bool ended_ = false;
};

/// A body that is written to a stream, with its framing. Whatever is written
/// lies in the stream's buffer until that is full, or flushed.
///
/// All writing: Suspends: while the stream's buffer is full. Throws: what the
/// stream throws. Kill: a part may be out, so no message can follow.
/// Lifetime: the stream outlives the writer.
class BodyWriter {
 public:
  BodyWriter(const Stream& to, Framing framing) noexcept
      : stream_(&to), framer_(framing) {}

  /// Throws: also Misuse for more bytes than the length that was given.
  Task<> write(std::string_view piece);

  /// Ends the body. Throws: also Misuse if bytes are missing to its length.
  Task<> finish();

  /// True once finish() has been called and has not failed.
  bool finished() const noexcept { return framer_.ended(); }

  /// Bytes that have been written.
  std::uint64_t count() const noexcept { return framer_.count(); }

  /// What the stream has thrown in a write; null if it has failed none.
  const std::exception_ptr& failure() const noexcept { return failure_; }

  /// True once a write has ended in any way but well: a part of it may be out.
  bool broken() const noexcept { return broken_ || writes_; }

 private:
  void begin() noexcept;
  Task<> put(std::string_view first, std::string_view second);

  const Stream* stream_;
  BodyFramer framer_;
  std::exception_ptr failure_;
  bool writes_ = false;  // since it began, or for ever if it was killed
  bool broken_ = false;
};

}  // namespace violet::http
