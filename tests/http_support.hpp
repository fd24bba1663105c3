// http_support.hpp - one input in all the pieces it may come in.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "../runtime/random.hpp"
#include "catch.hpp"

namespace support {

using PieceList = std::vector<std::string_view>;

/// The text cut in pieces of so many bytes.
inline PieceList cut_each(std::string_view text, std::size_t size) {
  PieceList pieces;
  for (std::size_t at = 0; at < text.size(); at += size)
    pieces.push_back(text.substr(at, size));
  return pieces;
}

/// The text cut at random; some pieces are empty. A seed gives the same cuts
/// everywhere.
inline PieceList cut_at_random(std::string_view text, std::uint64_t seed) {
  violet::internal::Random random(seed);
  PieceList pieces;
  const std::size_t longest = 1 + random.below(40);
  while (!text.empty()) {
    const std::size_t size = random.below(longest + 1);
    pieces.push_back(text.substr(0, size));
    text.remove_prefix(pieces.back().size());
  }
  return pieces;
}

/// Calls read(pieces) with the text whole, cut in two at every byte, byte by
/// byte, and at random. Each must give the same. Returns: what it gives.
template <class Read>
std::string in_all_pieces(std::string_view text, Read read) {
  const std::string whole = read(PieceList{text});
  // A long text need not be cut everywhere.
  const std::size_t step = 1 + text.size() / 500;
  for (std::size_t at = 1; at < text.size(); at += step) {
    const std::string cut =
        read(PieceList{text.substr(0, at), text.substr(at)});
    if (cut == whole) continue;
    CAPTURE(text, at);
    CHECK(cut == whole);
    return "differs where it is cut";
  }
  for (const std::size_t size : {1u, 2u, 3u, 7u}) {
    CAPTURE(text, size);
    CHECK(read(cut_each(text, size)) == whole);
  }
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    CAPTURE(text, seed);
    CHECK(read(cut_at_random(text, seed)) == whole);
  }
  return whole;
}

}  // namespace support
