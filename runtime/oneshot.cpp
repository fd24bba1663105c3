// oneshot.cpp - one waiter, one arrival.
// SPDX-License-Identifier: MIT
#include "oneshot.hpp"

namespace violet {

namespace {

// How a wait has ended, beside the arrival of something.
enum Failure : std::uint32_t { kNone, kTakenBefore, kNotAlone, kAbandoned };

}  // namespace

bool OneshotCore::attempt(Event& event, std::uint32_t& state) noexcept {
  if (phase_ == Phase::kAbandoned) {
    state = kAbandoned;
  } else if (waiter_ != nullptr && waiter_ != &event) {
    state = kNotAlone;
  } else if (phase_ == Phase::kTaken) {
    state = kTakenBefore;
  } else if (phase_ == Phase::kOpen) {
    waiter_ = &event;
    return false;
  }
  undo(event);
  return true;
}

void OneshotCore::undo(Event& event) noexcept {
  if (waiter_ == &event) waiter_ = nullptr;
}

void OneshotCore::check(std::uint32_t state) {
  switch (state) {
    case kTakenBefore:
      throw_error(Misuse(
          "violet: the value of this oneshot was taken before: it arrives "
          "once, so keep what the first get() yields"));
    case kNotAlone:
      throw_error(Misuse(
          "violet: another job waits for this oneshot already: its value "
          "arrives once, so give each job a oneshot of its own"));
    case kAbandoned:
      throw_error(Misuse(
          "violet: the oneshot was destroyed while a job waited for it: let "
          "it live in a frame that outlives the wait"));
    default: return;
  }
}

void OneshotCore::throw_lost() {
  throw_error(Closed(
      "violet: a oneshot was dropped by everyone who could complete it: call "
      "one of its setters, or fail() of one, before the last one goes"));
}

void OneshotCore::arrived() noexcept {
  phase_ = Phase::kArrived;
  if (waiter_ != nullptr) wake(*waiter_->job());
}

void OneshotCore::abandon() noexcept {
  decided_.store(true);
  phase_ = Phase::kAbandoned;
  if (waiter_ != nullptr) wake(*waiter_->job());
}

}  // namespace violet
