// generator_aggregate.cpp - yields an aggregate that has no name.
// Only: g++ 12, which would destroy it twice
// Says: on this compiler an aggregate must have a name
// SPDX-License-Identifier: MIT
#include <violet.hpp>

struct Pair {
  std::string first;
  int second;
};

violet::Generator<Pair> body() {
  co_yield Pair{"one", 1};
}
