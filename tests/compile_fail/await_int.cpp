// await_int.cpp - awaits something that is not an event.
// Says: only a Task or an event can be awaited here
// SPDX-License-Identifier: MIT
#include <violet.hpp>

violet::Task<> body() {
  co_await 42;
}
