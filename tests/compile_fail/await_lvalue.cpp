// await_lvalue.cpp - awaits a task that stays where it is.
// Says: a task is awaited once, as it is called
// SPDX-License-Identifier: MIT
#include <violet.hpp>

violet::Task<> child() {
  co_return;
}

violet::Task<> body() {
  violet::Task<> task = child();
  co_await task;
}
