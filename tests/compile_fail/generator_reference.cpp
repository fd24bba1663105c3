// generator_reference.cpp - yields references.
// Says: a generator yields values; to hand out what lives elsewhere
// Then: what std::optional says of references
// SPDX-License-Identifier: MIT
#include <violet.hpp>

violet::Generator<int&> body(int& value) {
  co_yield value;
}
