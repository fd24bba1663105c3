// director.hpp - who has the next step, if somebody else is to decide it.
//
// The idea: the order in which ready jobs run is the one thing that a program
// leaves open, so whoever chooses it, and only that, can try what the program
// does in every order. At rest there is no director: jobs run first in, first
// out, and the loop asks once in each turn whether that is so.
//
// Built on: job.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "job.hpp"
#include "list.hpp"

namespace violet {

/// Orders the steps of a loop; see LoopOptions::director. It may kill jobs
/// whenever it is called, but none that has returned.
class Director {
 public:
  Director() noexcept {}
  Director(const Director&) = delete;
  Director& operator=(const Director&) = delete;
  virtual ~Director();

  /// Chooses who has the next step. `ready` holds at least one job; the one
  /// that has been ready longest comes first. Called outside any job.
  /// Returns: an index into `ready`. A job that was killed meanwhile has no
  /// step.
  virtual std::size_t choose(std::span<JobBlock* const> ready) noexcept = 0;

  /// That step is over: job.step says how, job.event what is waited for. The
  /// job counts as running, so a kill of it is held until this returns.
  virtual void stepped(JobBlock& job) noexcept = 0;

  /// Takes out of the loop's queue whom choose() wants. Virtual, so that
  /// programs without a director need not carry it.
  /// Returns: null if nobody is ready.
  virtual JobBlock* next(Queue<JobBlock>& queue) noexcept;

 private:
  std::vector<JobBlock*> ready_;  // what choose() gets
};

}  // namespace violet
