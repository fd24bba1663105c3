// timers.cpp - the four-way heap.
// SPDX-License-Identifier: MIT
#include "timers.hpp"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "event.hpp"
#include "sys.hpp"

namespace violet {

TimePoint after(TimePoint start, Duration duration) noexcept {
  if (duration > kNever - start) return kNever;
  return start + std::max(duration, Duration::zero());
}

bool Timers::before(const Entry& a, const Entry& b) noexcept {
  if (a.deadline != b.deadline) return a.deadline < b.deadline;
  return a.timer->sequence_ < b.timer->sequence_;
}

Timers::~Timers() {
  std::free(heap_);
}

bool Timers::start(Timer& timer, TimePoint deadline, Stack& job) noexcept {
  if (size_ == capacity_ && !grow()) return false;
  timer.deadline_ = deadline;
  timer.sequence_ = started_++;
  timer.job_ = &job;
  sift_up(size_++, Entry{deadline, &timer});
  return true;
}

void Timers::stop(Timer& timer) noexcept {
  if (!timer.active()) return;
  const std::uint32_t hole = timer.place_;
  timer.place_ = Timer::kNowhere;
  const Entry last = heap_[--size_];
  if (hole == size_) return;
  // The last entry fills the hole, and may belong above it or below it.
  if (hole > 0 && before(last, heap_[(hole - 1) / 4])) {
    sift_up(hole, last);
  } else {
    sift_down(hole, last);
  }
}

void Timers::fire(TimePoint now) noexcept {
  while (size_ > 0 && heap_[0].deadline <= now) {
    Timer& due = *heap_[0].timer;
    stop(due);
    wake(*due.job_);
  }
}

bool Timers::grow() noexcept {
  const std::uint32_t capacity = std::max<std::uint32_t>(16, capacity_ * 2);
  void* memory = sys::calls->allocate(capacity * sizeof(Entry));
  if (memory == nullptr) return false;
  Entry* before = std::exchange(heap_, static_cast<Entry*>(memory));
  std::copy_n(before, size_, heap_);
  std::free(before);
  capacity_ = capacity;
  return true;
}

void Timers::put(std::uint32_t place, const Entry& entry) noexcept {
  heap_[place] = entry;
  entry.timer->place_ = place;
}

void Timers::sift_up(std::uint32_t place, const Entry& entry) noexcept {
  while (place > 0) {
    const std::uint32_t parent = (place - 1) / 4;
    if (!before(entry, heap_[parent])) break;
    put(place, heap_[parent]);
    place = parent;
  }
  put(place, entry);
}

void Timers::sift_down(std::uint32_t place, const Entry& entry) noexcept {
  for (;;) {
    const std::uint32_t first = place * 4 + 1;
    if (first >= size_) break;
    const std::uint32_t end = std::min(first + 4, size_);
    std::uint32_t least = first;
    for (std::uint32_t child = first + 1; child < end; ++child) {
      if (before(heap_[child], heap_[least])) least = child;
    }
    if (!before(heap_[least], entry)) break;
    put(place, heap_[least]);
    place = least;
  }
  put(place, entry);
}

}  // namespace violet
