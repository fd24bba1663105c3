// signals.hpp - how Ctrl-C, SIGTERM and SIGUSR1 reach the loops.
//
// The idea: a handler may do next to nothing, so it counts the signal and
// wakes every loop that listens. Each loop then acts on its own thread. The
// first SIGINT or SIGTERM is a request: it completes stopping(), or, where
// nobody would notice, unwinds. The second unwinds everything at once, and a
// second later the process exits whatever it is doing. SIGUSR1 (SIGINFO too,
// where there is one) has every loop write its dump to stderr.
//
// Built on: scheduler. See: signal-safety(7).
// SPDX-License-Identifier: MIT
#pragma once

#include "scheduler.hpp"

namespace violet {

/// While one of these lives, signals are counted. The first one in the process
/// installs the handlers, the last one restores what was there before.
class SignalHandlers {
 public:
  SignalHandlers() noexcept;
  SignalHandlers(const SignalHandlers&) = delete;
  SignalHandlers& operator=(const SignalHandlers&) = delete;
  ~SignalHandlers();
};

/// While it lives, its loop acts on signals. One for each thread.
class SignalListener {
 public:
  /// Throws: Misuse for a second one on this thread, and beyond 256 of them.
  explicit SignalListener(Loop& loop);
  SignalListener(const SignalListener&) = delete;
  SignalListener& operator=(const SignalListener&) = delete;
  ~SignalListener();

 private:
  static void act(Loop& loop) noexcept;

  SignalHandlers handlers_;
  Loop& loop_;  // outlives this
  std::size_t place_ = 0;
  int requests_seen_ = 0;
  int dumps_seen_ = 0;
};

/// The signal that unwinds this process; 0 if none does.
int unwinding_signal() noexcept;

}  // namespace violet
