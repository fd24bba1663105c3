// await_event_twice.cpp - awaits an event that stays where it is.
// Says: an event is awaited once, where it is made
// SPDX-License-Identifier: MIT
#include <violet.hpp>

violet::Task<> body(violet::Connection& conn) {
  auto event = conn.recv();
  co_await event;
}
