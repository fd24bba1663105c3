// offload_view.cpp - leaves a view behind on a thread.
// Says: a call that may be left behind owns what it uses
// SPDX-License-Identifier: MIT
#include <violet.hpp>

violet::Task<> body() {
  const std::string text = "short-lived";
  co_await violet::offload(
      violet::abandon, [](std::string_view view) { return view.size(); },
      std::string_view(text));
}
