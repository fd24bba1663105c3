// event.hpp - what a job waits for, and the one way to wait.
//
// The idea: an event is a request that a job cannot go on without: bytes from
// a peer, a moment, the end of another job. It lives in the frame that awaits
// it and is its own registration, so waiting allocates nothing. It has two
// duties. attempt() completes, or leaves the event with whatever will wake
// its job. undo() takes it away from there. Between the two the job is
// parked; when it has been woken and its step comes, the event is attempted
// once more. So an operation happens only when its job goes on with it, and
// a kill before that has consumed nothing.
//
// Refused: completing operations as soon as they are possible (a kill would
// lose the byte or the connection), and silent defaults for the two duties.
//
// Built on: error, list, frames, task.
// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>

#include "error.hpp"
#include "frames.hpp"
#include "list.hpp"

namespace violet {

template <class E>
class Await;

/// What an event tells about itself to a dump or a deadlock report.
struct Description {
  std::string text;            ///< "recv fd 7 127.0.0.1:50412"
  const Stack* job = nullptr;  ///< the job that it waits for, if it is one
};

/// What a job waits for.
class Event {
 public:
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  /// Completes (true) and is registered nowhere any more, or stays registered
  /// with whatever will wake its job (false). Called when the wait begins, and
  /// again at each step of the job until it completes. An error is kept for
  /// result(), which is called next, before anything else happens.
  virtual bool attempt() noexcept = 0;

  /// Leaves whatever the event may be registered with. Never resumes anyone.
  virtual void undo() noexcept = 0;

  /// Says in a few words what is waited for.
  virtual void describe(Description& out) const = 0;

  /// The one job whose end would complete this; null if it is not so.
  virtual const Stack* awaited() const noexcept { return nullptr; }

  /// Called instead of the first attempt when the job lets others go first:
  /// for events that somebody looks for meanwhile, or whose source may go and
  /// must say so. Not virtual.
  void stand_by() noexcept {}

  /// Somebody else has completed `part`, and it cannot be taken back. If that
  /// is this or a part of it, it decides what this completes with.
  /// Returns: true if so.
  virtual bool decide(const Event& part) noexcept { return &part == this; }

  /// The job that awaits this; null when nobody does.
  Stack* job() const noexcept { return job_; }

  /// True if its job awaits a peer's next request and owes it nothing: a
  /// server that stops ends such a job at once.
  virtual bool idle() const noexcept { return false; }

 protected:
  Event() noexcept {}
  // Moved from the function that makes it into the frame or into another
  // event, always before anyone awaits it.
  Event(Event&&) noexcept {}
  ~Event() = default;

  /// Takes one attempt from the job's budget. Returns: false if none is left;
  /// the event then calls go_behind() and completes later.
  bool spend() noexcept { return --job_->budget >= 0; }

  /// So many bytes were copied in one attempt: takes as many more from the
  /// job's budget, and steps from the turn, as that took time.
  void spend_on_copy(std::size_t bytes) noexcept;

  /// Attempts an event that is a part of this one, for the same job.
  template <class E>
  bool attempt_part(E& part) noexcept {
    static_cast<Event&>(part).job_ = job_;
    if constexpr (requires { part.become_part(); }) part.become_part();
    return part.E::attempt();
  }

  /// Has a part stand by, for the same job.
  template <class E>
  void stand_by_part(E& part) noexcept {
    static_cast<Event&>(part).job_ = job_;
    part.E::stand_by();
  }

  /// Undoes the wait of a part, if it ever began.
  static void undo_part(Event& part) noexcept {
    if (part.job_ != nullptr) part.undo();
    part.job_ = nullptr;
  }

  /// Makes the awaiting job ready, behind all others; then attempt() returns
  /// false.
  void go_behind() noexcept;

  /// An error number for result(), 0 for none.
  int error_ = 0;

  /// For the derived class's own use; it would be padding otherwise.
  std::uint32_t word_ = 0;

 private:
  template <class>
  friend class Await;

  Stack* job_ = nullptr;  // outlives this, which lies in one of its frames
};

namespace internal {
/// True for a send that stands at a channel without a buffer: a receive of the
/// same job may take its item.
template <class E>
bool offers(const E& event) noexcept {
  if constexpr (requires { event.offers_item(); }) {
    return event.offers_item();
  } else {
    return false;
  }
}
}  // namespace internal

/// An event as a part of another that makes and destroys it: such a one must
/// have no heirs.
template <class E>
class Heirless final : public E {
 public:
  using E::E;
};

/// Makes a parked job ready; its event is attempted at its next step.
/// Without effect on a job that is not parked.
void wake(Stack& job) noexcept;

/// A place in a queue of jobs that wait for the same thing.
struct Waiter : Link<Waiter> {
  Stack* job = nullptr;
};
using WaitQueue = List<Waiter, Waiter>;

/// Empties the queue and wakes everyone who stood in it, in order.
inline void wake_all(WaitQueue& queue) noexcept {
  while (!queue.empty()) wake(*queue.pop_front().job);
}

/// Puts `waiter` into `queue` for `job`, unless it stands there already.
inline void stand_in(WaitQueue& queue, Waiter& waiter, Stack& job) noexcept {
  waiter.job = &job;
  if (!waiter.in_list()) queue.push_back(waiter);
}

/// Takes `waiter` out of `queue` if it stands there.
inline void leave(WaitQueue& queue, Waiter& waiter) noexcept {
  if (waiter.in_list()) queue.remove(waiter);
}

/// One wait: stands between `co_await` and the event, in the same frame.
///
/// Its destructor is what makes it safe to destroy a waiting frame.
template <class E>
  requires std::derived_from<E, Event>
class Await<E> {
 public:
  explicit Await(E& event) noexcept : event_(event) {}
  Await(const Await&) = delete;
  Await& operator=(const Await&) = delete;
  ~Await() {
    if (event_.job_ != nullptr) event_.undo();
  }

  /// Attempts at once, so that what is possible now costs no switch; but a
  /// job that has used up its budget goes behind the others first. To spend
  /// and then look at the sign is one instruction and a jump.
  bool await_ready() noexcept {
    Stack& job = *running;
    event_.job_ = &job;
    if (--job.budget < 0) [[unlikely]] {
      event_.E::stand_by();
      event_.go_behind();
    } else {
      // Its type is known here, so this needs no virtual call.
      if (event_.E::attempt()) return true;
    }
    job.park(event_);
    return false;
  }

  void await_suspend(std::coroutine_handle<>) const noexcept {}

  decltype(auto) await_resume() {
    event_.job_ = nullptr;
    return event_.result();
  }

 private:
  E& event_;  // an operand of the same co_await: outlives this
};

/// Gives any I/O event the error_code form of the standard library's
/// filesystem: the error is stored instead of thrown.
///
/// E offers error(), what it would throw, and value(), what it would return;
/// and code(), if what it would throw need not be an error of the system.
template <class E>
class [[nodiscard]] Coded final : public E {
 public:
  Coded(E&& event, std::error_code& code) noexcept
      : E(std::move(event)), code_(&code) {}

  auto result() {
    if constexpr (requires { this->code(); }) {
      *code_ = this->code();
    } else {
      code_->assign(this->error(), std::system_category());
    }
    return this->value();
  }

 private:
  std::error_code* code_;  // the caller's; written once, on completion
};

}  // namespace violet
