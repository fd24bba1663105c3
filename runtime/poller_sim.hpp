// poller_sim.hpp - a poller whose clock a test owns.
//
// The idea: when every job waits, nothing can happen before the next timer,
// so time may as well be then. A program that retries for an hour is tested
// in a millisecond, always in the same order. Descriptors are real and go to
// the system's poller, which is asked before each jump.
//
// Built on: poller.
// SPDX-License-Identifier: MIT
#pragma once

#include <utility>

#include "owned.hpp"
#include "poller.hpp"

namespace violet {

/// Virtual time over the system's own poller:
///
///     SimPoller time;
///     LoopOptions options;
///     options.poller = &time;
///     Loop loop(options);
///
/// While another thread may wake the loop, time flows at its natural pace
/// instead of jumping. Signals come between two jumps.
class SimPoller final : public Poller {
 public:
  SimPoller();

  TimePoint now() noexcept override { return now_; }
  int add(int fd, Token token, std::uint8_t bits) noexcept override;
  int change(int fd, Token token, std::uint8_t bits) noexcept override;
  void remove(int fd) noexcept override;
  void closing(int fd) noexcept override { real_->closing(fd); }
  std::span<const Ready> wait(TimePoint deadline,
                              bool wake_expected) noexcept override;
  bool hopeless() const noexcept override { return !watches_; }
  void wake() noexcept override { real_->wake(); }
  int fd() noexcept override { return real_->fd(); }

  /// Waits in real time, for at most `patience`, while this clock stands.
  /// Returns: as wait().
  std::span<const Ready> look(Duration patience) noexcept;

  /// Lets time pass, as a long computation would.
  void advance(Duration duration) noexcept { now_ = after(now_, duration); }

 private:
  std::span<const Ready> wait_really(TimePoint deadline) noexcept;

  Owned<Poller> real_;
  TimePoint now_{std::chrono::hours(1)};
  bool watches_ = false;  // some real descriptor was ever added
};

}  // namespace violet
