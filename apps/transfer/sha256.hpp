// sha256.hpp - a digest, by which a file is known again.
// See: FIPS 180-4, section 6.2.
// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace transfer {

class Sha256 {
 public:
  void add(std::string_view data) {
    count_ += data.size();
    if (filled_ > 0) {
      const std::size_t part = data.copy(&block_[filled_], 64 - filled_);
      filled_ += part;
      data.remove_prefix(part);
      if (filled_ < 64) return;
      mix(block_.data());
    }
    for (; data.size() >= 64; data.remove_prefix(64)) mix(data.data());
    filled_ = data.copy(block_.data(), 64);
  }

  /// As 64 hexadecimal digits. Ends it.
  std::string text() {
    const std::uint64_t bits = count_ * 8;
    std::string end(1, '\x80');
    end.append((119 - filled_) % 64, '\0');
    for (int shift = 56; shift >= 0; shift -= 8) {
      end += static_cast<char>(bits >> shift);
    }
    add(end);
    std::string digits;
    for (const std::uint32_t word : state_) {
      for (int shift = 28; shift >= 0; shift -= 4) {
        digits += "0123456789abcdef"[word >> shift & 15];
      }
    }
    return digits;
  }

 private:
  void mix(const char* block) {
    std::array<std::uint32_t, 64> w;
    for (std::size_t i = 0; i < 16; ++i) w[i] = word_at(block + 4 * i);
    for (std::size_t i = 16; i < 64; ++i) {
      w[i] = w[i - 16] + w[i - 7] + turned(w[i - 15], 7, 18, w[i - 15] >> 3) +
             turned(w[i - 2], 17, 19, w[i - 2] >> 10);
    }
    auto [a, b, c, d, e, f, g, h] = state_;
    for (std::size_t i = 0; i < 64; ++i) {
      const std::uint32_t x = h + turned(e, 6, 11, std::rotr(e, 25)) +
                              ((e & f) ^ (~e & g)) + kRounds[i] + w[i];
      const std::uint32_t y =
          turned(a, 2, 13, std::rotr(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
      h = g, g = f, f = e, e = d + x;
      d = c, c = b, b = a, a = x + y;
    }
    const std::array<std::uint32_t, 8> now = {a, b, c, d, e, f, g, h};
    for (std::size_t i = 0; i < 8; ++i) state_[i] += now[i];
  }
  static std::uint32_t turned(std::uint32_t x, int first, int second,
                              std::uint32_t third) {
    return std::rotr(x, first) ^ std::rotr(x, second) ^ third;
  }
  static std::uint32_t word_at(const char* bytes) {
    std::uint32_t word = 0;
    for (int i = 0; i < 4; ++i) {
      word = word << 8 | static_cast<unsigned char>(bytes[i]);
    }
    return word;
  }

  static constexpr std::array<std::uint32_t, 64> kRounds = {
      0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1,
      0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3,
      0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
      0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
      0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
      0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
      0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
      0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
      0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
      0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
      0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

  std::array<std::uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372,
                                         0xa54ff53a, 0x510e527f, 0x9b05688c,
                                         0x1f83d9ab, 0x5be0cd19};
  std::array<char, 64> block_{};
  std::size_t filled_ = 0;  // bytes of it
  std::uint64_t count_ = 0;
};

}  // namespace transfer
