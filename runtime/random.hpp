// random.hpp - numbers that look random and are the same everywhere.
//
// The generator is SplitMix64, by Sebastiano Vigna: what a seed gives on one
// system it gives on every other, which <random> does not promise of its
// distributions.
//
// Built on: nothing.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

namespace violet::internal {

class Random {
 public:
  explicit Random(std::uint64_t seed) noexcept : state_(seed) {}

  std::uint64_t next() noexcept { return mixed(state_ += 0x9e3779b97f4a7c15); }

  /// A number from 0 to `end` - 1, each about as likely as any other.
  std::uint64_t below(std::uint64_t end) noexcept { return next() % end; }

  /// The same bits for the same bits, with each of them mixed into all.
  static std::uint64_t mixed(std::uint64_t bits) noexcept {
    bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9;
    bits = (bits ^ (bits >> 27)) * 0x94d049bb133111eb;
    return bits ^ (bits >> 31);
  }

 private:
  std::uint64_t state_;
};

}  // namespace violet::internal
