// offload_arguments.cpp - offloads a function that wants an argument.
// Says: offload(f) calls f() on another thread, and this cannot be called so
// SPDX-License-Identifier: MIT
#include <violet.hpp>

int half(int n) {
  return n / 2;
}

violet::Task<> body() {
  co_await violet::offload(half);
}
