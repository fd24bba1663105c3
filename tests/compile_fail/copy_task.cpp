// copy_task.cpp - copies a task.
// g++: use of deleted function
// clang: call to implicitly-deleted copy constructor
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
