// within.hpp - a limit of time around an event or a task.
//
// The idea: the event and a timer lie side by side in the awaiting frame, and
// either wakes the job. When its step comes the operation is tried once more,
// and only if it is still not possible does an expired limit count: what has
// completed is never thrown away. Only an event that keeps letting others go
// first is not tried again. Around an event nothing is allocated.
//
// A task runs as a part of the job (part.hpp), which is killed when the time
// is up. So limits nest, and the one that has passed unwinds to itself.
//
// Built on: part.
// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "part.hpp"

namespace violet {

class Limit;

/// " within 500 ms"
std::string limit_text(Duration limit);

/// A moment by which something must have happened, and which may be moved
/// while it is waited for. One deadline may limit several waits, also at the
/// same time. If it goes before they have ended, they keep its last moment.
class Deadline {
 public:
  /// `duration` from now. Throws: Misuse outside a loop.
  explicit Deadline(Duration duration);
  explicit Deadline(TimePoint moment) noexcept : moment_(moment) {}
  Deadline(const Deadline&) = delete;
  Deadline& operator=(const Deadline&) = delete;
  ~Deadline();

  TimePoint moment() const noexcept { return moment_; }

  /// True once the moment has come. Throws: Misuse outside a loop.
  bool passed() const;

  /// Moves it. If it had passed already, a job that waits and has not had its
  /// step since waits on until the new moment.
  void move_to(TimePoint moment) noexcept;

  /// Moves it to `duration` from now. Throws: Misuse outside a loop.
  void move(Duration duration);

 private:
  friend class Limit;
  TimePoint moment_;
  List<Limit, Limit> limits_;  // that wait for it
};

/// The timer of one limited wait.
class Limit : public Link<Limit> {
 public:
  explicit Limit(Duration duration) noexcept : duration_(duration) {}
  explicit Limit(Deadline& deadline) noexcept : deadline_(&deadline) {}
  Limit(Limit&& other) noexcept
      : deadline_(other.deadline_), duration_(other.duration_) {}
  ~Limit() { stop(); }

  bool armed() const noexcept { return job_ != nullptr; }

  /// Begins to count. Returns: false if there is no memory.
  bool arm(Stack& job) noexcept;

  /// Will count later; a deadline that goes before that leaves its moment.
  void stand_by() noexcept;

  /// True when the time is up. A deadline that was moved since counts anew.
  bool over() noexcept;

  void stop() noexcept;
  std::string text() const;

 private:
  friend class Deadline;
  bool start() noexcept;

  TimePoint end() const noexcept;

  Deadline* deadline_ = nullptr;  // null: there is none, or it is gone
  Duration duration_ = {};        // without one, until armed
  TimePoint end_ = {};            // the same from then on; zero before
  Stack* job_ = nullptr;          // who waits; null until armed
  bool endless_ = false;          // the moment never comes: no timer is needed
  Timer timer_;
};

template <class E>
class [[nodiscard]] Within final : public Event {
 public:
  using Value = decltype(std::declval<E&>().result());

  /// True around a task: that is killed rather than undone.
  static constexpr bool kIsPart = internal::is_part<E>;

  Within(Limit&& limit, E&& event) noexcept
      : event_(std::move(event)), limit_(std::move(limit)) {}
  Within(Within&& other) noexcept
      : Event(std::move(other)),
        event_(std::move(other.event_)),
        limit_(std::move(other.limit_)) {}

  bool attempt() noexcept override {
    if (late_) return expire();
    if (attempt_part(event_)) return complete();
    if (!limit_.armed() && !limit_.arm(*job())) error_ = ENOMEM;
    if (error_ == 0 && !limit_.over()) return false;
    // An event that lets others go first stands in the ready queue already:
    // the limit then counts at its next step.
    if (job()->step != Step::kReady) return expire();
    late_ = true;
    return false;
  }

  void undo() noexcept override {
    undo_part(event_);
    limit_.stop();
  }

  void stand_by() noexcept {
    limit_.stand_by();
    stand_by_part(event_);
  }

  bool idle() const noexcept override { return event_.idle(); }

  bool decide(const Event& part) noexcept override {
    if (!event_.decide(part)) return false;
    late_ = false;  // it came before the step in which that counts
    return true;
  }

  /// See internal::offers(), and the same of AnyEvent.
  bool offers_item() const noexcept { return internal::offers(event_); }
  void undo_but_offers() noexcept
    requires requires(E& event) { event.undo_but_offers(); }
  {
    event_.undo_but_offers();
  }

  [[gnu::cold]] void describe(Description& out) const override {
    event_.describe(out);
    out.text += limit_.text();
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

  /// As of PartEvent: for a limit around this one.
  bool give_up(std::string_view reason) noexcept
    requires kIsPart
  {
    return event_.give_up(reason);
  }
  bool given_up() const noexcept
    requires kIsPart
  {
    return event_.given_up();
  }

 private:
  bool complete() noexcept {
    limit_.stop();
    if constexpr (kIsPart) expired_ = gave_up_ && event_.given_up();
    return true;
  }

  /// Returns: false if a shield holds the part, which then ends by itself.
  bool expire() noexcept {
    if constexpr (kIsPart) {
      gave_up_ = true;
      if (!event_.give_up("its time is up")) return false;
    }
    undo_part(event_);
    return expired_ = true;
  }

  E event_;
  Limit limit_;
  bool late_ = false;  // the limit passed while the event let others go first
  bool gave_up_ = false;  // the part has been killed for this limit
  bool expired_ = false;
};

/// Waits for an event, but not longer than `limit` from where it begins
/// to wait.
/// What completes is never lost to the limit. With a limit of zero only what
/// is possible after one look at the poller completes.
/// Suspends: until the event completes or the limit has passed.
/// Kill: as for the event. A limit that passes undoes the event in the same
/// way: of what sendall() was given, a part may be out.
/// Returns: an optional of what the event yields; for one that yields
/// nothing, true if it completed.
/// Throws: what the event throws.
/// Cost: no allocation.
template <class E>
  requires std::derived_from<E, Event>
Within<E> within(Duration limit, E&& event) noexcept {
  return Within<E>(Limit(limit), std::move(event));
}

/// The same with a deadline, which may be moved meanwhile.
template <class E>
  requires std::derived_from<E, Event>
Within<E> within(Deadline& deadline, E&& event) noexcept {
  return Within<E>(Limit(deadline), std::move(event));
}

/// Runs a task, but not longer than `limit`. When the time is up its frames
/// are destroyed at its next wait; under a shield, when that is over. What a
/// finally() in it has to do is not waited for.
/// Suspends: always, since the task begins in a step of its own.
/// Returns: an optional of what the task returns; for one that returns
/// nothing, true if it has ended.
/// Throws: what the task throws.
/// Cost: a job.
template <class T>
Within<PartEvent<T>> within(Duration limit, Task<T>&& task) noexcept {
  return Within<PartEvent<T>>(Limit(limit), PartEvent<T>(std::move(task)));
}
template <class T>
Within<PartEvent<T>> within(Deadline& deadline, Task<T>&& task) noexcept {
  return Within<PartEvent<T>>(Limit(deadline), PartEvent<T>(std::move(task)));
}

}  // namespace violet
