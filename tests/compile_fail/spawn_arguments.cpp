// spawn_arguments.cpp - spawns a function without one of its arguments.
// Says: does not take these arguments
// SPDX-License-Identifier: MIT
#include <violet.hpp>

violet::Task<> child(int, int) {
  co_return;
}

violet::Task<> body() {
  violet::spawn(child, 1);
  co_return;
}
