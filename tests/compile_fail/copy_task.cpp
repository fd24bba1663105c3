// copy_task.cpp - copies a task.
// Says: it runs once: std::move(task), or call f again
// SPDX-License-Identifier: MIT
#include <violet.hpp>

violet::Task<> child() {
  co_return;
}

violet::Task<> body() {
  violet::Task<> task = child();
  violet::Task<> copy = task;
  co_await std::move(copy);
}
