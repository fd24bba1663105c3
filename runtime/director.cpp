// director.cpp - between the loop's queue and the director's choice.
// SPDX-License-Identifier: MIT
#include "director.hpp"

namespace violet {

Director::~Director() = default;

// Blocks of ended jobs stand in the queue, too. They are no choice, and go
// when they have come to the front, as they do without a director.
JobBlock* Director::next(Queue<JobBlock>& queue) noexcept {
  while (!queue.empty() && queue.front().ended()) {
    queue.pop_front().leave_queue();
  }
  ready_.clear();
  queue.each([this](JobBlock& job) {
    if (!job.ended()) ready_.push_back(&job);
  });
  if (ready_.empty()) return nullptr;
  const std::size_t index = choose(ready_);
  if (index >= ready_.size()) fatal("a Director chose a job that is not there");
  queue.remove(*ready_[index]);
  return ready_[index];
}

}  // namespace violet
