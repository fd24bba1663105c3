// errand.cpp - trying again, cutting, summing up.
// SPDX-License-Identifier: MIT
#include "errand.hpp"

#include <algorithm>
#include <chrono>
#include <span>
#include <system_error>
#include <vector>

#include "sha256.hpp"

namespace transfer {

using namespace violet;

http::ClientOptions Errand::client_options() const {
  http::ClientOptions options;
  options.max_per_host = parallel + 1;
  return options;
}

std::size_t Errand::jobs_per_loop() const {
  const auto loops = static_cast<std::size_t>(threads);
  return (parallel + loops - 1) / loops;
}

Task<> Errand::pause(int& attempt, std::string why) const {
  if (attempt >= retries) throw Rejected(why);
  if (!quiet) complain(concat({why, "; trying again"}));
  const int shift = std::min(attempt++, 5);
  co_await violet::sleep(std::chrono::milliseconds(200) * (1 << shift));
}

std::string Errand::answer_text(std::string_view method,
                                const http::Response& reply) const {
  return concat(
      {method, " ", url, ": ", reply.status(), " ", reply.head().reason});
}

std::string what_may_pass() {
  try {
    throw;
  } catch (const Deferred& e) {
    return e.what();
  } catch (const std::system_error& e) {
    return e.what();
  }
}

void cut(ByteRange rest, std::uint64_t chunk, std::deque<ByteRange>& pieces) {
  while (rest.size() > 0) {
    const std::uint64_t end = std::min(rest.begin + chunk, rest.end);
    pieces.push_back({rest.begin, end});
    rest.begin = end;
  }
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
