// offload_task.cpp - gives a task to a thread of the pool.
// Says: offload takes a plain function that may block
// SPDX-License-Identifier: MIT
#include <violet.hpp>

violet::Task<> child() {
  co_return;
}

violet::Task<> body() {
  co_await violet::offload(child);
}
