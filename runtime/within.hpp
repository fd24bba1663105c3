// within.hpp - a limit of time around an event.
//
// The idea: the event and a timer lie side by side in the awaiting frame, and
// either wakes the job. When its step comes the operation is tried once more,
// and only if it is still not possible does an expired limit count: what has
// completed is never thrown away. Only an event that keeps letting others go
// first is not tried again. Nothing is allocated.
//
// Built on: scheduler.
// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "scheduler.hpp"

namespace violet {

/// " within 500 ms"
std::string limit_text(Duration limit);

template <class E>
class Within final : public Event {
 public:
  using Value = decltype(std::declval<E&>().result());

  Within(Duration limit, E&& event) noexcept
      : event_(std::move(event)), limit_(limit) {}
  Within(Within&& other) noexcept
      : Event(std::move(other)),
        event_(std::move(other.event_)),
        limit_(other.limit_) {}

  bool attempt() noexcept override {
    if (late_) return expire();
    if (attempt_part(event_)) {
      stop_timer();
      return true;
    }
    if (!armed_) arm();
    if (!is_over()) return false;
    // An event that lets others go first stands in the ready queue already:
    // the limit then counts at its next turn.
    if (job()->step != Step::kReady) return expire();
    late_ = true;
    return false;
  }

  void undo() noexcept override {
    undo_part(event_);
    stop_timer();
  }

  bool idle() const noexcept override { return event_.idle(); }

  void describe(Description& out) const override {
    event_.describe(out);
    out.text += limit_text(limit_);
  }

  /// Returns: what the event yields, or an empty optional if the time was up;
  /// for an event that yields nothing, false if the time was up.
  auto result() {
    if (error_ != 0) throw_system(error_, "within");
    if constexpr (std::is_void_v<Value>) {
      if (!expired_) event_.result();
      return !expired_;
    } else {
      using Optional = std::optional<std::remove_cvref_t<Value>>;
      return expired_ ? Optional() : Optional(event_.result());
    }
  }

 private:
  void arm() noexcept {
    armed_ = true;
    Loop& loop = loop_of(*job());
    const TimePoint end = after(loop.now(), limit_);
    if (!loop.timers().start(timer_, end, *job())) error_ = ENOMEM;
  }

  bool expire() noexcept {
    undo_part(event_);
    return expired_ = true;
  }

  bool is_over() const noexcept { return !timer_.active(); }

  void stop_timer() noexcept {
    if (timer_.active()) loop_of(*job()).timers().stop(timer_);
  }

  E event_;
  Duration limit_;
  bool armed_ = false;
  bool late_ = false;  // the limit passed while the event let others go first
  bool expired_ = false;
  Timer timer_;
};

/// Waits for an event, but not longer than `limit`, counted as sleep() does.
/// What completes is never lost to the limit. With a limit of zero only what
/// is possible after one look at the poller completes.
/// Suspends: until the event completes or the limit has passed.
/// Kill: as of the event; so also where the limit ends a wait: a part of what
/// sendall() was given may be out.
/// Returns: an optional of what the event yields; for one that yields
/// nothing, true if it completed.
/// Throws: what the event throws.
/// Cost: no allocation.
template <class E>
  requires std::derived_from<E, Event>
Within<E> within(Duration limit, E&& event) noexcept {
  return Within<E>(limit, std::move(event));
}

}  // namespace violet
