// within.cpp - the timer of a limited wait.
// SPDX-License-Identifier: MIT
#include "within.hpp"

namespace violet {

std::string limit_text(Duration limit) {
  const auto rounded = std::chrono::ceil<std::chrono::milliseconds>(limit);
  return concat({" within ", rounded.count(), " ms"});
}

Deadline::Deadline(Duration duration)
    : moment_(after(Loop::current().now(), duration)) {}

Deadline::~Deadline() {
  while (!limits_.empty()) limits_.pop_front().deadline_ = nullptr;
}

bool Deadline::passed() const {
  return Loop::current().now() >= moment_;
}

void Deadline::move(Duration duration) {
  move_to(after(Loop::current().now(), duration));
}

// A timer that has fired stays so: its job is ready, and asks over() itself.
void Deadline::move_to(TimePoint moment) noexcept {
  moment_ = moment;
  for (Limit* limit = limits_.first(); limit; limit = limits_.next(*limit)) {
    if (!limit->timer_.active() && !limit->endless_) continue;
    loop_of(*limit->job_).timers().stop(limit->timer_);
    if (!limit->start()) wake(*limit->job_);  // over() then says so
    loop_of(*limit->job_).touch();
  }
}

bool Limit::arm(Stack& job) noexcept {
  job_ = &job;
  if (deadline_ != nullptr) deadline_->limits_.push_back(*this);
  return start();
}

bool Limit::start() noexcept {
  Loop& loop = loop_of(*job_);
  const TimePoint end =
      deadline_ != nullptr ? deadline_->moment_ : after(loop.now(), duration_);
  endless_ = end == kNever;
  return endless_ || loop.timers().start(timer_, end, *job_);
}

bool Limit::over() noexcept {
  if (timer_.active() || endless_) return false;
  if (deadline_ == nullptr) return true;
  return deadline_->moment_ <= loop_of(*job_).now() || !start();
}

void Limit::stop() noexcept {
  if (timer_.active()) loop_of(*job_).timers().stop(timer_);
  if (in_list()) deadline_->limits_.remove(*this);
}

std::string Limit::text() const {
  if (deadline_ == nullptr) return limit_text(duration_);
  return job_ == nullptr
             ? std::string(" within a deadline")
             : limit_text(deadline_->moment_ - loop_of(*job_).now());
}

}  // namespace violet
