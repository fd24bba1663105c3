// histogram.hpp - many durations, remembered well enough for percentiles.
//
// Each is counted in one of a few thousand bins whose width is 1/64 of where
// they lie or less, so a percentile is right to 1.6 percent however many there
// are, and counting costs a few instructions. The least and the greatest are
// kept as they are.
// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstdint>
#include <vector>

class Histogram {
 public:
  using Duration = std::chrono::nanoseconds;

  void add(Duration duration) {
    const auto ns =
        static_cast<std::uint64_t>(std::max<std::int64_t>(duration.count(), 0));
    ++bins_[bin_of(ns)];
    ++count_;
    least_ns_ = std::min(least_ns_, ns);
    most_ns_ = std::max(most_ns_, ns);
  }

  std::uint64_t count() const { return count_; }
  Duration least() const { return ns(count_ == 0 ? 0 : least_ns_); }
  Duration most() const { return ns(most_ns_); }

  /// Returns: a duration that `percent` of all are not longer than; 0 of none.
  Duration percentile(double percent) const {
    const double exact = static_cast<double>(count_) * percent / 100;
    auto rank = static_cast<std::uint64_t>(exact);
    if (static_cast<double>(rank) < exact) ++rank;
    std::uint64_t below = 0;
    for (std::size_t bin = 0; bin < bins_.size(); ++bin) {
      below += bins_[bin];
      if (below >= std::max<std::uint64_t>(rank, 1)) {
        return ns(std::clamp(end_of(bin), least_ns_, most_ns_));
      }
    }
    return Duration::zero();
  }

 private:
  static constexpr unsigned kBits = 6;  // bins in each doubling: 64

  static Duration ns(std::uint64_t count) {
    return Duration(static_cast<std::int64_t>(count));
  }

  /// Up to 127 ns each has a bin of its own; beyond, the top 7 bits count.
  static std::size_t bin_of(std::uint64_t ns) {
    const unsigned width = static_cast<unsigned>(std::bit_width(ns));
    const unsigned shift = width > kBits + 1 ? width - kBits - 1 : 0;
    return (std::size_t{shift} << kBits) + (ns >> shift);
  }

  /// The greatest that is counted in a bin.
  static std::uint64_t end_of(std::size_t bin) {
    const std::size_t octave = bin >> kBits;
    const std::size_t shift = octave > 1 ? octave - 1 : 0;
    const std::uint64_t top = bin - (shift << kBits);
    return ((top + 1) << shift) - 1;
  }

  std::vector<std::uint64_t> bins_ =
      std::vector<std::uint64_t>((64 - kBits + 1) << kBits);
  std::uint64_t count_ = 0;
  std::uint64_t least_ns_ = ~std::uint64_t{0};
  std::uint64_t most_ns_ = 0;
};
