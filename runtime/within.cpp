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
  while (!limits_.empty()) {
    Limit& limit = limits_.pop_front();
    limit.end_ = moment_;
    limit.deadline_ = nullptr;
  }
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
  stand_by();
  if (deadline_ == nullptr && end_ == TimePoint()) {
    end_ = after(loop_of(job).now(), duration_);
  }
  return start();
}

void Limit::stand_by() noexcept {
  if (deadline_ != nullptr && !in_list()) deadline_->limits_.push_back(*this);
}

TimePoint Limit::end() const noexcept {
  return deadline_ != nullptr ? deadline_->moment_ : end_;
}

bool Limit::start() noexcept {
  endless_ = end() == kNever;
  return endless_ || loop_of(*job_).timers().start(timer_, end(), *job_);
}

bool Limit::over() noexcept {
  if (timer_.active() || endless_) return false;
  return end() <= loop_of(*job_).now() || !start();
}

void Limit::stop() noexcept {
  if (timer_.active()) loop_of(*job_).timers().stop(timer_);
  if (in_list()) deadline_->limits_.remove(*this);
}

std::string Limit::text() const {
  if (endless_ || duration_ == Duration::max()) return {};
  const bool by_deadline = armed() && duration_ == Duration::zero();
  if (by_deadline) {
    const TimePoint now = loop_of(*job_).now();
    return limit_text(end() > now ? end() - now : Duration::zero());
  }
  if (deadline_ != nullptr) return " within a deadline";
  return limit_text(duration_);
}

}  // namespace violet
