// shield.cpp - counting shields.
// SPDX-License-Identifier: MIT
#include "shield.hpp"

namespace violet {

Shielded::Shielded() : job_(&Loop::job_here("a shield")) {
  for (JobBlock* j = job_; j != nullptr; j = j->group()->owner()) ++j->shields_;
}

// If a kill waits for this, the next wait is to be a real one.
Shielded::~Shielded() {
  if (loop_of(*job_).held_kills_ != 0) job_->budget = 0;
  for (JobBlock* j = job_; j != nullptr; j = j->group()->owner()) --j->shields_;
}

}  // namespace violet
