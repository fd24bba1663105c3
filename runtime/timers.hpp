// timers.hpp - deadlines in a heap.
//
// The idea: a four-way heap in one array, in which every timer knows its own
// place, so that it can leave from anywhere. Four children to a node make the
// tree half as deep as two and lie in one or two cache lines. The array holds
// the deadlines beside the pointers, so that sifting seldom touches a timer.
//
// Order: (deadline, sequence), so equal deadlines fire in the order in which
// they were started. Refused: a wheel, which is faster beyond 10 000 timers
// but coarse and does not keep the order within a tick.
//
// Built on: frames. See: Larkin, Sen, Tarjan, "A back-to-basics empirical
// study of priority queues" (2014).
// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

#include "frames.hpp"

namespace violet {

using Clock = std::chrono::steady_clock;
using TimePoint = Clock::time_point;
using Duration = std::chrono::nanoseconds;

/// The moment that never comes.
inline constexpr TimePoint kNever = TimePoint::max();

/// `start + duration`, and kNever where that does not fit.
TimePoint after(TimePoint start, Duration duration) noexcept;

/// How long it is from `now` to `deadline`; zero if that has passed.
inline Duration time_left(TimePoint deadline, TimePoint now) noexcept {
  return deadline <= now ? Duration::zero() : deadline - now;
}

/// One deadline. Wakes a job when it has passed.
class Timer {
 public:
  Timer() noexcept {}
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  bool active() const noexcept { return place_ != kNowhere; }
  TimePoint deadline() const noexcept { return deadline_; }

 private:
  friend class Timers;
  static constexpr std::uint32_t kNowhere = ~std::uint32_t{0};

  TimePoint deadline_ = {};
  std::uint64_t sequence_ = 0;
  Stack* job_ = nullptr;            // outlives the timer, which it holds
  std::uint32_t place_ = kNowhere;  // index in the heap
};

/// All timers of one loop. Owns none of them.
class Timers {
 public:
  Timers() noexcept {}
  Timers(const Timers&) = delete;
  Timers& operator=(const Timers&) = delete;
  ~Timers();

  /// Starts an inactive timer. Returns: false if there is no memory.
  /// Lifetime: the timer is stopped, or has fired, before it dies.
  /// Cost: O(log n), memory only when the heap grows.
  bool start(Timer& timer, TimePoint deadline, Stack& job) noexcept;

  /// Stops a timer; an inactive one stays so. Cost: O(log n).
  void stop(Timer& timer) noexcept;

  /// Takes out every timer whose deadline is not after `now`, in order, and
  /// wakes its job.
  void fire(TimePoint now) noexcept;

  /// The earliest deadline, kNever if there is none.
  TimePoint next() const noexcept {
    return size_ == 0 ? kNever : heap_[0].deadline;
  }

  bool empty() const noexcept { return size_ == 0; }
  std::size_t size() const noexcept { return size_; }

 private:
  struct Entry {
    TimePoint deadline;
    Timer* timer;
  };

  static bool before(const Entry& a, const Entry& b) noexcept;

  bool grow() noexcept;
  void put(std::uint32_t place, const Entry& entry) noexcept;
  void sift_up(std::uint32_t place, const Entry& entry) noexcept;
  void sift_down(std::uint32_t place, const Entry& entry) noexcept;

  // heap_[i] is not before heap_[(i - 1) / 4]; heap_[i].timer->place_ == i.
  Entry* heap_ = nullptr;
  std::uint32_t size_ = 0;
  std::uint32_t capacity_ = 0;
  std::uint64_t started_ = 0;
};

}  // namespace violet
