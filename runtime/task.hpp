// task.hpp - call and return: the coroutine type.
//
// The idea: Task<T> is a function call that can be put aside in the middle.
// `co_await child()` calls: it pushes the child's frame onto the stack of the
// running job and goes back to the scheduler, which resumes the new top.
// `co_return` returns: it pops, and the caller takes value or exception.
//
// Refused: symmetric transfer, in which one coroutine resumes the next. g++
// makes it a tail call only with optimization and without sanitizers, so deep
// calls would overflow the native stack; a trip through the scheduler's loop
// costs about a nanosecond and never does.
//
// A task is lazy: nothing of its body runs before it is awaited or spawned.
// An event (event.hpp) is what a task can wait for besides another task; both
// are told apart in await_transform below.
//
// Built on: frames. Looks up once: Await, to be defined in event.hpp.
// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>
#include <coroutine>
#include <exception>
#include <optional>
#include <source_location>
#include <string_view>
#include <type_traits>
#include <utility>

#include "frames.hpp"

namespace violet {

template <class E>
class Await;
template <class T>
class Task;

namespace internal {

template <class T>
inline constexpr bool is_task = false;
template <class T>
inline constexpr bool is_task<Task<T>> = true;

template <class...>
inline constexpr bool is_never = false;

template <class F>
constexpr bool is_closure() noexcept {
  return std::string_view(__PRETTY_FUNCTION__).find("lambda") !=
         std::string_view::npos;
}

/// g++ before 13 destroys twice what a closure has captured if the closure is
/// written inside a co_await expression (PR 100611); so it must have a name.
template <class F>
constexpr bool survives_co_await() noexcept {
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
  using Plain = std::remove_cvref_t<F>;
  return std::is_lvalue_reference_v<F> || !std::is_class_v<Plain> ||
         std::is_trivially_destructible_v<Plain> ||
         !(is_closure<Plain>() || std::is_aggregate_v<Plain>);
#else
  return true;
#endif
}

/// True for what there is an Await of: events, and little else.
template <class E>
concept CanBeAwaited = requires { sizeof(Await<E>); };

/// The end of a body: control goes to the caller, the result stays here until
/// the caller fetches it.
struct Return {
  bool await_ready() const noexcept { return false; }
  template <class P>
  void await_suspend(std::coroutine_handle<P> self) const noexcept {
    Frame* caller = self.promise().caller;
    if (caller == nullptr) {
      running->step = Step::kReturned;  // the job's end; its root stays on top
      return;
    }
    running->top = caller;
    running->step = Step::kSwitched;
  }
  void await_resume() const noexcept {}
};

/// A call: from `co_await child()` to the value that it returns.
///
/// Ownership: between the two, the child belongs to the stack. A kill
/// destroys it from there, before this frame, so nothing is left to do here.
template <class T>
class Call {
 public:
  using Handle = std::coroutine_handle<typename Task<T>::promise_type>;

  explicit Call(Handle child) noexcept : child_(child) {}

  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<>) const noexcept {
    Frame& child = child_.promise();
    child.caller = running->top;
    running->top = &child;
    running->step = Step::kSwitched;
  }
  T await_resume() const {
    const Destroyed at_end(child_);
    auto& child = child_.promise();
    // A failure is reported with the innermost line: it replaces ours, which
    // this exception has made history.
    if (child.error && child.line) [[unlikely]] {
      running->top->line = child.line;
    }
    return child.take();
  }

 private:
  struct Destroyed {
    explicit Destroyed(Handle frame) noexcept : frame_(frame) {}
    Destroyed(const Destroyed&) = delete;
    ~Destroyed() { frame_.destroy(); }
    Handle frame_;
  };

  Handle child_;
};

/// What the promises of all tasks share.
struct TaskPromise : Frame {
  std::exception_ptr error;

  std::suspend_always initial_suspend() const noexcept { return {}; }
  Return final_suspend() const noexcept { return {}; }
  void unhandled_exception() noexcept { error = std::current_exception(); }

  /// A call of another task.
  template <class U>
  Call<U> await_transform(Task<U>&& child,
                          Line here = __builtin_source_location()) noexcept {
    line = here;
    return Call<U>(child.release());
  }

  /// A wait for an event, which lives in this frame meanwhile.
  template <CanBeAwaited E>
  Await<E> await_transform(E&& event,
                           Line here = __builtin_source_location()) noexcept {
    line = here;
    return Await<E>(event);
  }

  // The usual mistakes. Each declaration is such that the compiler has as
  // little as possible to add to the sentence.

  template <class U>
  Call<U> await_transform(Task<U>& task, Line = {}) noexcept {
    return await_transform(std::as_const(task));
  }
  template <class U>
  Call<U> await_transform(const Task<U>&, Line = {}) noexcept {
    static_assert(is_never<U>,
                  "violet: a task is awaited once, as it is called: write "
                  "co_await f(x), or co_await std::move(task)");
    return Call<U>({});
  }

  template <CanBeAwaited E>
  Await<E> await_transform(E& event, Line = {}) noexcept {
    static_assert(is_never<E>,
                  "violet: an event is awaited once, where it is made: write "
                  "co_await conn.recv(), or co_await std::move(event)");
    return Await<E>(event);
  }

  template <class Other>
  std::suspend_never await_transform(Other&&, Line = {}) noexcept {
    static_assert(
        is_never<Other>,
        "violet: only a Task or an event can be awaited here, such as "
        "f(x), sleep(1s) or join(job); a plain function is called "
        "without co_await");
    return {};
  }
};

template <class T>
struct Promise : TaskPromise {
  std::optional<T> value;

  Task<T> get_return_object() noexcept;
  template <class U = T>
    requires std::convertible_to<U&&, T>
  void return_value(U&& result) {
    value.emplace(std::forward<U>(result));
  }
  /// The result, once. Throws: what the body threw.
  T take() {
    if (error) std::rethrow_exception(std::move(error));
    return std::move(*value);
  }
};

template <class T>
struct Promise<T&> : TaskPromise {
  T* value = nullptr;

  Task<T&> get_return_object() noexcept;
  void return_value(T& result) noexcept { value = &result; }
  T& take() {
    if (error) std::rethrow_exception(std::move(error));
    return *value;
  }
};

template <>
struct Promise<void> : TaskPromise {
  Task<void> get_return_object() noexcept;
  void return_void() const noexcept {}
  void take() {
    if (error) std::rethrow_exception(std::move(error));
  }
};

}  // namespace internal

/// A function that can wait. Calling it makes a frame and runs nothing;
/// `co_await f(x)` runs it to its end, `spawn(f, x)` makes it a job.
///
/// Lifetime: arguments taken by reference must outlive the task. With
/// `co_await f(x)` they do; for a job, spawn keeps the arguments itself.
template <class T = void>
class [[nodiscard(
    "a task does nothing until it is awaited: co_await it, or "
    "spawn its function")]] Task {
 public:
  using promise_type = internal::Promise<T>;
  using Value = T;

  Task(Task&& other) noexcept : frame_(other.release()) {}
  Task(const Task&) = delete;  // it runs once: std::move(task), or call f again
  Task& operator=(const Task&) = delete;  // the same: std::move(task)
  Task& operator=(Task&& other) noexcept {
    if (this != &other) {
      destroy();
      frame_ = other.release();
    }
    return *this;
  }
  ~Task() { destroy(); }

  /// Gives the frame away. Returns: its handle, now the caller's to destroy.
  std::coroutine_handle<promise_type> release() noexcept {
    return std::exchange(frame_, nullptr);
  }

 private:
  friend promise_type;
  explicit Task(promise_type& promise) noexcept
      : frame_(std::coroutine_handle<promise_type>::from_promise(promise)) {
    static_assert(alignof(promise_type) <= FramePool::kStepBytes,
                  "violet: a task cannot return an over-aligned type");
  }

  void destroy() noexcept {
    if (frame_) frame_.destroy();
  }

  std::coroutine_handle<promise_type> frame_;
};

template <class T>
Task<T> internal::Promise<T>::get_return_object() noexcept {
  return Task<T>(*this);
}

template <class T>
Task<T&> internal::Promise<T&>::get_return_object() noexcept {
  return Task<T&>(*this);
}

inline Task<void> internal::Promise<void>::get_return_object() noexcept {
  return Task<void>(*this);
}

}  // namespace violet
