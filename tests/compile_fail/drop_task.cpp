// drop_task.cpp - calls a task and forgets it.
// Says: a task does nothing until it is awaited
// SPDX-License-Identifier: MIT
#include <violet.hpp>

violet::Task<> child() {
  co_return;
}

violet::Task<> body() {
  child();
  co_await violet::yield_now();
}
