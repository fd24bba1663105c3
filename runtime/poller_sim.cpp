// poller_sim.cpp - when time may jump.
// SPDX-License-Identifier: MIT
#include "poller_sim.hpp"

#include <algorithm>

namespace violet {

namespace {

using namespace std::chrono_literals;

// Loopback delivers within microseconds, but not always within the call that
// sends: what may be on its way gets this much real time before a jump.
constexpr Duration kInFlight = 1ms;
constexpr int kLooks = 5;

}  // namespace

SimPoller::SimPoller() : real_(make_poller().release()) {}

int SimPoller::add(int fd, Token token, std::uint8_t bits) noexcept {
  watches_ = true;
  return real_->add(fd, token, bits);
}

int SimPoller::change(int fd, Token token, std::uint8_t bits) noexcept {
  return real_->change(fd, token, bits);
}

void SimPoller::remove(int fd) noexcept {
  real_->remove(fd);
}

std::span<const Ready> SimPoller::wait(TimePoint deadline,
                                       bool wake_expected) noexcept {
  const auto ready = wait_really(TimePoint::min());
  if (!ready.empty() || woken_ || deadline <= now_) return ready;
  if (deadline == kNever) return wait_really(kNever);

  const TimePoint start = Clock::now();
  const Duration left = deadline - now_;
  if (wake_expected) {
    const auto later = wait_really(after(start, left));
    now_ = std::min(deadline, now_ + (Clock::now() - start));
    return later;
  }
  // A busy system is late with us, too: then it gets more of that time.
  bool busy = watches_;
  for (int looks = 0; busy && looks < kLooks; ++looks) {
    const TimePoint begin = Clock::now();
    const auto late = wait_really(after(begin, std::min(left, kInFlight)));
    if (!late.empty() || woken_) return late;
    busy = Clock::now() - begin > 2 * kInFlight;
  }
  now_ = deadline;
  return {};
}

std::span<const Ready> SimPoller::look(Duration patience) noexcept {
  const TimePoint end = after(Clock::now(), patience);
  auto ready = wait_really(end);
  while (ready.empty() && !woken_ && Clock::now() < end) {
    ready = wait_really(end);  // a signal came
  }
  return ready;
}

std::span<const Ready> SimPoller::wait_really(TimePoint deadline) noexcept {
  const auto ready = real_->wait(deadline, true);
  woken_ = real_->woken() || woken_;
  return ready;
}

}  // namespace violet
