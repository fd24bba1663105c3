// assign_task.cpp - copies a task into another.
// Says: the same: std::move(task)
// SPDX-License-Identifier: MIT
#include <violet.hpp>

violet::Task<> child() {
  co_return;
}

violet::Task<> body() {
  violet::Task<> task = child();
  violet::Task<> copy = child();
  copy = task;
  co_await std::move(copy);
}
