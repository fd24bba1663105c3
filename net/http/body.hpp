// body.hpp - where a body ends, and its bytes without their framing.
//
// A decoder takes what was received from the front of a view and hands the
// payload out as views of the same memory: nothing is copied, and no body is
// ever whole in memory. Chunk sizes and the like are read one byte at a time,
// so it does not matter where they were cut.
//
//     http::BodyDecoder body(http::body_of(parser.head()));
//     while (!body.done()) {
//       std::string_view part = body.next(bytes);   // shortens bytes
//       if (!part.empty())               use part
//       else if (body.fault() != none)   answer status_of(it), close
//       else if (!body.done())           receive more into bytes;
//                                        at the end of the stream: body.end()
//     }
//
// What is left of `bytes` belongs to the next message. The other way,
// ChunkEncoder tells what goes between the pieces of a body whose length is
// not known before.
//
// Built on: parse. See: RFC 9112, sections 6 and 7.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "parse.hpp"

namespace violet::http {

enum class BodyKind : std::uint8_t {
  kNone,
  kLength,      // so many bytes
  kChunked,     // until the last chunk
  kUntilClose,  // until the connection ends: no message follows
  kTunnel,      // not HTTP any more: 101, or 2xx to CONNECT
};

struct Framing {
  BodyKind kind = BodyKind::kNone;
  std::uint64_t length = 0;  // of kLength
};

/// The framing of a request's body. Without a length there is none.
Framing body_of(const RequestHead& head) noexcept;

/// The framing of a response's body, which depends on the method that it
/// answers: a HEAD gets the fields of a GET and no body.
Framing body_of(const ResponseHead& head,
                std::string_view request_method) noexcept;

/// kLengthRequired if the request gives neither length nor coding. For who
/// stores what it is sent: without this, a PUT that forgot them is one of an
/// empty body. `Content-Length: 0` says that it is.
Fault check_length_given(const RequestHead& head) noexcept;

struct BodyLimits {
  std::uint64_t body = kMostBytes;  // bytes of payload
  std::size_t chunk_line = 256;     // bytes of a size with its extensions
  HeadLimits trailers = {8 * 1024, 8 * 1024, 32};
};

class BodyDecoder {
 public:
  explicit BodyDecoder(Framing framing,
                       const BodyLimits& limits = BodyLimits()) noexcept;
  BodyDecoder(const BodyDecoder&) = delete;
  BodyDecoder& operator=(const BodyDecoder&) = delete;

  /// Takes from the front of `bytes` as much as belongs to the body and comes
  /// in one piece, and shortens `bytes` by it.
  /// Returns: payload, a view of what was taken; empty if more bytes are
  /// needed, or the body is done, or has a fault.
  /// Throws: std::bad_alloc, only in trailers.
  std::string_view next(std::string_view& bytes);

  /// The stream has ended. Returns: kNone if that is how the body ends; then
  /// it is done. Else fault() is kCutShort.
  Fault end() noexcept;

  bool done() const noexcept { return stage_ == Stage::kDone; }
  Fault fault() const noexcept { return fault_; }

  /// Bytes of payload handed out.
  std::uint64_t count() const noexcept { return count_; }

  /// Bytes of payload that follow without framing between them: what remains
  /// of a body with a length, or of the current chunk; until the connection
  /// closes, as many as there may be. For who lets the kernel move them
  /// (splice(2)), and then says so with skip().
  std::uint64_t left() const noexcept { return in_data() ? left_ : 0; }
  void skip(std::uint64_t bytes) noexcept;

  /// The trailer fields, once done(). Never mix them with the fields of the
  /// head: who did would let the body decide about its own framing.
  Fields trailers() const noexcept { return trailers_.fields(); }

 private:
  enum class Stage : std::uint8_t {
    kData,        // of kLength and kUntilClose
    kFirstDigit,  // a chunk begins
    kDigits,
    kBeforeExtension,  // spaces where only ';' may follow
    kExtension,
    kSizeLf,
    kChunkData,
    kChunkCr,
    kChunkLf,
    kTrailers,
    kDone,
    kFailed,
  };

  bool in_data() const noexcept {
    return stage_ == Stage::kData || stage_ == Stage::kChunkData;
  }
  std::string_view take_data(std::string_view& bytes) noexcept;
  void take_framing(std::string_view& bytes);
  void take_trailers(std::string_view& bytes);
  void read_framing(char c) noexcept;
  void read_digit(char c) noexcept;
  void end_size(char c) noexcept;
  void begin_chunk() noexcept;
  void end_data() noexcept;
  void fail(Fault fault) noexcept;

  BodyKind kind_;
  Stage stage_ = Stage::kDone;
  Fault fault_ = Fault::kNone;
  BodyLimits limits_;
  std::uint64_t left_ = 0;  // of the data, or a chunk's size as it is read
  std::uint64_t count_ = 0;
  std::size_t line_size_ = 0;  // bytes of the chunk's line so far
  TrailerParser trailers_;
};

/// What goes between the pieces of a chunked body:
///
///     http::ChunkEncoder chunks;
///     for each piece that is not empty:   send chunks.before(size), piece
///     at the end:                         send chunks.last()
///
/// The end of a chunk goes with the beginning of the next, so that two buffers
/// make one write.
class ChunkEncoder {
 public:
  /// What goes before a piece of that size. Nothing before one of size 0, since
  /// an empty chunk would end the body. Lifetime: until the next call.
  std::string_view before(std::uint64_t size) noexcept;

  /// What goes after the last piece. With trailers, what a HeadWriter without
  /// a first line has written follows. Lifetime: of a literal.
  std::string_view last() noexcept { return ended("\r\n0\r\n\r\n"); }
  std::string_view last_before_trailers() noexcept {
    return ended("\r\n0\r\n");
  }

 private:
  std::string_view ended(std::string_view text) noexcept;

  char text_[20];  // CR LF, 16 digits, CR LF
  bool open_ = false;
};

}  // namespace violet::http
