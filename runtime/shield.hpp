// shield.hpp - work that a kill must not cut: shield and finally.
//
// The idea: a kill is destruction, so a destructor is the place to clean up.
// Two things it cannot do: go on, and wait. shield() holds kills back until a
// task has ended. finally() runs a task last, whatever happened: after a
// return or an exception in its place, after a kill as a job of its own,
// since by then the frames that it would return to are gone.
//
// A shield is a count: how many there are in a job and in all that lives in
// its frames. Whoever kills a job looks at its count alone.
//
// Built on: outcome, within.
// SPDX-License-Identifier: MIT
#pragma once

#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>

#include "outcome.hpp"
#include "within.hpp"

namespace violet {

/// While one of these lives, kills of the job in which it was made, and of
/// those that hold that job, wait until it next waits afterwards.
class Shielded {
 public:
  /// Throws: Misuse outside a job.
  Shielded();
  Shielded(const Shielded&) = delete;
  ~Shielded();

 private:
  JobBlock* job_;  // this lies in its frames
};

/// Runs a task that whatever would destroy its frames has to wait for: kills
/// of its job and of those that hold it, and limits begun outside. What is
/// begun inside it, a limit or a kill of a job of its own, acts as always.
/// What cannot wait does not: the end of a group's scope, the end of a Loop,
/// a second Ctrl-C.
/// Returns: what the task returns. Throws: what it throws.
/// Kill: once it is over, at the job's next wait.
template <class T>
Task<T> shield(Task<T> task) {
  const Shielded shielded;
  co_return co_await std::move(task);
}

/// How long a cleanup may take after a kill.
inline constexpr Duration kCleanupLimit = std::chrono::seconds(5);

namespace internal {

/// What `co_await into(outcome, operand)` awaits; the operand outlives it.
template <class T, class Operand>
class Into {
 public:
  Into(Outcome<T>& to, Operand& what) noexcept : outcome(to), operand(what) {}
  Outcome<T>& outcome;
  Operand& operand;
};

/// Awaits a task or an event into `outcome`; never throws. It stands for a
/// `try` around co_await, which would need exceptions.
template <class T, class Operand>
Into<T, Operand> into(Outcome<T>& outcome, Operand&& operand) noexcept {
  return Into<T, Operand>(outcome, operand);
}

}  // namespace internal

template <class T, class Operand>
class Await<internal::Into<T, Operand>> {
 public:
  explicit Await(internal::Into<T, Operand>& into) noexcept
      : outcome_(into.outcome), awaiter_(awaiter_of(into.operand)) {}
  bool await_ready() noexcept { return awaiter_.await_ready(); }
  void await_suspend(std::coroutine_handle<> self) const noexcept {
    awaiter_.await_suspend(self);
  }
  void await_resume() noexcept {
    outcome_.keep(
        [this]() -> decltype(auto) { return awaiter_.await_resume(); });
  }

 private:
  template <class U>
  static internal::Call<U> awaiter_of(Task<U>& task) noexcept {
    return internal::Call<U>(task.release());
  }
  template <class E>
  static Await<E> awaiter_of(E& event) noexcept {
    return Await<E>(event);
  }

  internal::Outcome<T>& outcome_;
  decltype(awaiter_of(std::declval<Operand&>())) awaiter_;
};

namespace internal {

/// The same as a task.
template <class T>
Task<> keep(Outcome<T>& outcome, Task<T> task) {
  co_await into(outcome, std::move(task));
}

/// A call that waits for its time, and the job that it is after a kill. The
/// job and the frame of the call are made beforehand: a kill cannot fail for
/// want of memory.
template <class F, class... Args>
class LastJob final : public TypedJob<void> {
 public:
  LastJob(JobBlock& job, Duration limit, F&& function, Args&&... arguments)
      : limit_(limit),
        cleanup_(std::in_place, job),
        kept_(std::in_place, std::move(function),
              std::tuple<Args...>(std::move(arguments)...)),
        call_(std::apply(kept_->first, std::move(kept_->second))),
        run_(run()) {}

  /// The call, to be awaited in place.
  Task<> call() noexcept { return std::move(call_); }

  /// The job that it was made for is being killed.
  void begin(Loop& loop) noexcept {
    loop.admit(*this, loop.own_group(), {});
    cleanup_->begin(*this);
  }

 private:
  // Nobody could be told of what it throws: those whose job this was are
  // gone, and it must not end what goes on.
  Task<> run() {
    Outcome<bool> ended;
    co_await into(ended, within(limit_, std::move(call_)));
    if (ended.error) {
      complain_with(
          [&] { return concat({"a cleanup failed: ", text_of(ended.error)}); });
    } else if (!ended.take()) {
      complain("a cleanup took too long and was killed");
    }
  }

  Frame* enter() override { return &run_.release().promise(); }
  void forget_arguments() noexcept override {
    drop(run_);
    drop(call_);
    kept_.reset();
    cleanup_.reset();
  }
  static void drop(Task<>& task) noexcept {
    const Task<> dropped = std::move(task);
  }

  Duration limit_;
  std::optional<Cleanup> cleanup_;
  std::optional<std::pair<F, std::tuple<Args...>>> kept_;
  Task<> call_;  // of what is kept
  Task<> run_;
};

/// Owns a last call until it is made, in whatever way.
template <class F, class... Args>
class LastCall {
 public:
  LastCall(Duration limit, F&& function, Args&&... arguments)
      : loop_(Loop::current()),
        job_(new LastJob<F, Args...>(*loop_.current_job(), limit,
                                     std::move(function),
                                     std::move(arguments)...)) {}
  LastCall(const LastCall&) = delete;
  ~LastCall() {
    if (due_) {
      job_->begin(loop_);  // only a kill comes here while it is due
    } else {
      job_->JobBlock::drop();
    }
  }

  /// From now on the call must be made.
  void arm() noexcept { due_ = true; }

  /// Makes the call in place. Its result goes to `outcome`.
  Task<> in_place(Outcome<void>& outcome) {
    const Shielded shielded;
    due_ = false;
    co_await into(outcome, job_->call());
  }

 private:
  Loop& loop_;
  LastJob<F, Args...>* job_;  // counted; the loop's after begin()
  bool due_ = false;
};

template <class T, class F, class... Args>
Task<T> finally_in(Duration limit, Task<T> body, F function,
                   Args... arguments) {
  LastCall<F, Args...> last(limit, std::move(function),
                            std::move(arguments)...);
  Outcome<T> outcome;
  Outcome<void> cleanup;
  Task<> first = keep(outcome, std::move(body));  // all memory is had now
  Task<> second = last.in_place(cleanup);
  last.arm();
  co_await std::move(first);
  co_await std::move(second);
  if (outcome.error && cleanup.error) {
    complain_with([&] {
      return concat(
          {"a cleanup failed after its task had: ", text_of(cleanup.error)});
    });
  }
  if (!outcome.error) cleanup.take();
  co_return outcome.take();
}

}  // namespace internal

/// Runs `body`, and then `function(arguments...)`, a task that cleans up. It
/// runs in every case: after a return or an exception in place and shielded,
/// after a kill as a job of the loop's own group, for five seconds at most.
/// Then join() and `co_await kill()` of the job that was killed, and join()
/// of its group, wait for it too.
///
/// The function is called at the beginning, and what it returns runs then.
/// Function and arguments are kept: after a kill all else is gone, so they own
/// what they need, or refer to what outlives the job.
///
/// Returns: what the body returns. Throws: what it throws, else what the
/// cleanup throws; if both throw, or after a kill, the cleanup's is a line on
/// stderr, and so is the end of one that took too long.
/// Kill: before the first step of `finally` itself, nothing runs. What cannot
/// wait (see shield) cuts a cleanup that runs in place.
template <class T, class F, class... Args>
Task<T> finally(Task<T> body, F function, Args... arguments) {
  return internal::finally_in(kCleanupLimit, std::move(body),
                              std::move(function), std::move(arguments)...);
}

/// The same with a limit of one's own for the cleanup after a kill.
template <class T, class F, class... Args>
Task<T> finally(Duration limit, Task<T> body, F function, Args... arguments) {
  return internal::finally_in(limit, std::move(body), std::move(function),
                              std::move(arguments)...);
}

}  // namespace violet
