// await_job.cpp - awaits the handle of a job instead of joining it.
// Says: only a Task or an event can be awaited here
// SPDX-License-Identifier: MIT
#include <violet.hpp>

violet::Task<> child() {
  co_return;
}

violet::Task<> body() {
  co_await violet::spawn(child);
}
