// fuzz.hpp - what the fuzz targets share: promises, and cuts.
//
// A target is a function that gets bytes nobody has thought of, and aborts if
// something that was promised does not hold. The last bytes of an input say
// how its others are cut, so that the fuzzer finds cuts as it finds texts.
//
// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string_view>

/// Ends the process unless a promise is kept.
inline void promise(bool kept, const char* what) {
  if (kept) return;
  std::fprintf(stderr, "not kept: %s\n", what);
  std::abort();
}

/// An input: a text, and how it is cut.
struct Input {
  Input(const std::uint8_t* data, std::size_t size)
      : text(reinterpret_cast<const char*>(data), size) {
    for (int i = 0; i < 2 && !text.empty(); ++i) {
      cuts[i] = static_cast<unsigned char>(text.back());
      text.remove_suffix(1);
    }
  }

  /// Calls take(piece) for each piece in turn, until it returns false. Each
  /// lies in memory of its own size, which is freed afterwards.
  template <class Take>
  void cut(Take take) const {
    std::string_view rest = text;
    for (bool odd = false; !rest.empty(); odd = !odd) {
      const std::string_view piece = rest.substr(0, 1u + cuts[odd]);
      rest.remove_prefix(piece.size());
      const auto copy = std::make_unique<char[]>(piece.size());
      piece.copy(copy.get(), piece.size());
      if (!take(std::string_view(copy.get(), piece.size()))) return;
    }
  }

  std::string_view text;
  unsigned char cuts[2] = {255, 255};
};

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size);
