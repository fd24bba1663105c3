// client.hpp - asking servers, and reading what they answer.
//
// The idea: a request goes out while its reply is already awaited, since a
// server may refuse a body before all of it has come. One that agrees before
// that is sent the rest by a job beside the one that reads the reply. What is
// sent and what is received are streams; neither is ever whole in memory. A
// connection is kept for the next request once both have ended well, and closed
// in every other case, a kill among them.
//
//     http::Client client;
//     http::Response reply = co_await client.get("http://127.0.0.1:8000/");
//     for (;;) {
//       const std::string_view piece = co_await reply.read();
//       if (piece.empty()) break;
//       ...
//     }
//
// A connection that was kept may be ended by its server at the moment at which
// the next request goes out on it. If nothing of a reply came then, and the
// request can be sent again, it is, once, on a new connection.
//
// All errors are std::system_error and begin with method and URL: "GET
// http://127.0.0.1:1/: connect 127.0.0.1:1: Connection refused". A status such
// as 404 is none.
//
// Built on: pool, wire; sendfile, runtime/combine. See: RFC 9110; RFC 9112,
// section 9.
// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#include "../sendfile.hpp"
#include "pool.hpp"
#include "wire.hpp"

namespace violet::http {

// --------------------------------------------------------------------- errors

/// What a client refuses by itself, as a std::error_code.
enum class ClientError {
  kNoReply = 1,    ///< the connection ended before anything of a reply came
  kManyRedirects,  ///< one more than ClientOptions::max_redirects
  kBadRedirect,    ///< to what is no URL for this client
  kSwitched,       ///< 101, which nobody has asked for
};

const std::error_category& client_category() noexcept;
std::error_code make_error_code(ClientError error) noexcept;

}  // namespace violet::http

template <>
struct std::is_error_code_enum<violet::http::ClientError> : std::true_type {};

namespace violet::http {

// -------------------------------------------------------------------- options

/// How a client is to behave. Trivially destructible.
struct ClientOptions : PoolOptions {
  ClientOptions() noexcept {}

  /// How long the head of a reply may take once the request is out. Each
  /// interim reply (1xx) begins that anew.
  Duration reply_time = std::chrono::seconds(60);

  /// How long a body may be without progress, in either direction. What a
  /// caller does between two reads is not counted, and a reply may pause while
  /// the request still goes out.
  Duration stall_time = std::chrono::seconds(60);

  /// How many redirects are followed; 0: a redirect is a reply as any other.
  int max_redirects = 10;

  HeadLimits head_limits;
  BodyLimits body_limits;
};

// -------------------------------------------------------------------- request

namespace internal {
class RoundTrip;
}

/// What is asked for.
class Request {
 public:
  /// Throws: what Url::parse() throws; Misuse for a method that is no word,
  /// and for CONNECT.
  Request(std::string_view method, std::string_view url)
      : Request(method, Url::parse(url)) {}
  Request(std::string_view method, Url url);

  /// A field. Throws: Misuse for one that the client writes itself: Host,
  /// Connection, Content-Length, Transfer-Encoding, Expect. What may not stand
  /// in a field is Misuse when the request is sent.
  Request& field(std::string_view name, std::string_view value);

  /// A body: a text; or a part of a file, which is sent without a copy where
  /// the system can.
  /// Lifetime: the file outlives the exchange.
  Request& body(std::string text);
  Request& body(const File& file, std::uint64_t offset, std::uint64_t count);

  /// A body that `writes(writer)`, a function that returns Task<>, writes to
  /// the BodyWriter& that it gets; finish() is called for it. Without a length
  /// it goes out in chunks.
  /// Lifetime: the function is not copied, and outlives the exchange.
  template <class Writes>
    requires std::same_as<std::invoke_result_t<Writes&, BodyWriter&>, Task<>>
  Request& body(Writes& writes, std::optional<std::uint64_t> length = {}) {
    return written_by(&writes, call<Writes>, length);
  }

  /// True if the whole may be sent twice. Without this it is so for methods
  /// that do the same when they are repeated (GET, HEAD, PUT, DELETE, OPTIONS,
  /// TRACE), but not for a body that a function writes.
  Request& repeatable(bool may_repeat);

  /// Holds the body back until the server has asked for it, or has said
  /// nothing for so long.
  Request& expect_continue(Duration patience = std::chrono::seconds(1));

  const std::string& method() const noexcept { return method_; }
  const Url& url() const noexcept { return url_; }

 private:
  friend class internal::RoundTrip;
  using Call = Task<> (*)(const void* function, BodyWriter& to);
  enum class BodyFrom : std::uint8_t { kNone, kText, kFile, kFunction };

  template <class Writes>
  static Task<> call(const void* function, BodyWriter& to) {
    return (*static_cast<Writes*>(const_cast<void*>(function)))(to);
  }
  Request& written_by(const void* function, Call how,
                      std::optional<std::uint64_t> length);
  bool may_repeat() const noexcept;
  bool can_repeat_body() const noexcept;
  void drop_body();
  void drop_fields(std::initializer_list<std::string_view> names);
  Framing framing() const noexcept;

  std::string method_;
  Url url_;
  std::vector<std::pair<std::string, std::string>> fields_;
  std::optional<bool> repeatable_;
  std::optional<Duration> expects_;

  // Where the body comes from, and what of the rest has a meaning then.
  BodyFrom from_ = BodyFrom::kNone;
  std::string text_;
  const File* file_ = nullptr;
  std::uint64_t offset_ = 0;
  std::optional<std::uint64_t> length_;
  const void* function_ = nullptr;
  Call call_ = nullptr;
};

// ------------------------------------------------------------------- response

/// A reply: its head, and its body as it comes. Move-only. Read to the end, it
/// leaves its connection to the next request; dropped before, it closes it.
/// A success (2xx) that comes before the body of the request is out does not
/// end that: it goes out meanwhile, and the reply's own end is not told before.
/// Who drops the reply before that cuts it off.
///
/// All reading: Suspends: until something is there. Throws: std::system_error
/// that names the request: a Fault for a body that is cut short or malformed,
/// std::errc::timed_out after ClientOptions::stall_time, what the connection
/// throws; at the end, or when no more comes, why the request's body is not
/// out: what a function that writes it has thrown, std::errc::timed_out. But a
/// server may end the connection once it has said all. Kill: nothing is lost.
///
/// Lifetime: the client outlives it; a read does not outlive it.
class Response {
 public:
  explicit Response(std::shared_ptr<internal::RoundTrip> trip) noexcept;
  Response(Response&& other) noexcept;
  Response& operator=(Response&& other) noexcept;
  ~Response();

  int status() const noexcept { return head().status; }

  /// True for 200 to 299.
  bool ok() const noexcept { return status() / 100 == 2; }

  /// Lifetime: the response's.
  const ResponseHead& head() const noexcept;
  const Fields& fields() const noexcept { return head().fields; }

  /// Where it came from in the end, after redirects.
  const Url& url() const noexcept;

  /// How long the body will be, if that is known.
  std::optional<std::uint64_t> length() const noexcept;

  /// The next piece of the body. Returns: a piece; empty at the end.
  /// Lifetime: of the piece: until the next read, or the response's.
  Task<std::string_view> read();

  /// The same into the caller's memory.
  /// Returns: how many bytes; 0 at the end, or for an empty span.
  Task<std::size_t> read(std::span<char> into);

  /// The rest of the body. Throws: also LimitExceeded if it is more than
  /// `limit` bytes. Kill: what has come is lost.
  Task<std::string> read_all(std::size_t limit);

  /// True once all of it has been read, and the request is out.
  bool done() const noexcept;

  /// Bytes of it that have been read.
  std::uint64_t count() const noexcept;

  /// The trailer fields of a chunked body, once done().
  Fields trailers() const noexcept;

 private:
  std::shared_ptr<internal::RoundTrip> trip_;  // null once moved from
};

// --------------------------------------------------------------------- client

/// Sends requests, any number at the same time. A local variable of the job
/// that makes it, or in an object of that job; other jobs of the loop may use
/// it, too.
class Client {
 public:
  /// Throws: Misuse outside a job.
  explicit Client(const ClientOptions& options = ClientOptions());

  /// Sends a request and follows redirects. After 303, and after 301 and 302
  /// to a POST, what follows is a GET without a body; a body that cannot be
  /// sent again makes a redirect the reply. Authorization and Cookie do not go
  /// to another server.
  /// Suspends: until the head of the reply has come; for a success without a
  /// body also until the request is out.
  /// Throws: std::system_error; Misuse for a field that cannot be one; what a
  /// function that writes the body throws, unless it is a std::system_error,
  /// which is told as the request's.
  /// Kill: the connection is closed.
  /// Lifetime: of the client: outlives the task and the response.
  Task<Response> send(Request request);

  Task<Response> get(std::string url);
  Task<Response> head(std::string url);
  Task<Response> put(std::string url, std::string body);
  Task<Response> post(std::string url, std::string type, std::string body);

  /// The connections behind it.
  const Pool& pool() const noexcept { return pool_; }

 private:
  ClientOptions options_;
  Pool pool_;
};

}  // namespace violet::http
