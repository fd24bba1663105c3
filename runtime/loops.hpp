// loops.hpp - one loop on each of several threads.
//
// Loops share nothing, so this is how a program uses several processors:
// each loop has its own jobs and descriptors, and the kernel spreads the
// clients over the listeners that share a port.
//
// Built on: scheduler, signals.
// SPDX-License-Identifier: MIT
#pragma once

#include <exception>
#include <memory>
#include <string>
#include <utility>

#include "scheduler.hpp"

namespace violet {

namespace internal {

/// A function that makes the root task of loop `index`.
class RootMaker {
 public:
  virtual ~RootMaker() = default;
  virtual Task<> make(int index) = 0;
};

void run_loops_with(int count, RootMaker& maker, std::string& killed,
                    bool listen_to_signals);

}  // namespace internal

/// As run_loops(), where a kill of a root is an end like any other; `killed`
/// says how it came to it, or is empty.
template <class F>
void run_loops_killable(int count, F&& function, std::string& killed,
                        bool listen_to_signals = false) {
  class Maker final : public internal::RootMaker {
   public:
    explicit Maker(F& f) noexcept : function_(f) {}
    Task<> make(int index) override { return function_(index); }

   private:
    F& function_;
  };
  Maker maker(function);
  internal::run_loops_with(count, maker, killed, listen_to_signals);
}

/// Runs `count` loops at once, each on a thread of its own; the first is the
/// caller's. Loop number i runs `function(i)`, which returns a Task<>; the
/// function is called on that loop's thread, possibly at the same time, once
/// all loops are there. `listen_to_signals`: as under run_program.
/// Returns: when all have ended.
/// Throws: the first failure; the other loops are then unwound, and what else
/// they fail with goes to stderr. Misuse for a count below 1.
template <class F>
void run_loops(int count, F&& function, bool listen_to_signals = false) {
  std::string killed;
  run_loops_killable(count, function, killed, listen_to_signals);
  if (!killed.empty()) throw_error(Killed(killed));
}

}  // namespace violet
