// await_const.cpp - awaits the tasks of a list where they are.
// Says: a task is awaited once, as it is called
// SPDX-License-Identifier: MIT
#include <violet.hpp>

violet::Task<> body(const std::vector<violet::Task<>>& tasks) {
  for (const auto& task : tasks) co_await task;
}
