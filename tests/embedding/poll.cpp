// poll.cpp - a Violet loop inside a loop around poll(2).
// SPDX-License-Identifier: MIT
#include <poll.h>

#include "guest.hpp"

int main() {
  Guest guest;
  bool ticking = true;
  auto tick = std::chrono::steady_clock::now();
  bool alive = guest.turn();
  while (alive) {
    pollfd fds[] = {{guest.loop.fd(), POLLIN, 0}};
    // Whichever comes first: a timer of the guest's, or our own.
    int limit = guest.loop.timeout_ms();
    if (ticking && limit != 0) limit = 1;
    ::poll(fds, 1, limit);
    if (ticking && std::chrono::steady_clock::now() >= tick + 1ms) {
      tick = std::chrono::steady_clock::now();
      ticking = guest.tick();
      // What our own work has left to the guest makes fd() readable.
      ::poll(fds, 1, 0);
    }
    const bool due = fds[0].revents != 0 || guest.loop.timeout_ms() == 0;
    if (due) alive = guest.turn();
  }
}
