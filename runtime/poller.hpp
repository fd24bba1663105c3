// poller.hpp - the operating system, as far as waiting goes.
//
// The idea: one small interface asks what becomes ready and what time it is,
// and nobody else waits. Each system has its own file behind it, and `sim`
// (poller_sim.hpp) puts a clock there that a test controls.
//
// Readiness is edge-triggered: a descriptor is announced when it becomes
// ready, not for as long as it stays so. Whoever acts on it goes on until the
// system says EAGAIN; see slots.hpp.
//
// Built on: timers, for the type of a moment.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "timers.hpp"

namespace violet {

/// What can be ready, as bits. The first and the last have the numbers that
/// epoll(7) uses, which spares it a translation.
enum ReadyBits : std::uint8_t {
  kReadable = 1,
  /// The stream has ended, failed, or holds an urgent byte: from now on only
  /// EAGAIN tells that it is drained. Never taken back.
  kEnded = 2,
  kWritable = 4,
  /// It is not watched any more, since the system refused it late: whoever
  /// waits must ask for it anew, and is told why.
  kRefused = 16,
  // 8 and 32 are for marks of the slot's own; see slots.hpp.
};

/// Names a registration: which slot, and which of its lives. A late event of
/// a closed descriptor is told from one of its successor by the generation.
struct Token {
  std::uint32_t index;
  std::uint32_t generation;
};

/// A descriptor that became ready.
struct Ready {
  Token token;
  std::uint8_t bits;
};

class Poller {
 public:
  virtual ~Poller() = default;

  /// The time now, read afresh. Never goes back.
  virtual TimePoint now() noexcept = 0;

  /// The same for less, but up to some milliseconds late.
  virtual TimePoint rough_now() noexcept { return now(); }

  /// Begins to announce `bits` of a descriptor, and whatever of them is
  /// ready already. Returns: 0 or an error number; EPERM if the descriptor
  /// is of a kind that is always ready, EEXIST if it is announced already.
  virtual int add(int fd, Token token, std::uint8_t bits) noexcept = 0;

  /// Changes the bits, and announces anew what is ready of them.
  /// Returns: 0 or an error number.
  virtual int change(int fd, Token token, std::uint8_t bits) noexcept = 0;

  /// Forgets a descriptor. Closing one does the same, unless it has been
  /// duplicated.
  virtual void remove(int fd) noexcept = 0;

  /// A descriptor is about to be closed: what is still to be said about its
  /// number to the system must not be said any more.
  virtual void closing(int fd) noexcept { static_cast<void>(fd); }

  /// Waits until something is ready, `deadline` has passed, or wake() was
  /// called. A deadline in the past only looks. What is left until a deadline
  /// is rounded up, so that a coarse clock does not end the wait early.
  /// `wake_expected` says that a wake() from outside is to be reckoned with, so
  /// that a clock of the poller's own must not run ahead.
  /// Returns: what became ready; valid until the next wait.
  virtual std::span<const Ready> wait(TimePoint deadline,
                                      bool wake_expected) noexcept = 0;

  /// True if a wait without end would never end by itself: nothing that is
  /// watched can become ready any more. Only a simulation knows that.
  virtual bool hopeless() const noexcept { return false; }

  /// Ends the wait under way, or the next one. May be called from any thread
  /// and from a signal handler.
  virtual void wake() noexcept = 0;

  /// True once after each wait that a wake() ended.
  bool woken() noexcept { return std::exchange(woken_, false); }

  /// A descriptor that is readable when wait() has something to return, for
  /// a foreign loop to poll.
  virtual int fd() noexcept = 0;

 protected:
  bool woken_ = false;  // set by wait()
};

/// The poller of this system. Throws: std::system_error.
std::unique_ptr<Poller> make_poller();

}  // namespace violet
