// within.cpp - a limit as text.
// SPDX-License-Identifier: MIT
#include "within.hpp"

namespace violet {

std::string limit_text(Duration limit) {
  const auto rounded = std::chrono::ceil<std::chrono::milliseconds>(limit);
  return concat({" within ", rounded.count(), " ms"});
}

}  // namespace violet
