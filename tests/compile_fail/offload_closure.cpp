// offload_closure.cpp - gives offload a capturing lambda without a name.
// Only: g++ 12, which would destroy twice what it has captured
// Says: on this compiler a capturing lambda must have a name
// SPDX-License-Identifier: MIT
#include <violet.hpp>

violet::Task<> body() {
  std::string text = "hello";
  co_await violet::offload([text] { return text.size(); });
}
