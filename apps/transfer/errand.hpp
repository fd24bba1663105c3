// errand.hpp - what sending a file and fetching one have in common.
// SPDX-License-Identifier: MIT
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "../../net/http/http.hpp"
#include "../args.hpp"
#include "byte_set.hpp"

namespace transfer {

/// What has failed and may pass.
struct Setback {
  Setback() noexcept {}
  explicit Setback(std::string what, violet::Duration asked = {})
      : why(std::move(what)), wait(asked) {}
  std::string why;
  violet::Duration wait{};  // that the server asks for; 0: it does not
};

/// What `put` and `get` are asked for.
struct Errand {
  std::string file;
  std::string url;
  std::uint64_t chunk = std::uint64_t{5} << 20;
  std::size_t parallel = 8;
  int threads = 1;
  int retries = 8;
  bool quiet = false;

  /// The options that both have. Lifetime: a literal.
  void add_options(Args& args, const char* retries_help) {
    args.size("--chunk", "bytes of a piece (5MiB)", chunk, 1,
              std::uint64_t{1} << 40);
    args.number("--parallel", "pieces at a time (8)", parallel, 1, 1000);
    args.number("--threads", "event loops, each on its own thread (1)", threads,
                1, 256);
    args.number("--retries", retries_help, retries, 0, 1000);
    args.flag("--quiet", "show no progress, nor what is tried again", quiet);
  }

  /// One of its connections asks how far it is while the others are busy.
  violet::http::ClientOptions client_options() const;

  /// How many pieces a loop has under way: all together `parallel`.
  std::size_t jobs_of_loop(int index) const;

  /// Before what has failed is tried again: a pause that grows, and is as long
  /// as the server asks for.
  /// Throws: Rejected, with why it failed, if it was tried often enough.
  violet::Task<> pause(int& attempt, Setback setback) const;

  /// Throws: Deferred or Rejected, whichever stands for a reply that is not
  /// what was wanted: "PUT http://127.0.0.1:8080/a: 507 Insufficient Storage",
  /// with what the server says of it.
  [[noreturn]] void refuse(std::string_view method,
                           const violet::http::Response& reply,
                           std::string_view said = {}) const;
};

/// Of all jobs of an errand, on whatever loop, one failure ends it and is told:
/// the others are of the same kind, and come too late to matter.
class OneFailure {
 public:
  /// Does a job. If it fails, and is not the first, waits to be ended.
  violet::Task<> among(violet::Task<> job);

  bool happened() const noexcept { return happened_.load(); }

 private:
  std::atomic<bool> happened_ = false;
};

/// However often the server is asked, it will not do it.
class Rejected : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// It will not do it now. So may be what the connection throws.
class Deferred : public std::runtime_error {
 public:
  explicit Deferred(const std::string& why, violet::Duration wait = {})
      : std::runtime_error(why), wait_(wait) {}
  violet::Duration wait() const noexcept { return wait_; }

 private:
  violet::Duration wait_;
};

/// True for a status that another try may not meet again.
inline bool may_pass(int status) {
  if (status == 408 || status == 429) return true;
  return status >= 500 && status != 501 && status != 505 && status != 507;
}

/// In a catch block: what went wrong, if it may pass; else it is thrown on.
Setback what_may_pass();

/// Nobody is waited for any longer than this, whatever he asks for.
inline constexpr violet::Duration kLongestWait = std::chrono::minutes(5);

/// What the Retry-After of a reply asks for: so many seconds, or up to a date,
/// which is compared with the reply's own. 0 if there is none, or none that is
/// understood. See: RFC 9110, section 10.2.3.
violet::Duration wait_of(const violet::http::Fields& fields,
                         violet::http::Time now);

/// Cuts the next piece off what is left. Returns: false if nothing is.
bool cut(std::deque<ByteRange>& left, std::uint64_t chunk, ByteRange& piece);

/// The SHA-256 of all of a file. Suspends: off the loop.
violet::Task<std::string> sha256_of(const violet::File& file);

}  // namespace transfer
