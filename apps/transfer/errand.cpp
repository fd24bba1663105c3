// errand.cpp - trying again, cutting, summing up.
// SPDX-License-Identifier: MIT
#include "errand.hpp"

#include <algorithm>
#include <chrono>
#include <exception>
#include <span>
#include <system_error>
#include <vector>

#include "meter.hpp"
#include "sha256.hpp"

namespace transfer {

using namespace violet;

http::ClientOptions Errand::client_options() const {
  http::ClientOptions options;
  options.max_per_host = parallel + 1;
  return options;
}

std::size_t Errand::jobs_of_loop(int index) const {
  const auto loops = static_cast<std::size_t>(threads);
  const bool one_more = static_cast<std::size_t>(index) < parallel % loops;
  return parallel / loops + (one_more ? 1 : 0);
}

Task<> Errand::pause(int& attempt, Setback setback) const {
  if (attempt >= retries) throw Rejected(setback.why);
  const int shift = std::min(attempt++, 5);
  const Duration own = std::chrono::milliseconds(200) * (1 << shift);
  std::string when;
  if (setback.wait > own) {
    const auto whole = std::chrono::ceil<std::chrono::seconds>(setback.wait);
    when = concat({" in ", whole.count(), " s"});
  }
  if (!quiet) Meter::complain(concat({setback.why, "; trying again", when}));
  co_await violet::sleep(std::max(own, setback.wait));
}

void Errand::refuse(std::string_view method, const http::Response& reply,
                    std::string_view said) const {
  std::string why = concat(
      {method, " ", url, ": ", reply.status(), " ", reply.head().reason});
  if (!said.empty()) why = concat({why, ": ", said});
  if (!may_pass(reply.status())) throw Rejected(why);
  throw Deferred(why, wait_of(reply.fields(), http::current_time()));
}

Task<> OneFailure::among(Task<> job) {
  std::exception_ptr error;
  try {
    co_await std::move(job);
  } catch (...) {
    error = std::current_exception();
  }
  if (!error) co_return;
  if (!happened_.exchange(true)) std::rethrow_exception(error);
  for (;;) co_await violet::sleep(std::chrono::hours(1));
}

Setback what_may_pass() {
  try {
    throw;
  } catch (const Deferred& e) {
    return Setback(e.what(), e.wait());
  } catch (const std::system_error& e) {
    const bool elsewhere = e.code() == http::ClientError::kBadRedirect ||
                           e.code() == http::ClientError::kManyRedirects;
    if (elsewhere) throw Rejected(e.what());
    return Setback(e.what());
  }
}

Duration wait_of(const http::Fields& fields, http::Time now) {
  using std::chrono::seconds;
  constexpr auto kMost = std::chrono::floor<seconds>(kLongestWait);
  const auto asked = fields.only("Retry-After");
  if (!asked) return {};
  if (const auto count = http::parse_number(*asked)) {
    const auto most = static_cast<std::uint64_t>(kMost.count());
    return seconds(std::min(*count, most));
  }
  if (const auto date = fields.only("Date")) {
    now = http::parse_date(*date, now).value_or(now);
  }
  const auto until = http::parse_date(*asked, now).value_or(now);
  return std::clamp<seconds>(until - now, seconds(0), kMost);
}

bool cut(std::deque<ByteRange>& left, std::uint64_t chunk, ByteRange& piece) {
  if (left.empty()) return false;
  ByteRange& gap = left.front();
  piece = {gap.begin, gap.begin + std::min(chunk, gap.size())};
  gap.begin = piece.end;
  if (gap.size() == 0) left.pop_front();
  return true;
}

Task<std::string> sha256_of(const File& file) {
  Sha256 sum;
  std::vector<char> block(std::size_t{1} << 20);
  for (std::uint64_t at = 0;;) {
    const std::size_t count = co_await file.read_at(std::span<char>(block), at);
    if (count == 0) break;
    at += count;
    auto add = [&] { sum.add(std::string_view(block.data(), count)); };
    co_await offload(add);
  }
  co_return sum.text();
}

}  // namespace transfer
