// offload.hpp - calls that block, made on a few threads beside the loop.
//
// The idea: some calls have no other form than one that blocks: a look-up of
// a name, a read from a slow disk, a library's own. A thread of a small pool
// makes such a call while the job waits and the loop goes on.
//
//     const auto entry = co_await offload([&] { return find(table, key); });
//
// The call lies in the frame that awaits it, and so does what it brings:
// waiting allocates nothing. So the frame must not go while a thread works in
// it. A call that waits for its turn is taken back by a kill, and never runs.
// One that runs holds the kill, as a shield does. A call that owns whatever it
// uses can be left behind instead: offload(abandon, ...).
//
// The threads never hold up the end of the process: nobody joins them, and
// what they use is never destroyed before they have gone.
//
// Built on: outcome, scheduler. See: pthreads(7), signal(7) on masks.
// SPDX-License-Identifier: MIT
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#include "outcome.hpp"
#include "owned.hpp"
#include "scheduler.hpp"

namespace violet {

class PoolCall;

/// A few threads that make calls which block, first in, first out. A thread
/// is made when a call comes and none is free, up to the limit, and then
/// stays. They block all signals. Any number of loops, each on its thread, may
/// use one pool.
class OffloadPool {
 public:
  static constexpr unsigned kThreads = 4;

  /// Throws: Misuse for a limit of 0; std::bad_alloc.
  explicit OffloadPool(unsigned most_threads = kThreads);
  OffloadPool(const OffloadPool&) = delete;
  OffloadPool& operator=(const OffloadPool&) = delete;

  /// Waits for nothing: calls that run are finished, and their threads go
  /// then. Calls that have not begun never run; whoever waits for one of them
  /// gets Misuse.
  ~OffloadPool();

  /// The pool that is meant where none is named: kThreads threads, shared by
  /// the whole process. It is never destroyed.
  static OffloadPool& standard();

  unsigned most_threads() const noexcept;

  /// Threads that there are now, and calls that wait for one.
  unsigned threads() const noexcept;
  std::size_t queued() const noexcept;

 private:
  friend class PoolCall;
  class Line;

  Line& line_;  // counted: by this and by each thread
};

/// A call that a pool is to make. It lies in a frame, or on the heap.
class PoolCall : public Link<PoolCall>, public Return {
 public:
  /// True from the moment when a thread has taken it.
  bool begun() const noexcept { return state() == State::kBegun; }

 protected:
  explicit PoolCall(OffloadPool& pool) noexcept : line_(&pool.line_) {}
  PoolCall(PoolCall&& other) noexcept : line_(other.line_) {}
  ~PoolCall() = default;

  /// Puts it in line for a job; system calls that pass the seam (sys.hpp) are
  /// answered by these. Returns: 0 or an error number.
  int send(JobBlock& waiting, sys::Calls& calls,
           sys::FileCalls& file_calls) noexcept;

  /// As Errand.
  bool take_back() noexcept;
  void send_again() noexcept;

  /// It went out of line, since the pool is gone.
  bool refused() const noexcept { return state() == State::kRefused; }

  /// True if it was sent by this process, and not by one that has forked it:
  /// threads are not forked.
  bool of_this_process() const noexcept;

  Mailbox& mailbox() const noexcept { return *mailbox_; }
  const char* text_of_state() const noexcept;

 private:
  friend class OffloadPool::Line;
  enum class State : std::uint8_t { kIdle, kQueued, kBegun, kRefused };

  State state() const noexcept {
    return state_.load(std::memory_order_relaxed);
  }
  void set_state(State state) noexcept {
    state_.store(state, std::memory_order_relaxed);
  }

  /// What it is all about. On a thread of the pool.
  virtual void work() noexcept = 0;

  /// Nobody waits for it any more: it is to destroy itself. On that thread.
  virtual void left() noexcept {}

  OffloadPool::Line* line_;      // lives while this is in it
  Mailbox* mailbox_ = nullptr;   // lives until this is back, or is left
  sys::Calls* calls_ = nullptr;  // the same
  sys::FileCalls* file_calls_ = nullptr;
  unsigned forks_ = 0;                       // see of_this_process()
  std::atomic<State> state_ = State::kIdle;  // changes under the line's mutex
};

namespace internal {
/// Throws: what kept a call from being made, if anything did.
void check_offload(int error, bool refused);
}  // namespace internal

/// A wait for a call that uses the frames in which it lies.
class OffloadWait : public Event, public Errand, public PoolCall {
 public:
  using Event::job;

  bool attempt() noexcept override;

  /// Blocks the thread while the call runs: for what cannot wait, such as the
  /// end of a loop or of a group's scope.
  void undo() noexcept override;

  void describe(Description& out) const override;

  // As of PartEvent, for a limit: a call that runs is waited for.
  bool give_up(std::string_view) noexcept {
    return given_up_ = !waits_ || take_back();
  }
  bool given_up() const noexcept { return given_up_; }

  // For a kill.
  bool withdraw() noexcept override { return take_back(); }
  void send_again() noexcept override { PoolCall::send_again(); }

 protected:
  explicit OffloadWait(OffloadPool& pool) noexcept : PoolCall(pool) {}
  OffloadWait(OffloadWait&& other) noexcept
      : Event(std::move(other)), PoolCall(std::move(other)) {}
  ~OffloadWait() = default;

  /// Throws: what kept the call from being made, if anything did.
  void check() const { internal::check_offload(error_, refused()); }

 private:
  bool waits_ = false;  // it is sent, and not back
  bool given_up_ = false;
};

namespace internal {

/// Calls it on the other thread. What cannot be called there is told of it
/// once, and yields nothing.
template <class F, class... Args>
decltype(auto) call_there(F& function, Args&... arguments) {
  constexpr bool kCallable = requires { function(arguments...); };
  static_assert(kCallable,
                "violet: offload(f) calls f() on another thread, and this "
                "cannot be called so");
  if constexpr (kCallable) {
    constexpr bool kTask = is_task<decltype(function(arguments...))>;
    static_assert(!kTask,
                  "violet: offload takes a plain function that may block; a "
                  "task is awaited, and runs on the loop");
    if constexpr (!kTask) return function(arguments...);
  }
}

}  // namespace internal

template <class F>
class [[nodiscard]] OffloadEvent final : public OffloadWait {
 public:
  using Value = decltype(internal::call_there(std::declval<F&>()));

  OffloadEvent(OffloadPool& pool, F&& function)
      : OffloadWait(pool), function_(std::forward<F>(function)) {}
  OffloadEvent(OffloadEvent&& other) noexcept(
      std::is_nothrow_constructible_v<F, F&&>)
      : OffloadWait(std::move(other)),
        function_(std::forward<F>(other.function_)) {}

  Value result() {
    check();
    return outcome_.take();
  }

 private:
  void work() noexcept override {
    outcome_.keep(
        [this]() -> Value { return internal::call_there(function_); });
  }

  F function_;  // the caller's, if it has a name
  internal::Outcome<Value> outcome_;
};

/// A call on the heap, which owns all that it uses: of the job that waits for
/// it, until that lets it go.
class HeapCall : public PoolCall {
 public:
  virtual ~HeapCall() = default;

  /// As Event::attempt, with a place for an error.
  bool attempt(Stack& waiting, int& error) noexcept;
  void describe(Description& out) const;
  using PoolCall::refused;

  /// Nobody waits any more. If it runs, it destroys itself in the end.
  struct LetGo {
    void operator()(HeapCall* call) const noexcept { call->let_go(); }
  };

 protected:
  HeapCall(OffloadPool& pool, const Loop& loop) noexcept
      : PoolCall(pool), mailbox_(loop.mailbox()) {}

 private:
  void let_go() noexcept;
  void left() noexcept override { delete this; }

  std::shared_ptr<Mailbox> mailbox_;  // this may outlive the loop
  bool away_ = false;                 // it is sent, and not back
};
template <class Made>
using HeldCall = Owned<Made, HeapCall::LetGo>;

/// See offload(abandon, ...).
struct Abandon {
  explicit Abandon() noexcept {}
};
inline const Abandon abandon{};

namespace internal {

/// See offload(abandon, ...).
template <class F, class... Args>
class AbandonedCall final : public HeapCall {
 public:
  using Value =
      decltype(call_there(std::declval<F&>(), std::declval<Args&>()...));

  template <class G, class... As>
  explicit AbandonedCall(OffloadPool& pool, G&& function, As&&... arguments)
      : HeapCall(pool, Loop::current()),
        function_(std::forward<G>(function)),
        arguments_(std::forward<As>(arguments)...) {}

  Outcome<Value> outcome;

 private:
  void work() noexcept override {
    const auto call = [this](auto&... arguments) -> Value {
      return call_there(function_, arguments...);
    };
    outcome.keep([&]() -> Value { return std::apply(call, arguments_); });
  }

  [[no_unique_address]] F function_;
  [[no_unique_address]] std::tuple<Args...> arguments_;
};

}  // namespace internal

/// A wait for a call that can be left behind.
template <class F, class... Args>
class [[nodiscard]] AbandonEvent final : public Event {
  using Made = internal::AbandonedCall<F, Args...>;

 public:
  using Value = typename Made::Value;

  explicit AbandonEvent(HeldCall<Made> call) noexcept
      : call_(std::move(call)) {}
  AbandonEvent(AbandonEvent&& other) noexcept
      : Event(std::move(other)), call_(std::move(other.call_)) {}

  bool attempt() noexcept override { return call_->attempt(*job(), error_); }
  void undo() noexcept override { call_.reset(); }
  void describe(Description& out) const override { call_->describe(out); }

  Value result() {
    internal::check_offload(error_, call_->refused());
    return call_->outcome.take();
  }

 private:
  HeldCall<Made> call_;  // null once the wait is undone
};

namespace internal {

// What a closure without a name is told, in one place.
template <class F>
constexpr bool check_captures() noexcept {
  static_assert(survives_co_await<F>(),
                "violet: on this compiler a capturing lambda must have a name "
                "before it goes into offload: g++ 12 destroys its captures "
                "twice");
  return true;
}

}  // namespace internal

/// Calls `function()` on a thread of `pool`. It may use whatever lives in the
/// frames of the job that waits, and must not use what belongs to the loop: no
/// co_await, no job, channel or Connection.
/// Suspends: until it has returned.
/// Returns: what it returns. Throws: what it throws; std::system_error if
/// there is no thread for it, and none can be made.
/// Kill: before it has begun, it never runs. While it runs, kills and limits
/// wait for it as for a shield. What cannot wait (the end of a group's scope,
/// the end of a Loop, a second Ctrl-C) blocks the thread until it has ended.
/// Lifetime: a function that has a name is not copied.
/// Cost: no allocation; two switches of threads, some 10 us.
template <class F>
OffloadEvent<F> offload(OffloadPool& pool, F&& function) {
  static_assert(internal::check_captures<F&&>());
  return OffloadEvent<F>(pool, std::forward<F>(function));
}

/// The same on the pool that all share.
template <class F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, Abandon>)
OffloadEvent<F> offload(F&& function) {
  return offload(OffloadPool::standard(), std::forward<F>(function));
}

/// Calls `function(arguments...)` on a thread of `pool`, and does not wait for
/// its end if the job is killed or its time is up: then it is left behind, and
/// what it returns or throws is destroyed on that thread. So it must own all
/// that it uses: function and arguments are copied or moved, and it may refer
/// to nothing that ever ends.
/// Suspends, Returns, Throws: as above.
/// Kill: at once. Before the call has begun, it never runs.
/// Cost: one allocation.
template <class F, class... Args>
auto offload(Abandon, OffloadPool& pool, F&& function, Args&&... arguments) {
  static_assert(internal::check_captures<F&&>());
  static_assert((!internal::is_view<std::decay_t<Args>> && ...),
                "violet: a call that may be left behind owns what it uses: "
                "pass the owner (a std::string, a std::vector), not a view");
  using Made = internal::AbandonedCall<std::decay_t<F>, std::decay_t<Args>...>;
  return AbandonEvent<std::decay_t<F>, std::decay_t<Args>...>(
      HeldCall<Made>(new Made(pool, std::forward<F>(function),
                              std::forward<Args>(arguments)...)));
}
template <class F, class... Args>
  requires(!std::is_same_v<std::remove_cvref_t<F>, OffloadPool>)
auto offload(Abandon how, F&& function, Args&&... arguments) {
  return offload(how, OffloadPool::standard(), std::forward<F>(function),
                 std::forward<Args>(arguments)...);
}

}  // namespace violet
