// signals.hpp - how signals reach the loops, and the manners of programs.
//
// The idea: a handler may do next to nothing, so it counts the signal and
// wakes every loop that listens. Each loop then acts on its own thread, by
// comparing the counts with those that it knows. So no signal is lost,
// however many arrive at once.
//
// The manners of a program (SignalListener): the first SIGINT or SIGTERM is a
// request: it completes stopping(), or, where nobody would notice, unwinds.
// The second unwinds everything at once, and a second later the process exits
// whatever it is doing. SIGUSR1 (SIGINFO too, where there is one) has every
// loop write its dump to stderr. A program that listens to one of these with
// a Signals of its own (signal_events.hpp) takes it over.
//
// Built on: scheduler. See: signal-safety(7).
// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <string>

#include "scheduler.hpp"

namespace violet {

/// "SIGTERM"; "signal 40" for one that has no name here.
std::string signal_name(int number);

/// While one of these lives, signals have the manners of a program. The first
/// one in the process installs the handlers, the last one restores what was
/// there before.
class SignalHandlers {
 public:
  SignalHandlers() noexcept;
  SignalHandlers(const SignalHandlers&) = delete;
  SignalHandlers& operator=(const SignalHandlers&) = delete;
  ~SignalHandlers();
};

/// While it lives, its loop acts on signals. One for each thread.
class SignalListener final : private WakeHearer {
 public:
  /// Throws: Misuse for a second one on this thread, and beyond 256 loops.
  explicit SignalListener(Loop& loop);
  SignalListener(const SignalListener&) = delete;
  SignalListener& operator=(const SignalListener&) = delete;
  ~SignalListener();

 private:
  static void act(WakeHearer& self) noexcept;
  static bool is_awaited(WakeHearer& self) noexcept;

  SignalHandlers handlers_;
  Loop& loop_;  // outlives this
  int requests_seen_ = 0;
  int dumps_seen_ = 0;
};

/// The signal that unwinds this process; 0 if none does.
int unwinding_signal() noexcept;

namespace internal {

/// Has signals of this number counted, and no manners apply to them, until
/// leave_signal() is called as often. Any thread may call these.
/// Returns: 0 or an error number.
int take_signal(int number) noexcept;
void leave_signal(int number) noexcept;

/// How many of them have come since it was first taken; it wraps around.
std::uint32_t arrivals(int number) noexcept;

/// Has every signal that is counted wake `loop`, which tells `hearer`, until
/// stop_hearing() with the same. Returns: false beyond 256 loops.
bool begin_hearing(Loop& loop, WakeHearer& hearer) noexcept;
void stop_hearing(Loop& loop, WakeHearer& hearer) noexcept;

}  // namespace internal

}  // namespace violet
