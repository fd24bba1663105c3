// generator_await.cpp - waits inside a generator.
// Says: a generator cannot wait: co_yield to the caller
// SPDX-License-Identifier: MIT
#include <violet.hpp>

violet::Generator<int> body() {
  co_await violet::yield_now();
  co_yield 1;
}
