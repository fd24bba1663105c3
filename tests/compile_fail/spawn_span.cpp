// spawn_span.cpp - gives a job a span of a buffer that may die before it.
// Says: a view may outlive what it refers to
// SPDX-License-Identifier: MIT
#include <violet.hpp>

violet::Task<> child(std::span<char>) {
  co_return;
}

violet::Task<> body() {
  char buffer[16];
  violet::spawn(child, std::span<char>(buffer));
  co_return;
}
