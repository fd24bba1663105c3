// spawn_plain.cpp - spawns a function that is not a task.
// Says: the function that is spawned must return a Task
// SPDX-License-Identifier: MIT
#include <violet.hpp>

int child(int number) {
  return number;
}

violet::Task<> body() {
  violet::spawn(child, 1);
  co_return;
}
