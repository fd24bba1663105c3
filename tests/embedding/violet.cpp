// violet.cpp - a Violet loop inside another one.
// SPDX-License-Identifier: MIT
#include "guest.hpp"

Task<> host(Guest& guest) {
  while (guest.turn()) {
    Deadline next(guest.loop.next_deadline());
    co_await within(next, readable(guest.loop.fd()));
  }
}

Task<> tick(Guest& guest) {
  while (guest.tick()) co_await violet::sleep(1ms);
}

Task<> both(Guest& guest) {
  co_await all(host(guest), tick(guest));
}

int main() {
  Guest guest;
  run(both(guest));
}
