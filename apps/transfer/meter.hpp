// meter.hpp - how far a transfer is: a bar on a terminal, lines elsewhere.
// SPDX-License-Identifier: MIT
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "../../net/net.hpp"

namespace transfer {

/// "[#####-----]  50%  5.0 MiB of 10.0 MiB  1.0 MiB/s  5 s left"
std::string bar_text(std::uint64_t done, std::uint64_t total,
                     std::uint64_t bytes_per_s);

/// Counts bytes, on any thread, and shows them on stderr.
class Meter {
 public:
  /// Nothing is shown if `quiet`. `done` is there already.
  void begin(std::uint64_t done, std::uint64_t total, bool quiet);

  /// Negative where bytes have to be sent again.
  void add(std::int64_t bytes) noexcept {
    done_.fetch_add(bytes, std::memory_order_relaxed);
  }
  std::uint64_t done() const noexcept;

  /// Shows it again and again: ten times a second on a terminal, else a line
  /// every five seconds. Kill: ends the line of the bar.
  violet::Task<> show();

  /// Says so on stderr; a bar is cleared off the terminal first.
  static void complain(std::string_view text);

  /// "3.4 MiB in 1.2 s, 2.8 MiB/s"
  std::string summary() const;

 private:
  class Line;
  using Clock = std::chrono::steady_clock;

  std::uint64_t rate();

  std::atomic<std::int64_t> done_ = 0;
  std::uint64_t total_ = 0;
  std::int64_t before_ = 0;  // what was there at the beginning
  bool quiet_ = true;
  Clock::time_point begun_{};

  // Of the rate: what was seen last, and what it came to, smoothed.
  std::int64_t seen_ = 0;
  Clock::time_point seen_at_{};
  double bytes_per_s_ = 0;
};

}  // namespace transfer
