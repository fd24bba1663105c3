// sync.cpp - who gets what is given up, and who hands it on.
// SPDX-License-Identifier: MIT
#include "sync.hpp"

namespace violet {

// ---------------------------------------------------------------- what waits

bool GrantEvent::wait_in(GrantQueue& queue) noexcept {
  if (state() == State::kIdle) queue.enter(*this);
  if (state() == State::kGranted) {
    queue.leave(*this);
    set_state(State::kTaken);
  }
  return state() >= State::kTaken;
}

void GrantEvent::stand_by_in(GrantQueue& queue, bool is_free) noexcept {
  queue.enter(*this);
  if (is_free) queue.grant_first();
}

bool GrantEvent::leave(GrantQueue& queue) noexcept {
  const State before = state();
  if (before == State::kQueued || before == State::kGranted) queue.leave(*this);
  set_state(State::kIdle);
  return before == State::kGranted || before == State::kTaken;
}

void GrantEvent::throw_gone(const char* what) {
  throw_error(
      Misuse(concat({"violet: the ", what,
                     " is gone: it was destroyed while this job waited; "
                     "let it outlive the jobs that use it"})));
}

void GrantEvent::describe_as(std::string what, Description& out) const {
  out.text = std::move(what);
  if (state() == State::kGranted) out.text += ", granted";
  if (state() == State::kGone) out.text += ", gone";
}

GrantQueue::~GrantQueue() {
  dismiss(granted_);
  dismiss(waiting_);
}

void GrantQueue::dismiss(List<GrantEvent, GrantEvent>& events) noexcept {
  while (!events.empty()) {
    GrantEvent& event = events.pop_front();
    event.set_state(GrantEvent::State::kGone);
    wake(*event.job());
  }
}

std::size_t GrantQueue::granted() const noexcept {
  std::size_t count = 0;
  for (GrantEvent* event = granted_.first(); event != nullptr;
       event = granted_.next(*event)) {
    ++count;
  }
  return count;
}

void GrantQueue::enter(GrantEvent& event) noexcept {
  event.set_state(GrantEvent::State::kQueued);
  waiting_.push_back(event);
  ++size_;
}

void GrantQueue::leave(GrantEvent& event) noexcept {
  if (event.state() == GrantEvent::State::kGranted) {
    granted_.remove(event);
  } else {
    waiting_.remove(event);
    --size_;
  }
}

GrantEvent* GrantQueue::grant_first() noexcept {
  if (waiting_.empty()) return nullptr;
  GrantEvent& first = waiting_.pop_front();
  --size_;
  first.set_state(GrantEvent::State::kGranted);
  granted_.push_back(first);
  wake(*first.job());
  return &first;
}

// ----------------------------------------------------------------- semaphore

Semaphore::Semaphore(std::size_t limit) : available_(limit), limit_(limit) {
  if (static_cast<std::ptrdiff_t>(limit) > 0) return;
  throw_error(Misuse(
      "violet: a semaphore needs at least one permit, or nobody would ever "
      "get in"));
}

Semaphore::~Semaphore() {
  if (available_ + queue_.granted() == limit_) return;
  fatal(
      "a semaphore is destroyed while permits are out: let it outlive the "
      "jobs that use it");
}

std::optional<Permit> Semaphore::try_acquire() noexcept {
  return take() ? std::optional<Permit>(Permit(*this)) : std::nullopt;
}

void AcquireEvent::undo() noexcept {
  if (leave(semaphore_.queue_)) semaphore_.give_back();
}

void AcquireEvent::describe(Description& out) const {
  describe_as("semaphore", out);
  if (state() == State::kGone) return;
  out.text += concat({" ", semaphore_.available(), "/", semaphore_.limit()});
}

// --------------------------------------------------------------------- mutex

Mutex::~Mutex() {
  if (conditions_ > 0) {
    fatal(
        "a mutex is destroyed before a condition that uses it: declare the "
        "mutex first");
  }
  if (hold_ == Hold::kFree || queue_.granted() > 0) return;
  fatal(
      "a mutex is destroyed while it is locked: let it outlive the jobs that "
      "use it");
}

std::optional<Mutex::Lock> Mutex::try_lock() {
  const JobBlock* keeper = keeper_of(Loop::current().current_job());
  return take(keeper) ? std::optional<Lock>(Lock(*this)) : std::nullopt;
}

void Mutex::unlock() {
  if (hold_ == Hold::kFree) {
    throw_error(Misuse(
        "violet: unlock() of a mutex that nobody holds; it is unlocked once "
        "for each lock, and a Lock does that itself"));
  }
  if (!kept_for(keeper_of(Loop::current().current_job()))) {
    throw_error(Misuse(concat({"violet: unlock() of a mutex that is ", holder(),
                               "; who has locked it unlocks it"})));
  }
  if (hold_ == Hold::kByLock) {
    throw_error(Misuse(
        "violet: unlock() of a mutex that a Lock holds; call unlock() of that "
        "Lock, or its release() first"));
  }
  hand_on();
}

void Mutex::grant() noexcept {
  hold_ = Hold::kByLock;
  keep_for(keeper_of(queue_.grant_first()->job()));
}

void Mutex::admit(GrantEvent& event) noexcept {
  queue_.enter(event);
  if (hold_ == Hold::kFree) grant();
}

Mutex& Mutex::Lock::give_up(const char* verb) {
  if (!owns_) {
    throw_error(Misuse(concat({"violet: ", verb,
                               "() of a Lock that holds nothing; ask owns() "
                               "first"})));
  }
  owns_ = false;
  return *mutex_;
}

void Mutex::Lock::unlock() {
  give_up("unlock").hand_on();
}

void Mutex::Lock::release() {
  give_up("release").hold_ = Hold::kLoose;
}

void LockingEvent::stand_by() noexcept {
  if (state() != State::kIdle || mutex_ == nullptr) return;
  if (!mutex_->kept_for(keeper_of(job()))) mutex_->admit(*this);
}

void LockingEvent::undo() noexcept {
  if (mutex_ == nullptr) return;
  if (leave(mutex_->queue_)) mutex_->hand_on();
}

void LockingEvent::throw_refused() const {
  if (mutex_ == nullptr) {
    throw_error(
        Misuse("violet: lock() of a Lock that never had a mutex; begin with "
               "co_await mutex.lock()"));
  }
  throw_error(Misuse(
      "violet: lock() of a mutex that this job holds already: it would wait "
      "for itself; unlock it first"));
}

void LockingEvent::describe(Description& out) const {
  describe_as("mutex", out);
  const bool waits = state() == State::kIdle || state() == State::kQueued;
  if (waits && mutex_ != nullptr) mutex_->describe(job(), out);
}

std::string Mutex::holder() const {
  if (hold_ == Hold::kFree) return "free";
  if (keeper_ == nullptr) return "held outside of any job";
  return concat({"held by #", keeper_id_});
}

void Mutex::describe(Stack* waiter, Description& out) const {
  out.text = concat({"mutex, ", holder()});
  if (waiter == nullptr || hold_ == Hold::kFree) return;
  if (loop_of(*waiter).find(keeper_id_) == keeper_) out.job = keeper_;
}

// ---------------------------------------------------------------------- flag

void Flag::set() noexcept {
  set_ = true;
  while (queue_.grant_first() != nullptr) {
  }
}

// ----------------------------------------------------------------- condition

bool ConditionEvent::begin() noexcept {
  if (!lock_.owns_ || lock_.mutex_ != &mutex_) return complete(State::kRefused);
  set_state(State::kEarlier);
  condition_.enter(*this);
  lock_.owns_ = false;
  mutex_.hand_on();
  return false;
}

bool ConditionEvent::attempt() noexcept {
  if (state() == State::kIdle) return begin();
  if (state() == State::kGranted) condition_.leave(*this);
  return wait_in(mutex_.queue_);
}

void ConditionEvent::undo() noexcept {
  const bool notified = state() == State::kQueued || state() == State::kGranted;
  if (notified || state() == State::kEarlier) condition_.leave(*this);
  if (leave(mutex_.queue_)) mutex_.hand_on();
  if (notified && passes_on_) condition_.notify();
}

void ConditionEvent::describe(Description& out) const {
  describe_as("condition", out);
  if (state() != State::kQueued) return;
  mutex_.describe(job(), out);
  out.text = concat({"condition, notified; ", out.text});
}

void ConditionEvent::result() {
  if (take_state("condition") == State::kRefused) {
    throw_error(Misuse(
        "violet: wait for a condition without its mutex: pass a Lock that "
        "holds the mutex which the condition was made with"));
  }
  lock_ = Mutex::Lock(mutex_);
}

Condition::~Condition() {
  for (auto* events : {&notified_, &waiting_}) {
    while (!events->empty()) {
      ConditionEvent& event = events->pop_front();
      if (event.leave(mutex_.queue_)) mutex_.hand_on();
      event.set_state(GrantEvent::State::kGone);
      wake(*event.job());
    }
  }
  --mutex_.conditions_;
}

void Condition::enter(ConditionEvent& event) noexcept {
  waiting_.push_back(event);
  ++size_;
}

void Condition::leave(ConditionEvent& event) noexcept {
  if (event.state() != GrantEvent::State::kEarlier) {
    return notified_.remove(event);
  }
  waiting_.remove(event);
  --size_;
}

void Condition::notify_first(bool passes_on) noexcept {
  ConditionEvent& first = waiting_.pop_front();
  --size_;
  notified_.push_back(first);
  first.passes_on_ = passes_on;
  mutex_.admit(first);
}

void Condition::notify(std::size_t count) noexcept {
  for (; count > 0 && !waiting_.empty(); --count) notify_first(true);
}

void Condition::notify_all() noexcept {
  while (!waiting_.empty()) notify_first(false);
}

}  // namespace violet
