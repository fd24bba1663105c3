// spawn_task.cpp - spawns a task instead of its function.
// Says: spawn takes the function and its arguments
// SPDX-License-Identifier: MIT
#include <violet.hpp>

violet::Task<> child(int) {
  co_return;
}

violet::Task<> body() {
  violet::spawn(child(1));
  co_return;
}
