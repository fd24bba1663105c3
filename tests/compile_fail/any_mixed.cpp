// any_mixed.cpp - waits for a task or an event.
// Says: any() takes tasks or events, not both
// SPDX-License-Identifier: MIT
#include <violet.hpp>

violet::Task<> child() {
  co_return;
}

violet::Task<> body() {
  co_await violet::any(child(), violet::sleep(std::chrono::seconds(1)));
}
