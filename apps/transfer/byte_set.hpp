// byte_set.hpp - which bytes of a file are there.
// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "../../net/http/range.hpp"

namespace transfer {

using violet::http::ByteRange;

/// Some bytes of a file.
class ByteSet {
 public:
  void add(ByteRange range) {
    if (range.begin >= range.end) return;
    const auto first = std::lower_bound(
        ranges_.begin(), ranges_.end(), range.begin,
        [](const ByteRange& a, std::uint64_t begin) { return a.end < begin; });
    auto last = first;
    for (; last != ranges_.end() && last->begin <= range.end; ++last) {
      range.begin = std::min(range.begin, last->begin);
      range.end = std::max(range.end, last->end);
    }
    ranges_.insert(ranges_.erase(first, last), range);
  }

  /// What of `range` is not in it, in order.
  std::vector<ByteRange> missing(ByteRange range) const {
    std::vector<ByteRange> gaps;
    for (const ByteRange& one : ranges_) {
      if (one.end <= range.begin) continue;
      if (one.begin >= range.end) break;
      if (one.begin > range.begin) gaps.push_back({range.begin, one.begin});
      range.begin = std::min(one.end, range.end);
    }
    if (range.begin < range.end) gaps.push_back(range);
    return gaps;
  }

  bool has_all(std::uint64_t size) const { return missing({0, size}).empty(); }

  /// Its ranges: in order, not empty, and none touches another.
  const std::vector<ByteRange>& ranges() const noexcept { return ranges_; }

 private:
  std::vector<ByteRange> ranges_;
};

}  // namespace transfer
