// exchange.hpp - one request and its response, as a handler sees them.
//
//     Task<> hello(http::Exchange& x) {
//       co_await x.send(200, "text/plain", "Hello\n");
//     }
//
// The idea: a handler says what the answer is, and everything about the
// connection happens by itself. Whether it stays open, how bodies are framed,
// whether a client that waits for "100 Continue" is told to go on, what becomes
// of a body that nobody read: none of that can be got wrong by a handler,
// since it has no say in it. Bodies are streams in both directions, and
// neither is ever whole in memory unless the handler asks for that.
//
// A client that takes nothing, or sends nothing of what it has announced, is
// given up after Options::stall_time. One that is slow is not.
//
// Built on: range, wire, sendfile, server; runtime/within.
// See: RFC 9110, RFC 9112.
// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

#include "../sendfile.hpp"
#include "../server.hpp"
#include "range.hpp"
#include "wire.hpp"

namespace violet::http {

/// Thrown by a handler instead of an answer: it is answered with this status
/// and text.
class Error : public std::runtime_error {
 public:
  explicit Error(int status, std::string_view text = {});
  int status() const noexcept { return status_; }

 private:
  int status_;
};

/// Tells a client that there is no room for it: 503. For
/// violet::ServerOptions::refused, where it stands in Options.
Task<> say_busy(Connection& client);

/// How a server is to behave. Trivially destructible. A duration of 0 stands
/// for no limit.
struct Options : violet::ServerOptions {
  Options() noexcept { refused = say_busy; }
  explicit Options(const violet::ServerOptions& others) noexcept
      : violet::ServerOptions(others) {
    if (refused == nullptr) refused = say_busy;
  }

  HeadLimits head;  ///< beyond them: 414, 431 and the like
  BodyLimits body;  ///< beyond them: 413

  /// How long a connection may wait for its first or next request.
  Duration keep_alive = std::chrono::seconds(75);

  /// How long a head may take once it has begun; then 408.
  Duration head_time = std::chrono::seconds(20);

  /// How long a client may send nothing of a body (408), or take nothing of a
  /// response.
  Duration stall_time = std::chrono::seconds(30);

  /// Requests on one connection; 0: any number.
  std::uint64_t max_requests = 0;

  /// What is still to come of a body that no handler wants is read and dropped
  /// if it is not more than so many bytes; else the connection is closed.
  std::uint64_t unwanted = 64 * 1024;

  /// How long a client may take to notice that its connection is closed.
  Duration leave_time = std::chrono::seconds(2);
};

/// A duration of Options as a limit: 0 is none.
inline Duration time_limit(Duration option) noexcept {
  return option > Duration::zero() ? option : Duration::max();
}

/// What a path's parts named {name} stand for.
struct Parameters {
  static constexpr std::size_t kMost = 8;
  std::array<std::string_view, kMost> names;
  std::array<std::string_view, kMost> values;
  std::size_t count = 0;
};

class Conversation;
class Exchange;
class Router;

namespace internal {
class Call;
}

/// Writing a response: sends what has been gathered and a text after it, or
/// has nothing to do. Takes a timer only where the client takes nothing.
class [[nodiscard]] ResponseEvent : public Event {
 public:
  /// What becomes of the text.
  enum class Text : std::uint8_t {
    kSent,
    kGathered,  // once there is room for it
  };

  /// Nothing is to be sent.
  explicit ResponseEvent(Exchange& whose) noexcept : whose_(&whose) {}

  ResponseEvent(Exchange& whose, std::string_view text, Text what) noexcept
      : whose_(&whose), text_(text), sends_(true), what_(what) {}
  ResponseEvent(ResponseEvent&& other) noexcept
      : Event(std::move(other)),
        whose_(other.whose_),
        text_(other.text_),
        sends_(other.sends_),
        what_(other.what_) {}

  bool attempt() noexcept override;
  void undo() noexcept override;
  void describe(Description& out) const override;
  int error() const noexcept { return error_; }
  void value() const noexcept {}
  void result() const {
    if (error_ != 0) raise();
  }

 private:
  bool send(std::string_view text) noexcept;
  bool wait_on() noexcept;
  bool end(int error) noexcept;
  void stop_timer() noexcept;
  [[noreturn]] void raise() const;

  Exchange* whose_;
  std::string_view text_;  // the caller's
  std::optional<Heirless<SendAllEvent>> part_;
  Timer timer_;
  std::optional<std::uint64_t> taken_;  // when the timer was started
  bool sends_ = false;
  bool gathered_is_out_ = false;
  Text what_ = Text::kSent;
};

/// One request and its response. Belongs to the server, for whom the handler
/// works.
///
/// All that waits: Throws: Error with 408 for a client that stalls while it
/// sends; std::system_error, with a Fault for a body that is broken or too
/// long, ETIMEDOUT for a client that takes nothing. Who lets them pass has done
/// what is right; so has who is told by a std::error_code (then ETIMEDOUT
/// stands for both) and returns. Kill: the connection is closed.
class Exchange {
 public:
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  // --- the request

  /// Lifetime: of it and of its views: the exchange.
  const RequestHead& request() const noexcept { return parser_.head(); }

  /// The path, decoded: "/a b/c" of "/a%20b//c?d". See decode_path().
  std::string_view path() const noexcept { return path_; }

  /// What {name} in the route's pattern stands for, decoded. Lifetime: the
  /// exchange. Throws: Misuse if the pattern has no such name.
  std::string_view parameter(std::string_view name) const;

  /// The decoded value of the first parameter of the query with that name.
  std::optional<std::string> query(std::string_view name) const {
    return query_value(request().parts.query, name);
  }

  Address peer() const { return connection().peer(); }

  /// Bytes that have left on this connection, of all its responses.
  std::uint64_t sent_bytes() const noexcept {
    return connection().sent_bytes();
  }

  /// Holds what has come of the body in no more memory than it needs, for a
  /// handler that will not read for a while: it waits for something else.
  void compact() noexcept { stream_.compact(); }

  /// The next piece of the body, empty at its end. The first read tells a
  /// client that waits for it to go on.
  /// Lifetime: of the piece: until the next read.
  Task<std::string_view> read();
  Task<std::string_view> read(std::error_code& code);

  /// The same into the caller's memory. Returns: how many bytes; 0 at the end.
  Task<std::size_t> read(std::span<char> into);
  Task<std::size_t> read(std::span<char> into, std::error_code& code);

  /// The rest of the body. Throws: also LimitExceeded beyond `limit` bytes,
  /// which is answered with 413; as a code, Fault::kLongBody.
  Task<std::string> read_all(std::size_t limit);
  Task<std::string> read_all(std::size_t limit, std::error_code& code);

  /// Bytes of the body that have been read.
  std::uint64_t body_count() const noexcept {
    return body_ ? body_->count() : 0;
  }

  // --- the response

  /// A field of the response. What frames the body, and Connection and Date,
  /// are written by the server.
  /// Throws: Misuse for one of these, for what is no field, and once the
  /// response has begun.
  Exchange& field(std::string_view name, std::string_view value);
  Exchange& field(std::string_view name, std::uint64_t number);
  Exchange& date(std::string_view name, Time time);

  /// A whole response, which is sent when the handler returns: for handlers
  /// that wait for nothing. Without a type, no Content-Type is sent.
  void reply(int status, std::string_view type, std::string_view text);

  /// The same, and waits until it is sent; a long text is not copied.
  /// Lifetime: the text outlives the wait.
  ResponseEvent send(int status, std::string_view type, std::string_view text);
  Coded<ResponseEvent> send(int status, std::string_view type,
                            std::string_view text, std::error_code& code) {
    return Coded<ResponseEvent>(send(status, type, text), code);
  }

  /// Says no: a sentence as text, "404 Not Found" if none is given. Throws:
  /// Misuse, as send(); nothing if the client does not hear it.
  Task<> refuse(int status, std::string_view text = {});

  /// Begins a response with a body of `length` bytes, or of a length that is
  /// not known yet. Nothing is sent before write(), flush() or finish().
  void start(int status, std::uint64_t length);
  void start(int status);

  /// Writes a piece of the body into a buffer that is sent when it is full, by
  /// flush(), and at the end. Of a response to HEAD nothing is sent.
  /// Throws: also Misuse before start(), and for more bytes than were said.
  /// Lifetime: the piece outlives the wait.
  ResponseEvent write(std::string_view piece);
  Coded<ResponseEvent> write(std::string_view piece, std::error_code& code) {
    return Coded<ResponseEvent>(write(piece), code);
  }
  ResponseEvent flush() noexcept;
  Coded<ResponseEvent> flush(std::error_code& code) noexcept {
    return Coded<ResponseEvent>(flush(), code);
  }

  /// Ends the body. When a handler returns, that happens by itself.
  ResponseEvent finish();
  Coded<ResponseEvent> finish(std::error_code& code) {
    return Coded<ResponseEvent>(finish(), code);
  }

  /// Answers GET and HEAD with a file or the part of it that is asked for, as
  /// conditions and Range in the request have it: 200, 206, 304, 412 or 416.
  /// `type` is the Content-Type. The fields that go with it are written.
  /// As a code, Fault::kCutShort is a file that became shorter meanwhile.
  Task<> send_file(const File& file, const Selected& about,
                   std::string_view type);
  Task<> send_file(const File& file, const Selected& about,
                   std::string_view type, std::error_code& code);

  /// True once a response has begun: there is no other answer any more.
  bool begun() const noexcept { return begun_; }

  // --- for servers and routers

  /// The options of its server.
  const Options& options() const noexcept { return *options_; }

 private:
  friend class Conversation;
  friend class ResponseEvent;
  friend class Router;

  Exchange(Connection&& connection, const Options& options)
      : stream_(std::move(connection)),
        options_(&options),
        parser_(options.head) {}

  const Connection& connection() const { return stream_.connection(); }

  // The request.
  void begin();
  Fault read_path();
  template <class T, class Begin>
  Task<T> read_with(Begin begin, std::error_code& code);
  Task<> invite(std::error_code& code);
  bool holds_body() const noexcept;
  bool may_drop_rest() const noexcept;
  std::error_code stalled() noexcept;
  [[noreturn]] void raise() const;

  // The response.
  void check_field(std::string_view name, std::string_view value) const;
  static void check_value(std::string_view name, std::string_view value);
  void begin_response(int status, Framing framing, std::string_view type = {});
  bool begin_reply(int status, std::string_view type, std::size_t size);
  void write_head(int status, Framing framing, std::string_view type);
  void append_refusal(int status, std::string_view text);
  void end_body();
  void check_begun() const;
  Task<> send_part(const File& file, ByteRange range, std::error_code& code);
  Task<> send_long(const File& file, ByteRange range, std::error_code& code);
  Task<> send_parts(const File& file, const Selected& about,
                    std::string_view type, const Ranges& ranges,
                    std::error_code& code);
  void describe_file(const Selected& about);

  bool body_done() const noexcept { return !body_ || body_->done(); }

  /// True if nothing of it is left to do.
  bool is_whole() const noexcept {
    if (owes_text_) return false;
    return begun_ && !broken_ && !failure_ && framer_.ended() && body_done();
  }

  Stream stream_;  // for reading; what is sent goes past it
  const Options* options_;
  RequestParser parser_;
  std::string path_;
  std::uint64_t routes_ = 0;              // the edition that has told
  const internal::Call* call_ = nullptr;  // this one to answer
  Parameters parameters_;                 // with these
  std::optional<BodyReader> body_;        // none: the request has none
  BodyFramer framer_;
  std::error_code failure_;  // what the last read has met
  std::string fields_;       // of the response
  std::string out_;          // what is to be sent
  std::uint64_t requests_ = 0;
  bool begun_ = false;
  bool bodiless_ = false;   // nothing of the response's body is sent
  bool owes_text_ = false;  // some was announced, and nobody has awaited it
  bool head_out_ = false;   // of the response, at least in part
  bool invited_ = false;    // the client has been told to send its body
  bool keeps_ = false;      // the connection stays open after this
  bool last_ = false;       // it must not
  bool broken_ = false;     // nothing more can be said on it
};

/// "127.0.0.1:50412: GET /a b: what" on one line, whatever the client has sent.
std::string log_line(const Exchange& about, std::string_view what);

}  // namespace violet::http
