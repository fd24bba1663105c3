// bench.hpp - one line for each thing that is measured: the best of seven.
//
// Single figures drift with the machine; compare what was measured in one run.
// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <cstdio>

/// Runs f(count) seven times, and prints the least time for one of `count`.
template <class F>
void bench(const char* name, long count, F f) {
  using Nanoseconds = std::chrono::duration<double, std::nano>;
  double best = 1e18;
  for (int round = 0; round < 7; ++round) {
    const auto start = std::chrono::steady_clock::now();
    f(count);
    const Nanoseconds took = std::chrono::steady_clock::now() - start;
    const double each = took.count() / static_cast<double>(count);
    if (each < best) best = each;
  }
  std::printf("%-58s %8.2f ns\n", name, best);
}
