// drop_generator.cpp - calls a generator and forgets it.
// Says: a generator does nothing until next() is called
// SPDX-License-Identifier: MIT
#include <violet.hpp>

violet::Generator<int> one() {
  co_yield 1;
}

void body() {
  one();
}
