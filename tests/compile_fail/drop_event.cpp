// drop_event.cpp - makes an event and does not wait for it.
// Says: ignoring return
// SPDX-License-Identifier: MIT
#include <violet.hpp>

violet::Task<> body() {
  violet::sleep(std::chrono::seconds(1));
  co_return;
}
