// sync.hpp - semaphore, mutex, flag and condition.
//
// The idea: what passes between jobs is granted. Who gives something up
// assigns it to the first who waits and wakes that job; nobody can take it in
// between. So newcomers queue behind, first in is first out, and
// nobody starves. A job that was granted something, and is killed or runs out
// of time before it goes on, hands it to the next in line: nothing is lost.
// While nobody waits, all this is a number that is counted up and down.
//
// What is held is an object (Permit, Mutex::Lock) whose destructor gives it
// back, in whatever way its job ends.
//
// Refused: raising a semaphore above what it began with, for then a permit
// that is given back twice lets one too many in; a mutex that its own job may
// lock twice, for then what it guards may be half changed.
//
// Each belongs to one thread and outlives the jobs that use it. If it goes
// while jobs wait for it, they throw; if it goes while something of it is
// held, the process ends with a sentence.
//
// Built on: scheduler.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "scheduler.hpp"

namespace violet {

class Condition;
class GrantQueue;

// ---------------------------------------------------------------- what waits

/// A wait for something that another job grants.
class GrantEvent : public Event, public Link<GrantEvent> {
 protected:
  enum class State : std::uint32_t {
    kIdle,     // has asked for nothing
    kEarlier,  // waits for something else before it stands in the queue
    kQueued,   // stands in the queue
    kGranted,  // has been assigned what it waits for; its job is woken
    kTaken,    // the attempt has completed with it
    kRefused,  // has asked for what cannot be
    kGone,     // what it waited for is gone
  };

  GrantEvent() noexcept {}
  GrantEvent(GrantEvent&& other) noexcept : Event(std::move(other)) {}
  ~GrantEvent() = default;

  State state() const noexcept { return static_cast<State>(word_); }
  void set_state(State state) noexcept {
    word_ = static_cast<std::uint32_t>(state);
  }

  /// Completes an attempt without any wait.
  bool complete(State state) noexcept {
    set_state(state);
    return true;
  }

  /// The rest of an attempt: queues until something is granted.
  bool wait_in(GrantQueue& queue) noexcept;

  /// See Event::stand_by: who asks first gets it first, so it is in the queue
  /// that a job lets others go first. What is free is granted to it at once:
  /// then nobody else is in the queue.
  void stand_by_in(GrantQueue& queue, bool is_free) noexcept;

  /// Leaves the queue. Returns: true if something was granted, which the
  /// caller hands on.
  bool leave(GrantQueue& queue) noexcept;

  /// For result(). Returns: what the attempt completed with.
  /// Throws: Misuse if `what` is gone.
  State take_state(const char* what) {
    const State ended = state();
    set_state(State::kIdle);
    if (ended == State::kGone) [[unlikely]]
      throw_gone(what);
    return ended;
  }

  /// "flag", and what has become of the wait.
  void describe_as(std::string what, Description& out) const;

 private:
  friend class Condition;
  friend class GrantQueue;

  [[noreturn]] static void throw_gone(const char* what);
};

/// Jobs that wait to be granted something, first in, first out.
class GrantQueue {
 public:
  GrantQueue() noexcept {}
  GrantQueue(const GrantQueue&) = delete;
  GrantQueue& operator=(const GrantQueue&) = delete;

  /// What is waited for is gone: wakes everyone, the granted too.
  ~GrantQueue();

  bool empty() const noexcept { return waiting_.empty(); }
  std::size_t size() const noexcept { return size_; }

  /// How many have been granted something and have not gone on yet.
  std::size_t granted() const noexcept;

  void enter(GrantEvent& event) noexcept;
  void leave(GrantEvent& event) noexcept;

  /// Wakes the first. Returns: it, or null if nobody waits.
  GrantEvent* grant_first() noexcept;

 private:
  static void dismiss(List<GrantEvent, GrantEvent>& events) noexcept;

  // Those in state kQueued, and those in state kGranted.
  List<GrantEvent, GrantEvent> waiting_;
  List<GrantEvent, GrantEvent> granted_;
  std::size_t size_ = 0;  // of waiting_
};

// ----------------------------------------------------------------- semaphore

class Permit;
class AcquireEvent;

/// Lets at most so many in at a time.
/// Lifetime: outlives its permits; the process ends with a sentence if not. So
/// with all in this file: it outlives the jobs that use it. Those that stand in
/// its line when it goes are told so.
class Semaphore {
 public:
  /// Throws: Misuse for a limit of 0.
  explicit Semaphore(std::size_t limit);
  Semaphore(const Semaphore&) = delete;
  Semaphore& operator=(const Semaphore&) = delete;

  /// Those who wait are woken and throw Misuse.
  ~Semaphore();

  /// Takes a permit.
  /// Suspends: while none is free.
  /// Returns: the Permit, whose destructor gives it back.
  /// Throws: Misuse if the semaphore is destroyed meanwhile.
  /// Kill: no permit is taken; one that was granted goes to the next job.
  /// Cost: about 4 ns with giving it back, if one is free.
  AcquireEvent acquire() noexcept;

  /// Takes a permit if one is free and nobody waits.
  std::optional<Permit> try_acquire() noexcept;

  std::size_t available() const noexcept { return available_; }
  std::size_t limit() const noexcept { return limit_; }

  /// Jobs that stand in the queue.
  std::size_t waiting() const noexcept { return queue_.size(); }

 private:
  friend class Permit;
  friend class AcquireEvent;

  bool take() noexcept {
    if (available_ == 0) return false;
    --available_;
    return true;
  }
  void give_back() noexcept {
    if (queue_.empty()) [[likely]] {
      ++available_;
    } else {
      queue_.grant_first();
    }
  }

  // Nobody stands in the queue while a permit is available, so that taking
  // one never overtakes anyone.
  std::size_t available_;
  std::size_t limit_;
  GrantQueue queue_;
};

/// The right to be in, given back at the end of its life.
class [[nodiscard("a permit that is not kept is given back at once")]] Permit {
 public:
  Permit() noexcept {}
  Permit(Permit&& other) noexcept
      : semaphore_(std::exchange(other.semaphore_, nullptr)) {}
  Permit& operator=(Permit other) noexcept {
    std::swap(semaphore_, other.semaphore_);
    return *this;
  }
  ~Permit() { release(); }

  /// Gives it back now. Without effect if that has been done.
  void release() noexcept {
    if (semaphore_ != nullptr) std::exchange(semaphore_, nullptr)->give_back();
  }

  /// True until it is given back or moved away.
  bool held() const noexcept { return semaphore_ != nullptr; }

 private:
  friend class Semaphore;
  friend class AcquireEvent;
  explicit Permit(Semaphore& semaphore) noexcept : semaphore_(&semaphore) {}

  Semaphore* semaphore_ = nullptr;
};

class [[nodiscard]] AcquireEvent final : public GrantEvent {
 public:
  explicit AcquireEvent(Semaphore& semaphore) noexcept
      : semaphore_(semaphore) {}
  AcquireEvent(AcquireEvent&& other) noexcept
      : GrantEvent(std::move(other)), semaphore_(other.semaphore_) {}
  bool attempt() noexcept override {
    if (state() == State::kIdle && semaphore_.take()) [[likely]] {
      return complete(State::kTaken);
    }
    return wait_in(semaphore_.queue_);
  }
  void stand_by() noexcept {
    if (state() == State::kIdle) {
      stand_by_in(semaphore_.queue_, semaphore_.take());
    }
  }
  void undo() noexcept override;
  void describe(Description& out) const override;
  Permit result() {
    take_state("semaphore");
    return Permit(semaphore_);
  }

 private:
  Semaphore& semaphore_;
};

inline AcquireEvent Semaphore::acquire() noexcept {
  return AcquireEvent(*this);
}

// --------------------------------------------------------------------- mutex

/// The job that a lock belongs to when `job` takes it, be it as a part of that
/// one; null outside of jobs.
inline const JobBlock* keeper_of(const Stack* job) noexcept {
  return job == nullptr ? nullptr : &static_cast<const JobBlock*>(job)->whole();
}

class LockEvent;
class RelockEvent;

/// Lets one job in at a time, and knows which. Jobs switch only where they
/// wait, so it is needed only where what it guards must stay as it is across
/// a co_await.
/// Lifetime: outlives its locks and conditions; the process ends with a
/// sentence if not.
class Mutex {
 public:
  class Lock;

  Mutex() noexcept {}
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  /// Those who wait are woken and throw Misuse.
  ~Mutex();

  /// Takes the mutex.
  /// Suspends: while another job holds it.
  /// Returns: the Lock, whose destructor unlocks.
  /// Throws: Misuse if this job holds it already, or if the mutex is
  /// destroyed meanwhile.
  /// Kill: it is not taken; if it was granted, the next job gets it.
  LockEvent lock() noexcept;

  /// Takes the mutex if nobody holds it. Returns: nothing if somebody does, be
  /// it this job.
  /// Throws: Misuse outside a loop.
  std::optional<Lock> try_lock();

  /// Unlocks what Lock::release() has left locked.
  /// Throws: Misuse if nobody holds it, or another job, or a Lock; also
  /// outside a loop.
  void unlock();

  bool locked() const noexcept { return hold_ != Hold::kFree; }

  /// Jobs that stand in the queue.
  std::size_t waiting() const noexcept { return queue_.size(); }

 private:
  friend class Condition;
  friend class ConditionEvent;
  friend class LockingEvent;

  enum class Hold : std::uint8_t {
    kFree,
    kByLock,  // a Lock holds it, or it is granted to an event
    kLoose,   // the Lock was given up with release()
  };

  bool take(const JobBlock* keeper) noexcept {
    if (hold_ != Hold::kFree) return false;
    hold_ = Hold::kByLock;
    keep_for(keeper);
    return true;
  }
  void keep_for(const JobBlock* keeper) noexcept {
    keeper_ = keeper;
    keeper_id_ = keeper == nullptr ? 0 : keeper->id();
  }

  /// True if it is locked for `keeper`, which is alive.
  bool kept_for(const JobBlock* keeper) const noexcept {
    return hold_ != Hold::kFree && keeper_ == keeper &&
           (keeper == nullptr || keeper_id_ == keeper->id());
  }

  /// Unlocks; the first who waits gets it.
  void hand_on() noexcept {
    if (queue_.empty()) [[likely]] {
      hold_ = Hold::kFree;
    } else {
      grant();
    }
  }
  void grant() noexcept;

  /// Puts a notified event in the queue, or grants it the mutex at once.
  void admit(GrantEvent& event) noexcept;

  /// "held by #3"; "free"
  std::string holder() const;

  /// Tells who holds it; `waiter` may be null.
  void describe(Stack* waiter, Description& out) const;

  // While the mutex is free, nobody stands in the queue. It is kept for one
  // job; that may have ended, and another job be where it was, so its number
  // counts, too.
  Hold hold_ = Hold::kFree;
  int conditions_ = 0;  // that refer to this
  std::uint32_t keeper_id_ = 0;
  const JobBlock* keeper_ = nullptr;
  GrantQueue queue_;
};

/// A locked mutex, unlocked at the end of its life, and perhaps earlier and
/// more than once. It may move to another job, but counts as held by the one
/// that has locked it.
class [[nodiscard("a lock that is not kept is unlocked at once")]] Mutex::Lock {
 public:
  Lock() noexcept {}
  Lock(Lock&& other) noexcept
      : mutex_(std::exchange(other.mutex_, nullptr)),
        owns_(std::exchange(other.owns_, false)) {}
  Lock& operator=(Lock other) noexcept {
    std::swap(mutex_, other.mutex_);
    std::swap(owns_, other.owns_);
    return *this;
  }
  ~Lock() {
    if (owns_) mutex_->hand_on();
  }

  /// True while it holds its mutex.
  bool owns() const noexcept { return owns_; }

  /// Throws: Misuse if it holds nothing.
  void unlock();

  /// Takes the mutex again after unlock(), or after a wait for a condition
  /// that was cut short. See Mutex::lock.
  /// Throws: also Misuse for a Lock that never had a mutex.
  RelockEvent lock() noexcept;

  /// Leaves the mutex locked, for Mutex::unlock(); a kill of the job does not
  /// unlock it then. Throws: Misuse if it holds nothing.
  void release();

 private:
  friend class Mutex;
  friend class ConditionEvent;
  friend class LockEvent;
  friend class RelockEvent;
  explicit Lock(Mutex& locked) noexcept : mutex_(&locked), owns_(true) {}

  Mutex& give_up(const char* verb);

  Mutex* mutex_ = nullptr;  // set while owns_
  bool owns_ = false;
};

/// What both ways to wait for a mutex share.
class LockingEvent : public GrantEvent {
 public:
  bool attempt() noexcept override {
    if (state() != State::kIdle) return wait_in(mutex_->queue_);
    return begin();
  }
  void stand_by() noexcept;
  void undo() noexcept override;
  void describe(Description& out) const override;

 protected:
  explicit LockingEvent(Mutex* mutex) noexcept : mutex_(mutex) {}
  LockingEvent(LockingEvent&& other) noexcept
      : GrantEvent(std::move(other)), mutex_(other.mutex_) {}
  ~LockingEvent() = default;

  /// Returns: the mutex, locked. Throws: Misuse.
  Mutex& take_mutex() {
    if (take_state("mutex") == State::kRefused) [[unlikely]]
      throw_refused();
    return *mutex_;
  }

  Mutex* mutex_;  // null for a Lock that never had one

 private:
  bool begin() noexcept {
    if (mutex_ == nullptr) return complete(State::kRefused);
    const JobBlock* keeper = keeper_of(job());
    if (mutex_->take(keeper)) return complete(State::kTaken);
    if (mutex_->kept_for(keeper)) return complete(State::kRefused);
    return wait_in(mutex_->queue_);
  }
  [[noreturn]] void throw_refused() const;
};

class [[nodiscard]] LockEvent final : public LockingEvent {
 public:
  explicit LockEvent(Mutex& mutex) noexcept : LockingEvent(&mutex) {}
  LockEvent(LockEvent&& other) noexcept : LockingEvent(std::move(other)) {}
  Mutex::Lock result() { return Mutex::Lock(take_mutex()); }
};

class [[nodiscard]] RelockEvent final : public LockingEvent {
 public:
  RelockEvent(Mutex* mutex, Mutex::Lock& lock) noexcept
      : LockingEvent(mutex), lock_(lock) {}
  RelockEvent(RelockEvent&& other) noexcept
      : LockingEvent(std::move(other)), lock_(other.lock_) {}
  void result() { lock_ = Mutex::Lock(take_mutex()); }

 private:
  Mutex::Lock& lock_;
};

inline LockEvent Mutex::lock() noexcept {
  return LockEvent(*this);
}

inline RelockEvent Mutex::Lock::lock() noexcept {
  return RelockEvent(mutex_, *this);
}

// ---------------------------------------------------------------------- flag

class FlagEvent;

/// Something that is so or is not so, and can be waited for. asyncio calls it
/// an Event.
class Flag {
 public:
  Flag() noexcept {}
  Flag(const Flag&) = delete;
  Flag& operator=(const Flag&) = delete;

  /// Those who wait are woken and throw Misuse.
  ~Flag() = default;

  /// Wakes everyone who waits now. They go on even if the flag is cleared
  /// before their step, but it must still live then.
  void set() noexcept;
  void clear() noexcept { set_ = false; }
  bool is_set() const noexcept { return set_; }

  /// Waits until the flag is set.
  /// Suspends: unless it is.
  /// Throws: Misuse if the flag is destroyed meanwhile.
  FlagEvent wait() noexcept;

  /// Jobs that stand in the queue.
  std::size_t waiting() const noexcept { return queue_.size(); }

 private:
  friend class FlagEvent;

  bool set_ = false;
  GrantQueue queue_;
};

class [[nodiscard]] FlagEvent final : public GrantEvent {
 public:
  explicit FlagEvent(Flag& flag) noexcept : flag_(flag) {}
  FlagEvent(FlagEvent&& other) noexcept
      : GrantEvent(std::move(other)), flag_(other.flag_) {}
  bool attempt() noexcept override {
    if (state() == State::kIdle && flag_.set_) return complete(State::kTaken);
    return wait_in(flag_.queue_);
  }
  void stand_by() noexcept {
    if (state() == State::kIdle) stand_by_in(flag_.queue_, flag_.set_);
  }
  void undo() noexcept override { leave(flag_.queue_); }
  void describe(Description& out) const override { describe_as("flag", out); }
  void result() { take_state("flag"); }

 private:
  Flag& flag_;
};

inline FlagEvent Flag::wait() noexcept {
  return FlagEvent(*this);
}

// ----------------------------------------------------------------- condition

/// A wait for a notification, and then for the mutex.
class [[nodiscard]] ConditionEvent final : public GrantEvent,
                                           public Link<ConditionEvent> {
 public:
  ConditionEvent(Condition& condition, Mutex& mutex, Mutex::Lock& lock) noexcept
      : condition_(condition), mutex_(mutex), lock_(lock) {}
  ConditionEvent(ConditionEvent&& other) noexcept
      : GrantEvent(std::move(other)),
        condition_(other.condition_),
        mutex_(other.mutex_),
        lock_(other.lock_) {}
  bool attempt() noexcept override;
  void stand_by() noexcept {
    if (state() == State::kIdle) begin();  // it waits in any case
  }
  void undo() noexcept override;
  void describe(Description& out) const override;
  void result();

 private:
  friend class Condition;

  bool begin() noexcept;

  Condition& condition_;
  Mutex& mutex_;
  Mutex::Lock& lock_;
  bool passes_on_ = false;  // the notification is for one, not for all
};

/// Where jobs that hold a mutex wait until what it guards has changed:
///
///   auto lock = co_await mutex.lock();
///   while (items.empty()) co_await condition.wait(lock);
///
/// Lifetime: the mutex outlives it.
class Condition {
 public:
  explicit Condition(Mutex& mutex) noexcept : mutex_(mutex) {
    ++mutex_.conditions_;
  }
  Condition(const Condition&) = delete;
  Condition& operator=(const Condition&) = delete;

  /// Those who wait are woken and throw Misuse, without the mutex.
  ~Condition();

  /// Unlocks, waits for a notification, and locks again.
  /// Suspends: always. Never goes on without a notification; but what it was
  /// about may have changed again before the mutex is had, so ask in a loop.
  /// Throws: Misuse if `lock` does not hold the condition's mutex, or if the
  /// condition is destroyed meanwhile.
  /// Kill: `lock` holds nothing then; so also where a limit of time ends the
  /// wait, and co_await lock.lock() takes the mutex again. A notification
  /// that was for one job goes to the next.
  ConditionEvent wait(Mutex::Lock& lock) noexcept {
    return ConditionEvent(*this, mutex_, lock);
  }

  /// Lets those go on who have waited longest, `count` of them, each as it
  /// gets the mutex. Whether the caller holds that does not matter.
  void notify(std::size_t count = 1) noexcept;

  /// Lets everyone go on who waits now.
  void notify_all() noexcept;

  /// Jobs that wait for a notification.
  std::size_t waiting() const noexcept { return size_; }

 private:
  friend class ConditionEvent;

  void enter(ConditionEvent& event) noexcept;
  void leave(ConditionEvent& event) noexcept;
  void notify_first(bool passes_on) noexcept;

  Mutex& mutex_;

  // Those in state kEarlier, and those that stand at the mutex.
  List<ConditionEvent, ConditionEvent> waiting_;
  List<ConditionEvent, ConditionEvent> notified_;
  std::size_t size_ = 0;  // of waiting_
};

}  // namespace violet
