// generator.hpp - a body that hands values to its caller, and takes some.
//
// The idea: `co_yield value` gives the processor back to whoever called
// next() or send(), with a value for it, and goes on at the next such call
// with the value that was sent. No scheduler takes part: the caller resumes
// the body directly, inside its own step, so a generator costs a call each
// way and works without a loop.
//
//   Generator<int> count(int end) {
//     for (int i = 0; i < end; ++i) co_yield i;
//   }
//   for (const int i : count(3)) ...
//
// Refused: co_await in the body. It would have to park the job around it,
// which is in the middle of an ordinary call. Who wants to wait yields to its
// caller, who can.
//
// Built on: error, frames.
// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>
#include <coroutine>
#include <cstddef>
#include <exception>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include "error.hpp"
#include "frames.hpp"

namespace violet {

template <class Out, class In = void>
class Generator;

namespace internal {

/// g++ before 13 destroys an aggregate twice if it is written inside a
/// co_yield expression (PR 107288); so it must have a name.
template <class T>
constexpr bool survives_co_yield() noexcept {
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
  return std::is_lvalue_reference_v<T> || std::is_trivially_destructible_v<T> ||
         !std::is_aggregate_v<T>;
#else
  return true;
#endif
}

/// One yield: from giving a value out to the value that is sent back.
template <class In>
class Yield {
 public:
  explicit Yield(std::add_pointer_t<In>& sent) noexcept : sent_(sent) {}

  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<>) const noexcept {}
  In await_resume() const {
    if constexpr (!std::is_void_v<In>) return static_cast<In&&>(*sent_);
  }

 private:
  std::add_pointer_t<In>& sent_;  // the promise's, set by each send()
};

/// Values pass through without a stop in the frame: what is yielded is made
/// in the caller's optional, what is sent is moved from the caller's argument.
template <class Out, class In>
struct GeneratorPromise {
  // Both are the caller's, and of meaning while the body runs.
  std::optional<Out>* out = nullptr;
  std::add_pointer_t<In> sent = nullptr;

  std::exception_ptr error;
  bool started = false;
  bool runs = false;

  static void* operator new(std::size_t bytes) {
    return Frame::operator new(bytes);
  }
  static void operator delete(void* memory, std::size_t bytes) noexcept {
    Frame::operator delete(memory, bytes);
  }

  Generator<Out, In> get_return_object() noexcept;
  std::suspend_always initial_suspend() const noexcept { return {}; }
  std::suspend_always final_suspend() const noexcept { return {}; }
  void return_void() const noexcept {}
  void unhandled_exception() noexcept { error = std::current_exception(); }

  template <class U = Out>
    requires std::convertible_to<U&&, Out>
  Yield<In> yield_value(U&& value) {
    static_assert(survives_co_yield<U>(),
                  "violet: on this compiler an aggregate must have a name "
                  "before it is yielded: Pair pair{..}; co_yield pair;");
    out->emplace(std::forward<U>(value));
    return Yield<In>(sent);
  }

  template <class T>
  std::suspend_never await_transform(T&&) {
    static_assert(!std::is_same_v<T, T>,  // never
                  "violet: a generator cannot wait: co_yield to the caller, "
                  "who can, or make it a Task");
    return {};
  }
};

}  // namespace internal

/// A suspended body that yields values of type Out, and at each yield
/// receives an In. Calling its function runs nothing of it.
///
/// The body runs inside next() and send(). What it throws comes out of them,
/// and the generator is then over, as after its end.
///
/// Lifetime: arguments taken by reference must outlive the generator. It may
/// move anywhere, but ends in the thread in which it was made.
template <class Out, class In>
class [[nodiscard(
    "a generator does nothing until next() is called")]] Generator {
  static_assert(!std::is_reference_v<Out>,
                "violet: a generator yields values; to hand out what lives "
                "elsewhere, yield a pointer");

 public:
  using promise_type = internal::GeneratorPromise<Out, In>;

  Generator(Generator&& other) noexcept : frame_(other.take_frame()) {}
  Generator& operator=(Generator&& other) noexcept {
    if (this != &other) {
      destroy(take_frame());
      frame_ = other.take_frame();
    }
    return *this;
  }
  ~Generator() { destroy(take_frame()); }

  /// Runs the body to its next yield. A body that is sent values is begun
  /// with this, and is then sent one for each of its yields.
  /// Returns: what it yields; empty at its end.
  /// Throws: what the body throws; Misuse if it is over, or running, or waits
  /// for a value.
  std::optional<Out> next() {
    check_usable();
    if (!std::is_void_v<In> && frame_.promise().started) {
      throw_error(
          Misuse("violet: next() of a generator that waits for a value: send a "
                 "value with send(value)"));
    }
    std::optional<Out> out;
    resume(out, nullptr);
    return out;
  }

  /// Has the yield that the body stands at return `value`, and runs it to the
  /// next. Otherwise as next().
  /// Throws: also Misuse before the first next(): nothing would take the
  /// value.
  template <class Value = In>
    requires(!std::is_void_v<In> && std::convertible_to<Value &&, In>)
  std::optional<Out> send(Value&& value) {
    check_usable();
    if (!frame_.promise().started) {
      throw_error(Misuse(
          "violet: send() to a generator that has not begun: no yield would "
          "take the value; call next() first"));
    }
    In sent = std::forward<Value>(value);
    std::optional<Out> out;
    resume(out, std::addressof(sent));
    return out;
  }

  /// Ends the body where it stands: its destructors run, nothing else of it.
  /// Without effect on one that is over.
  /// Throws: Misuse from within the body.
  void close() {
    check_not_running();
    destroy(take_frame());
  }

  /// True once the body has ended, thrown or been closed, or was moved away.
  bool done() const noexcept { return frame_ == nullptr; }

  /// The end of a range-for.
  struct End {};

  /// Runs the body step by step, and keeps what it yields.
  class Iterator {
   public:
    using value_type = Out;
    using difference_type = std::ptrdiff_t;

    explicit Iterator(Generator& generator) : generator_(&generator) {
      ++*this;
    }
    Iterator(Iterator&&) noexcept = default;
    Iterator& operator=(Iterator&&) noexcept = default;

    Out& operator*() const noexcept { return *value_; }
    Iterator& operator++() {
      generator_->check_usable();
      value_.reset();
      generator_->resume(value_, nullptr);
      return *this;
    }
    void operator++(int) { ++*this; }
    bool operator==(End) const noexcept { return !value_.has_value(); }

   private:
    Generator* generator_;
    mutable std::optional<Out> value_;  // whose values may be moved out
  };

  /// Begins, or goes on where next() has left off: a generator runs once.
  Iterator begin()
    requires std::is_void_v<In>
  {
    return Iterator(*this);
  }
  End end() const noexcept { return End(); }

 private:
  friend promise_type;
  using Handle = std::coroutine_handle<promise_type>;

  explicit Generator(promise_type& promise) noexcept
      : frame_(Handle::from_promise(promise)) {
    static_assert(alignof(promise_type) <= FramePool::kStepBytes,
                  "violet: a generator cannot yield an over-aligned type");
  }

  /// Runs the body; `out`, which is empty, stays so if the body ends.
  void resume(std::optional<Out>& out, std::add_pointer_t<In> sent) {
    promise_type& promise = frame_.promise();
    promise.out = &out;
    promise.sent = sent;
    promise.started = promise.runs = true;
    frame_.resume();
    promise.runs = false;
    if (frame_.done()) {
      const std::exception_ptr error = std::move(promise.error);
      destroy(take_frame());
      if (error) std::rethrow_exception(error);
    } else if (!out) {
      fatal(
          "a generator gave the processor back without a value: g++ 12 "
          "dropped its body (PR 106188: co_yield in a condition and no local "
          "variable in the whole body; name the result)");
    }
  }

  void check_usable() const {
    check_not_running();
    if (frame_ != nullptr) return;
    throw_error(Misuse(
        "violet: next() or send() of a generator that is over; ask done() "
        "first, or make a new one"));
  }

  void check_not_running() const {
    if (frame_ == nullptr || !frame_.promise().runs) return;
    throw_error(Misuse(
        "violet: a generator is used from within its own body; yield, and "
        "let the caller do it"));
  }

  Handle take_frame() noexcept {
    if (frame_ != nullptr && frame_.promise().runs) {
      fatal("a generator is moved or destroyed from within its own body");
    }
    return std::exchange(frame_, nullptr);
  }

  static void destroy(Handle frame) noexcept {
    if (frame != nullptr) frame.destroy();
  }

  Handle frame_;  // null once it is over
};

template <class Out, class In>
Generator<Out, In>
internal::GeneratorPromise<Out, In>::get_return_object() noexcept {
  return Generator<Out, In>(*this);
}

}  // namespace violet
