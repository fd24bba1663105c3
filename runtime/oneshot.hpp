// oneshot.hpp - a value, or an exception, that arrives once.
//
// The idea: this is the bridge from code that knows nothing of jobs. A job
// waits; somebody else holds a setter, a function object that can be given
// away as a callback, kept for as long as anybody likes, and called when the
// answer is there. The two sides share one block of memory that lives as long
// as either, so a callback that comes too late finds nobody and does no harm.
//
// Only one setter sets, and one atomic flag decides which; so that holds for
// other threads, too. All else belongs to the loop's thread. A setter for
// other threads puts the value into a letter and posts that to the loop. The
// letter is allocated beforehand, so that a setter never needs memory.
//
// Built on: remote, scheduler.
// SPDX-License-Identifier: MIT
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include "error.hpp"
#include "event.hpp"
#include "remote.hpp"
#include "scheduler.hpp"

namespace violet {

/// What a oneshot shares with its setters, except for the value.
class OneshotCore {
 public:
  OneshotCore() noexcept {}
  OneshotCore(const OneshotCore&) = delete;
  OneshotCore& operator=(const OneshotCore&) = delete;

  // For any thread.

  /// Returns: true to the first who asks, who then must let something arrive.
  bool decide() noexcept { return !decided_.exchange(true); }

  void add_setter() noexcept { setters_.fetch_add(1); }

  /// Returns: true if that was the last one.
  bool remove_setter() noexcept { return setters_.fetch_sub(1) == 1; }

  // For the loop's thread.

  /// The two duties of the event that waits. `state` is its own.
  bool attempt(Event& event, std::uint32_t& state) noexcept;
  void undo(Event& event) noexcept;

  /// Throws: what `state` says, if it is a failure.
  static void check(std::uint32_t state);
  [[noreturn]] static void throw_lost();

 protected:
  ~OneshotCore() = default;

  void arrived() noexcept;
  void taken() noexcept { phase_ = Phase::kTaken; }
  void abandon() noexcept;
  bool abandoned() const noexcept { return phase_ == Phase::kAbandoned; }

 private:
  enum class Phase : std::uint8_t {
    kOpen,
    kArrived,
    kTaken,      // and gone
    kAbandoned,  // the Oneshot is gone: nobody can receive any more
  };

  // For any thread. Decided once somebody has set it, or never can.
  std::atomic<bool> decided_ = false;
  std::atomic<int> setters_ = 0;

  // For the loop's thread. The waiter stays until its next step, so that a
  // value that has arrived is not taken by somebody else.
  Phase phase_ = Phase::kOpen;
  Event* waiter_ = nullptr;
};

namespace internal {

/// What arrives: a value, an exception, or the news that neither ever will.
template <class T>
struct Arrival {
  struct Nothing {};
  using Value = std::conditional_t<std::is_void_v<T>, Nothing, T>;

  Arrival() noexcept {}

  /// Takes over what another one, which was sent, has brought.
  void become(Arrival& other) noexcept {
    if (other.value) value.emplace(std::move(*other.value));
    error = std::move(other.error);
  }

  std::optional<Value> value;
  std::exception_ptr error;
};

template <class T>
class OneshotState;

/// What crosses from another thread: at most one for each oneshot.
template <class T>
class Letter final : public Post {
 public:
  void run() override {
    to->arrive([this](Arrival<T>& there) { there.become(arrival); });
  }

  Arrival<T> arrival;
  std::shared_ptr<OneshotState<T>> to;  // set when it is sent
};

template <class T>
class OneshotState final : public OneshotCore {
 public:
  ~OneshotState() { delete letter_.load(); }

  /// `fill(Arrival&)` puts in what has arrived.
  template <class Fill>
  void arrive(Fill fill) noexcept {
    if (abandoned()) return;
    fill(arrival_);
    arrived();
  }

  /// What has arrived, once. Throws: that, or Closed if it is nothing.
  T take() {
    if (!arrival_.value && !arrival_.error) throw_lost();
    taken();
    if (arrival_.error) std::rethrow_exception(std::move(arrival_.error));
    if constexpr (!std::is_void_v<T>) {
      T value(std::move(*arrival_.value));
      arrival_.value.reset();
      return value;
    }
  }

  void abandon() noexcept {
    OneshotCore::abandon();
    arrival_.value.reset();
    arrival_.error = nullptr;
  }

  /// Throws: std::bad_alloc.
  void prepare_letter() {
    if (letter_.load() == nullptr) letter_.store(new Letter<T>());
  }

  /// For whoever has decided.
  std::unique_ptr<Letter<T>> letter() noexcept {
    return std::unique_ptr<Letter<T>>(letter_.exchange(nullptr));
  }

 private:
  Arrival<T> arrival_;  // of the loop's thread
  std::atomic<Letter<T>*> letter_ = nullptr;
};

/// How a setter on the loop's own thread delivers: by hand.
class ByHand {
 public:
  template <class T, class Fill>
  bool deliver(const std::shared_ptr<OneshotState<T>>& state,
               Fill fill) const noexcept {
    state->arrive(fill);
    return true;
  }
};

/// How one on any thread does: by a post to the loop.
class ByPost {
 public:
  explicit ByPost(const Loop& loop) noexcept
      : mailbox_(loop.mailbox()), remote_(loop.remote()) {}

  template <class T, class Fill>
  bool deliver(const std::shared_ptr<OneshotState<T>>& state,
               Fill fill) const noexcept {
    std::unique_ptr<Letter<T>> letter = state->letter();
    fill(letter->arrival);
    letter->to = state;
    if (!mailbox_->put(*letter)) return false;
    letter.release();
    return true;
  }

 private:
  std::shared_ptr<Mailbox> mailbox_;
  Remote remote_;  // keeps the loop from counting as deadlocked
};

}  // namespace internal

/// Completes a oneshot, as a callback does. Copyable; may outlive the job, its
/// loop and the oneshot. See Oneshot::setter and remote_setter.
template <class T, class Way>
class OneshotSetter {
  using State = internal::OneshotState<T>;
  using Arrival = internal::Arrival<T>;

 public:
  OneshotSetter(std::shared_ptr<State> state, Way way) noexcept
      : state_(std::move(state)), way_(std::move(way)) {
    state_->add_setter();
  }
  OneshotSetter(const OneshotSetter& other) noexcept
      : OneshotSetter(other.state_, other.way_) {}
  OneshotSetter& operator=(const OneshotSetter& other) noexcept {
    OneshotSetter copy(other);
    std::swap(state_, copy.state_);
    std::swap(way_, copy.way_);
    return *this;
  }
  ~OneshotSetter() {
    if (state_->remove_setter()) settle([](Arrival&) {});
  }

  /// Sets the value. Returns: false if that comes too late: somebody has set
  /// already, or nobody can receive any more.
  bool operator()(typename Arrival::Value value) const noexcept
    requires(!std::is_void_v<T>)
  {
    return settle([&](Arrival& to) { to.value.emplace(std::move(value)); });
  }
  bool operator()() const noexcept
    requires std::is_void_v<T>
  {
    return settle([](Arrival& to) { to.value.emplace(); });
  }

  /// The same with an exception, which get() then throws.
  /// Throws: Misuse if there is none.
  bool fail(std::exception_ptr error) const {
    if (error == nullptr) {
      throw_error(
          Misuse("violet: fail() without an exception: give it "
                 "std::current_exception() or std::make_exception_ptr(..)"));
    }
    return settle([&](Arrival& to) { to.error = std::move(error); });
  }

 private:
  template <class Fill>
  bool settle(Fill fill) const noexcept {
    return state_->decide() && way_.deliver(state_, fill);
  }

  std::shared_ptr<State> state_;
  Way way_;
};

template <class T>
class [[nodiscard]] OneshotEvent final : public Event {
 public:
  explicit OneshotEvent(
      std::shared_ptr<internal::OneshotState<T>> state) noexcept
      : state_(std::move(state)) {}
  OneshotEvent(OneshotEvent&& other) noexcept
      : Event(std::move(other)), state_(std::move(other.state_)) {}

  bool attempt() noexcept override { return state_->attempt(*this, word_); }
  void undo() noexcept override { state_->undo(*this); }
  void describe(Description& out) const override { out.text = "oneshot"; }
  T result() {
    OneshotCore::check(word_);
    return state_->take();
  }

 private:
  std::shared_ptr<internal::OneshotState<T>> state_;
};

/// A value that reaches one job, once: from a callback, a job or a thread.
///
///     Oneshot<int> answer;
///     ask(question, answer.setter());
///     const int value = co_await answer.get();
///
/// Lifetime: belongs to the thread that made it. One that is destroyed while
/// a job waits gives it Misuse.
/// Cost: one allocation; two with remote_setter().
template <class T = void>
class Oneshot {
  static_assert(std::is_void_v<T> || (std::is_object_v<T> &&
                                      std::is_nothrow_move_constructible_v<T>),
                "violet: what a oneshot brings is moved, and that must not "
                "fail: mark its move constructor noexcept, or bring "
                "std::unique_ptr<T>");

 public:
  using Setter = OneshotSetter<T, internal::ByHand>;
  using RemoteSetter = OneshotSetter<T, internal::ByPost>;

  Oneshot() : state_(std::make_shared<internal::OneshotState<T>>()) {}
  Oneshot(const Oneshot&) = delete;
  Oneshot& operator=(const Oneshot&) = delete;
  ~Oneshot() { state_->abandon(); }

  /// Waits for what a setter brings, and takes it.
  /// Suspends: until one has set.
  /// Returns: the value.
  /// Throws: the exception that was set; Closed if the last setter has gone
  /// without setting; Misuse if another job waits, or it was taken before.
  /// Kill: what has arrived stays for a later get().
  OneshotEvent<T> get() noexcept { return OneshotEvent<T>(state_); }

  /// A setter for callbacks on this thread.
  Setter setter() noexcept { return Setter(state_, internal::ByHand()); }

  /// A setter that any thread may call, copy and destroy. It works through
  /// the loop that runs now, which does not count as deadlocked meanwhile;
  /// once that is gone it sets nothing.
  /// Throws: Misuse outside a loop; std::bad_alloc.
  RemoteSetter remote_setter() {
    const internal::ByPost way(Loop::current());
    state_->prepare_letter();
    return RemoteSetter(state_, way);
  }

 private:
  std::shared_ptr<internal::OneshotState<T>> state_;
};

}  // namespace violet
